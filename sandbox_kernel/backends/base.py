"""The contract between a session and whatever isolates it.

A `Backend` makes sandboxes; a `Sandbox` is one running guest. Read this file,
then one backend beside it, and you can write the next.

Rule 1: no I/O here, and no import from `session`, `kernel`, `ai` or a backend.
Rule 2: what comes out of a guest is `bytes`. Only `frames` gives it meaning.
Rule 3: a backend that cannot enforce every `Limits` field refuses in `check()`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import Limits


class Mount(NamedTuple):
    """A place in the guest that the owner of a kernel gave it (backends with images only).

    Args:
        guest_path: absolute.
        host_path: a directory of the host; None: an empty tmpfs.
        is_writable: whether the guest may change what is there; a tmpfs always is.
        size_bytes: of a tmpfs.
    """

    guest_path: str
    host_path: str | None = None
    is_writable: bool = False
    size_bytes: int = 0


# Where every guest that may have packages sees the layers: read-only, and not to be listed.
LAYERS = "/opt/sandbox-kernel/layers"


class Layer(NamedTuple):
    """Installed packages that a guest can be shown: of one ecosystem, for one set of requests.

    Args:
        name: random; a guest that was not told it cannot find the layer.
        guest_path: below `LAYERS`.
        requirements: what was asked for, as texts.
        packages: what is in it: name and version of each.
        size_bytes: of all its files.
    """

    name: str
    ecosystem: str
    guest_path: str
    requirements: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    size_bytes: int = 0


class SandboxSpec(NamedTuple):
    """Everything a backend needs to know to make one sandbox.

    Args:
        language: a name from the language registry.
        limits: enforced in full, or the backend refuses.
        network: "none"; other values belong to backends that announce them.
        python: absolute path of the interpreter whose environment the guest gets
            (bubblewrap; None: the one this process runs on).
        image: name of an image (backends with images only; None: the language's own).
        runtime: name of the runtime that runs containers; None: the engine's default.
        mounts: directories that the guest gets besides its own.
        environment: variables named by the kernelspec or the caller; nothing of the
            host's own environment is added.
        home_files: paths in the guest's home -> host files of ours to copy there
            (see `seeds`).
        search_path: guest directories that come before all others in PATH.
        shows_layers: whether the guest sees the layers of packages at `LAYERS`. What it is
            told of them is in `environment` and `search_path` (see `dependencies.layers`).
    """

    language: str = "python"
    limits: Limits = Limits()
    network: str = "none"
    python: str | None = None
    image: str | None = None
    runtime: str | None = None
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})
    home_files: Mapping[str, str] = MappingProxyType({})
    search_path: tuple[str, ...] = ()
    shows_layers: bool = True


class Check(NamedTuple):
    """Whether a backend works here, found by trying."""

    backend: str
    is_usable: bool
    boundary: str  # one line for a reader: what stands between guest and host
    reason: str  # why it was chosen or what is wrong, whole sentences
    remedy: str  # what to do when it is not usable, else ""
    details: dict[str, str]  # name of a finding -> finding, for `doctor`


class Death(NamedTuple):
    """Why a sandbox is gone, as far as the host can tell."""

    cause: str  # "closed", "memory", "exited", "killed", "failed to start"
    detail: str  # whole sentences; holds the guest's last words only cleaned


class Usage(NamedTuple):
    """What the host measured of one sandbox; None where it cannot."""

    cpu_s: float | None
    memory_bytes: int | None
    peak_memory_bytes: int | None
    memory_kills: int | None  # processes that the kernel killed for the memory limit


class Sandbox(ABC):
    """One guest, cut off from the host and from every other guest.

    Made by `Backend.launch`, which returns before the guest runs: `receive` ends and
    `death` says why when it never does.
    """

    id: str  # unguessable, also the label of everything made for it
    boundary: str
    # True: nothing outside counts the guest's memory, so its supervisor must.
    needs_memory_watch: bool = False

    @abstractmethod
    def greet(self, data: bytes) -> None:
        """Leave the first bytes for the guest to read when it comes up; at most 32 KiB.

        Needs no event loop, so that a guest can start while its host still imports.
        """

    @abstractmethod
    def receive(self) -> AsyncIterator[bytes]:
        """Yield chunks as the guest writes them, of any size, until it exits. One reader."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of `data`, waiting while the guest doesn't read.

        Raises:
            SandboxDied: the guest is gone.
        """

    @abstractmethod
    async def measure(self) -> Usage:
        """What it uses now. Never raises; a dead sandbox gives what was last known."""

    async def update(self, *, memory_bytes: int | None = None, cpus: float | None = None) -> None:
        """Change limits of the running sandbox; None leaves one as it is.

        Raises:
            SettingsError: this backend cannot, or the value is beyond the machine.
        """
        raise SettingsError(
            "The limits of a running sandbox cannot be changed with this backend. "
            "Give them when the session is made."
        )

    @abstractmethod
    def kill(self) -> None:
        """End every process inside at once. Safe to call twice; never raises."""

    @abstractmethod
    async def close(self) -> None:
        """Destroy the guest and all it wrote. Safe to call twice; never raises."""

    @abstractmethod
    async def death(self) -> Death:
        """Wait until it is gone, then say why."""


class LayerStore(ABC):
    """Where a backend keeps layers: directories that all of its guests see, and none writes.

    It moves directories; which layer is what, and who uses it, `dependencies.store` knows.
    Methods may block: they are called in threads.

    Rule 1: a name is taken as given, and was made by `dependencies.store`.
    Rule 2: what a guest sees cannot be listed or written to, whoever the guest is outside.
    """

    @abstractmethod
    def place(self) -> str:
        """Which store this is: the same text for as long as what was put there is there.

        Raises:
            BackendUnavailable: it cannot be reached now.
        """

    @abstractmethod
    def built_for(self, spec: SandboxSpec, ecosystem: str) -> Mapping[str, str]:
        """What binaries in a layer depend on, besides the packages themselves.

        Raises:
            BackendUnavailable, SettingsError: the spec names what is not there.
        """

    @abstractmethod
    def program_path(self, spec: SandboxSpec) -> str:
        """PATH in a guest of `spec` that has no layers.

        Raises:
            BackendUnavailable, SettingsError: the spec names what is not there.
        """

    @abstractmethod
    def guest_path(self, name: str) -> str:
        """Where guests see the layer called `name`."""

    @abstractmethod
    def put(self, directory: str, name: str, spec: SandboxSpec) -> None:
        """Make `directory` (checked plain files; it may be moved) the layer `name`.

        Raises:
            BackendUnavailable, DependencyFailed: it could not be.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Remove the layer, or what is there of it; nothing if nothing is.

        Raises:
            BackendUnavailable, DependencyFailed: it could not be, and may still be there.
        """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether the layer is there, as far as can be told without starting anything."""


class Backend(ABC):
    """One technology that isolates."""

    name: ClassVar[str]

    @abstractmethod
    def check(self) -> Check:
        """Try to isolate something harmless, and say what was found. May take a second."""

    @abstractmethod
    def launch(self, spec: SandboxSpec) -> Sandbox:
        """Start a guest and return at once; needs no running event loop.

        The guest's supervisor reads a CONFIGURE frame first, which the session gives to
        `Sandbox.greet`.

        Raises:
            BackendUnavailable: it is plain without waiting that this cannot work.
            SettingsError: the spec asks for what this backend does not have.
        """

    @abstractmethod
    def collect_garbage(self) -> list[str]:
        """Remove what dead owners left behind; a line for each thing removed."""

    def layer_store(self) -> LayerStore | None:
        """Where it keeps layers of packages; None: its guests get none."""
        return None
