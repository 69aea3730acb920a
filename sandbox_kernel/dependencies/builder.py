"""Installs packages in a sandbox of their own, and brings home a directory of plain files.

A builder is a sandbox like any other: same backend, image and interpreter, no network, nobody's
files, no variables. It has another runner (`guest/runners/installer`), which takes the place of
the package index for installers inside; what they ask for comes over the one stream to the
`relay` here. So what a package's build script can reach is decided by one function of ours.

Rule 1: whatever happens — failure, a lie, cancellation — the builder is gone afterwards and
`directory` holds a whole layer or nothing.
Rule 2: what comes out is believed to be bytes: `receiver` makes files of them, `relay` knows
which files the index gave.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_kernel import backends, events
from sandbox_kernel.backends.base import Backend, SandboxSpec
from sandbox_kernel.dependencies import failures, indexes
from sandbox_kernel.dependencies.indexes import Index
from sandbox_kernel.dependencies.receiver import Bounds, LayerRefused, Received, Receiver
from sandbox_kernel.dependencies.relay import Relay
from sandbox_kernel.dependencies.requirements import Requirement
from sandbox_kernel.dependencies.sayings import Sayings
from sandbox_kernel.dependencies.transfer import Resolved, Transfer
from sandbox_kernel.errors import DependencyFailed, RequestRefused, SandboxDied
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.limits import GIB, MIB, Limits
from sandbox_kernel.outputs import OutputPolicy, StreamCleaner, clean_text
from sandbox_kernel.provision import provision
from sandbox_kernel.session import causes
from sandbox_kernel.session.files import Files
from sandbox_kernel.session.guest import Guest

BUILD_LIMITS = Limits(
    # Files count as memory on some backends; compilers of C++ take half a GiB each.
    memory_bytes=4 * GIB,
    # The archives and what is in them, for as long as both are there.
    workspace_bytes=4 * GIB,
    # npm's cache and tree of a large application.
    workspace_inodes=400_000,
    output_bytes=2 * MIB,
    artifacts=0,  # nobody looks at the files that an installer leaves about
    timeout_s=900.0,  # pandas and its numpy, compiled on two CPUs
)
# In a network of the builder's own, in which nobody else listens.
PORT = 8321
_RUNNER = ("{python}", "-I", "{guest}/runners/installer/__main__.py")
_START_TIMEOUT_S = 60.0
_TAIL_CHARACTERS = 16_000
_OUTPUT_BYTES = 64 * MIB  # where the limit is none
# `--report` came with pip 22.2, hashes of all files in it with 23.1.
_OLDEST_PIP = (23, 1)
_INPUTS = ".installer"


class BuildRecord(NamedTuple):
    """What was installed.

    Args:
        resolved: packages, as the installer says; hashes are of files that the index gave.
        digest: of the layer, all paths, modes and contents.
    """

    resolved: list[Resolved]
    size_bytes: int
    files: int
    digest: str
    wall_s: float


async def build(
    backend: Backend,
    spec: SandboxSpec,
    ecosystem: str,
    requirements: Sequence[Requirement],
    directory: Path,
    *,
    on_output: Callable[[str], None],
    limits: Limits = BUILD_LIMITS,
) -> BuildRecord:
    """Install `requirements` for sandboxes of `spec` into `directory`, which is made or empty.

    Args:
        on_output: hears what the installer prints, as it comes, safe for a terminal.
        limits: of the builder; its wall time is for all of it.

    Raises:
        DependencyFailed: and why, with the installer's last lines; `directory` is empty.
        BackendUnavailable, SettingsError: no builder could be started at all.
    """
    started_s = time.monotonic()
    index = await asyncio.to_thread(
        indexes.read,
        ecosystem,
        prefix=os.path.dirname(os.path.dirname(spec.python or sys.executable)),
        is_host_shown=backends.shows_host(backend.name),
    )
    builder = _Builder(backend, _spec_for(spec, _fitted(limits)), index, on_output)
    try:
        async with asyncio.timeout(limits.timeout_s):
            resolved, received = await builder.run(requirements, directory)
    except TimeoutError:
        raise builder.failure(failures.too_slow(limits)) from None
    except SandboxDied as error:
        raise builder.failure(await builder.explain_death(error)) from None
    except LayerRefused as error:
        raise builder.failure(f"What was installed cannot be taken over: {error}") from None
    except RequestRefused as error:
        raise builder.failure(f"The builder did not do what it was asked: {error}") from None
    except OSError as error:
        told = f"The files cannot be written to {directory}: {error.strerror}. Make room there."
        raise builder.failure(told) from None
    finally:
        await _surely(builder.close())
    wall_s = time.monotonic() - started_s
    return BuildRecord(resolved, received.size_bytes, received.files, received.digest, wall_s)


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of `work` however often the one who waits is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError


def _spec_for(spec: SandboxSpec, limits: Limits) -> SandboxSpec:
    """The environment of `spec`, and nothing else that its sessions were given."""
    return spec._replace(
        limits=limits,
        network="none",
        mounts=(),
        environment={},
        home_files={},
        search_path=(),
        shows_layers=False,
    )


def _fitted(limits: Limits) -> Limits:
    """On a machine with less memory a builder has less; that is its owner's own machine."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Limits(**{**limits._asdict(), "memory_bytes": min(limits.memory_bytes, machine)})


class _Builder:
    """One sandbox, one installation."""

    def __init__(
        self, backend: Backend, spec: SandboxSpec, index: Index, on_output: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._index = index
        self._on_output = on_output
        self._relay = Relay(index, PORT)
        self._guest = Guest(provision(backend, spec, runner=_RUNNER), self._hear)
        self._transfer = Transfer(self._ask, self._relay, self._end_liar)
        policy = OutputPolicy("safe")
        self._cleaners = {name: StreamCleaner(policy) for name in ("stdout", "stderr")}
        self._sayings = Sayings(PORT)
        self._tail = ""
        self._output_bytes = 0
        self._lie = ""
        self._last_cell = 0
        self._installing = 0
        self._reply: events.Json = {}
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(
        self, requirements: Sequence[Requirement], directory: Path
    ) -> tuple[list[Resolved], Received]:
        """Everything, from the first byte to the layer in `directory`."""
        await self._start()
        await self._send_inputs()
        await self._install(requirements)
        bounds = Bounds(bytes=self._spec.limits.workspace_bytes)
        with Receiver(directory, bounds) as receiver:
            resolved = await self._transfer.receive(receiver)
            return resolved, receiver.finish()

    async def close(self) -> None:
        """End the builder and all requests on their way. Never raises."""
        self._transfer.close()
        await self._guest.close()

    def failure(self, sentence: str) -> DependencyFailed:
        """What to raise: `sentence`, unless we know better, with the installer's last lines."""
        if self._lie:
            sentence = f"The builder was ended, because something in it misbehaved. {self._lie}"
        return DependencyFailed(failures.with_tail(sentence, self._tail))

    async def explain_death(self, error: SandboxDied) -> str:
        """Why the builder, or the installer in it, is gone."""
        usage = await self._guest.sandbox.measure()
        if usage.memory_kills:
            return failures.out_of_memory(self._spec.limits)
        return f"The builder went away: {error}"

    # -- its life

    async def _start(self) -> None:
        self._guest.begin()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._guest.ready()
        except TimeoutError:
            raise SandboxDied("It did not start. Run `sandbox-kernel doctor`.") from None
        if (self._guest.info or {}).get("implementation") != "installer":
            raise DependencyFailed(
                "Packages cannot be installed for this image, because it has no Python 3, which "
                "installing needs. Add Python 3 to the image, or the packages themselves."
            )

    async def _send_inputs(self) -> None:
        files = dict(self._index.files)
        if self._index.ecosystem == "pip" and not _is_usable((self._guest.info or {}).get("pip")):
            files["pip.zip"] = await asyncio.to_thread(_pip_archive)
        store = Files(self._ask, self._spec.limits.workspace_bytes)
        for name, content in files.items():
            await store.write(f"{_INPUTS}/{name}", content)

    async def _install(self, requirements: Sequence[Requirement]) -> None:
        order = {
            "ecosystem": self._index.ecosystem,
            "requirements": [[each.name, each.version_spec, each.text] for each in requirements],
            "port": PORT,
            "settings": self._index.settings,
        }
        self._installing = self._next_cell()
        code = json.dumps(order).encode()
        await self._guest.send(Kind.EXECUTE, self._installing, {"silent": True}, code)
        await self._ended
        self._show(b"", "stdout", is_last=True)
        self._show(b"", "stderr", is_last=True)
        if self._lie or self._reply.get("status") != "ok":
            raise self.failure(await self._explain())

    async def _explain(self) -> str:
        limits = self._spec.limits
        usage = await self._guest.sandbox.measure()
        if usage.memory_kills:
            return failures.out_of_memory(limits)
        reason = self._reply.get("reason")
        return failures.explain(
            clean_text(reason[:1000]) if isinstance(reason, str) else "",
            self._tail,
            index=indexes.without_password(self._index.title),
            problems=self._relay.problems,
            limits=limits,
        )

    # -- what it says

    def _hear(self, batch: list[events.Event]) -> None:
        if not batch:  # the sandbox is gone
            self._end(SandboxDied(self._guest.death.detail if self._guest.death else ""))
        for event in batch:
            self._note(event)

    def _note(self, event: events.Event) -> None:
        match event:
            case events.OutputWritten():
                self._count(len(event.content))
                self._show(event.content, event.stream)
            case events.OutputNoticed() if event.code != "files_omitted":
                self._tell(causes.notice(event))
            case events.CommSent() if not self._lie:
                self._transfer.hear(event)
            case events.Replied() if event.cell == self._installing:
                self._reply = event.content
            case events.CellEnded() if event.cell == self._installing:
                self._end(None)
            case events.RunnerExited():
                self._end(SandboxDied(causes.runner_exited(event)))

    def _count(self, count: int) -> None:
        """The supervisor bounds output; a guest that isn't ours any more would not."""
        self._output_bytes += count
        if self._output_bytes > 4 * (self._spec.limits.output_bytes or _OUTPUT_BYTES):
            self._end_liar("It printed without end.")

    def _show(self, content: bytes, stream: str, *, is_last: bool = False) -> None:
        self._tell(self._cleaners[stream].feed(content, final=is_last), is_last=is_last)

    def _tell(self, text: str, *, is_last: bool = False) -> None:
        text = self._sayings.feed(text, is_last=is_last)
        if text and not self._lie:
            self._tail = (self._tail + text)[-_TAIL_CHARACTERS:]
            self._on_output(text)

    def _end(self, error: SandboxDied | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
            self._ended.exception()  # nobody may be waiting yet, and that is no news

    def _end_liar(self, what: str) -> None:
        self._lie = self._lie or what
        self._guest.sandbox.kill()

    # -- asking

    async def _ask(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> events.Answered | events.Replied:
        return await self._guest.ask(kind, self._next_cell(), meta, data)

    def _next_cell(self) -> int:
        self._last_cell += 1
        return self._last_cell


# --- pip for those who have none --------------------------------------------------------


def _is_usable(version: Any) -> bool:
    parts = version.split(".")[:2] if isinstance(version, str) else []
    return (
        len(parts) == 2
        and all(part.isdecimal() and len(part) < 9 for part in parts)
        and tuple(map(int, parts)) >= _OLDEST_PIP
    )


@lru_cache(maxsize=1)
def _pip_archive() -> bytes:
    """This interpreter's pip, or the one that Python comes with, as an archive.

    Raises:
        DependencyFailed: it has none.
    """
    from importlib import util

    found = util.find_spec("pip")
    if found is not None and found.submodule_search_locations:
        return _zipped(Path(next(iter(found.submodule_search_locations))))
    bundled = util.find_spec("ensurepip")
    if bundled is not None and bundled.origin:
        for wheel in sorted(Path(bundled.origin).parent.glob("_bundled/pip-*.whl")):
            return wheel.read_bytes()
    raise DependencyFailed(
        "There is no pip that could install packages, neither in the sandbox's Python nor in this "
        f"one. Install it with {sys.executable} -m ensurepip, or your system's python3-pip."
    )


def _zipped(package: Path) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                target.write(path, f"{package.name}/{path.relative_to(package)}")
    return archive.getvalue()
