"""`%dependencies a b` lines, and what is there before the first cell.

    declared      what the kernelspec names: there from the start of the sandbox when it was
                  installed before, else installed before the first cell
    the notebook  what its metadata name: before the first cell, if cells may ask for it
    a cell        what its leading `%dependencies` lines name: before the rest of it

Rule 1: the installer's output is one display that is replaced as it grows, apart from what
        the program prints; it is text only, whatever an installer printed.
Rule 2: what the owner declared has to be there: until it is, every cell fails and says why.
        What a notebook asks for and cannot have is said once, and its cells run.
Rule 3: light: a kernel whose notebook asks for no packages imports nothing of theirs.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox_kernel import events
from sandbox_kernel.errors import DependencyRefused, SandboxKernelError

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend, SandboxSpec
    from sandbox_kernel.dependencies.manager import Dependencies
    from sandbox_kernel.dependencies.requirements import Requirement
    from sandbox_kernel.session import SandboxSession
    from sandbox_kernel.settings import Settings

Hear = Callable[[events.Event], None]

SHOWN_LINES = 8
SHOWN_CHARACTERS = 160
# An installer prints faster than anyone reads, and each update is a message.
UPDATE_INTERVAL_S = 0.2


def at_start(
    backend: Backend, spec: SandboxSpec, settings: Settings
) -> tuple[SandboxSpec, Dependencies | None]:
    """The spec with the declared packages, if all were installed before; and who keeps them.

    Raises:
        SettingsError: the declared packages, or those allowed, are none.
    """
    if not settings.declared_dependencies and not settings.allowed_dependencies:
        return spec, None
    made = _make(backend, spec, settings)
    try:
        layers = made.find(made.policy.declared)
    except SandboxKernelError:
        layers = None  # said before the first cell, where the reader is
    if layers is None:
        return spec, made
    made.note_attached(layers)
    return made.applied(spec), made


def _make(backend: Backend, spec: SandboxSpec, settings: Settings) -> Dependencies:
    from sandbox_kernel.dependencies.manager import Dependencies

    return Dependencies.from_settings(backend, spec, settings)


class Packages:
    """What the cells of one kernel ask for.

    Args:
        plain: the spec without any layers.
        made: what `at_start` gave.
    """

    def __init__(
        self,
        session: SandboxSession,
        plain: SandboxSpec,
        settings: Settings,
        made: Dependencies | None,
    ) -> None:
        self._session = session
        self._plain = plain
        self._settings = settings
        self._made = made
        self._has_read_notebook = False

    @property
    def is_due(self) -> bool:
        """Whether `prepare` has something to do."""
        return not self._has_read_notebook or bool(self._missing())

    async def prepare(self, hear: Hear) -> None:
        """Before a cell: what the owner declared, then what the notebook names.

        Raises:
            BackendUnavailable, DependencyFailed: what was declared could not be had.
        """
        missing = self._missing()
        if missing:
            await self._install(missing, hear)
        if not self._has_read_notebook:
            await self._install_for_notebook(hear)
            self._has_read_notebook = True

    async def install(self, line: str, hear: Hear) -> None:
        """Do what a `%dependencies` line (without these words) says.

        Raises:
            DependencyRefused: it names no packages, or some that it may not have.
            BackendUnavailable, DependencyFailed: they could not be had.
        """
        from sandbox_kernel.dependencies.requirements import split

        texts = split(line)
        if not texts:
            self._list(hear)
            return
        await self._install(self._admitted(texts, "This cell"), hear)

    @property
    def packages(self) -> list[tuple[str, str]]:
        """Name and version of all that is attached."""
        layers = self._made.attached if self._made is not None else []
        return [package for layer in layers for package in layer.packages]

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    # -- parts

    def _missing(self) -> list[Requirement]:
        if self._made is None:
            return []
        declared = self._made.policy.declared
        return [] if self._made.attached or not declared else list(declared)

    def _has(self, wanted: list[Requirement]) -> bool:
        """Whether the sandbox has just this from what was declared."""
        made = self._dependencies()
        return bool(made.attached) and set(wanted) <= set(made.policy.declared)

    def _admitted(self, texts: list[str], asker: str) -> list[Requirement]:
        from sandbox_kernel.dependencies.requirements import parse_all

        policy = self._dependencies().policy
        wanted = parse_all(texts, policy.ecosystem)
        policy.admit(wanted, asker=asker)
        return wanted

    def _dependencies(self) -> Dependencies:
        if self._made is None:
            self._made = _make(self._session.backend, self._plain, self._settings)
        return self._made

    async def _install(self, wanted: list[Requirement], hear: Hear) -> None:
        made = self._dependencies()
        progress = Progress(", ".join(item.title for item in wanted), hear)
        try:
            ensured = await made.ensure(wanted, on_output=progress.hear)
            await made.attach(self._session, ensured.layers)
        except BaseException:
            progress.fail()
            raise
        progress.finish(ensured.text)

    async def _install_for_notebook(self, hear: Hear) -> None:
        from sandbox_kernel.dependencies import notebooks

        texts = notebooks.requested(os.environ)
        if not texts:
            return
        try:
            wanted = self._admitted(texts, "The notebook's metadata")
            if not self._has(wanted):
                await self._install(wanted, hear)
        except SandboxKernelError as error:
            text = f"[sandbox] What the notebook's metadata ask for is not there: {error}\n"
            hear(events.TextWritten(0, "stderr", text))

    def _list(self, hear: Hear) -> None:
        """A line alone shows what is attached."""
        layers = self._made.attached if self._made is not None else []
        if not layers:
            raise DependencyRefused(
                "%dependencies needs the names of packages, such as: %dependencies pandas==3.* "
                "plotly. None are installed for this notebook so far."
            )
        lines = [
            f"{layer.ecosystem}: " + ", ".join(f"{name} {version}" for name, version in packages)
            for layer in layers
            if (packages := layer.packages)
        ]
        # Asked for in two ways, a package is in two layers.
        hear(events.TextWritten(0, "stdout", "\n".join(dict.fromkeys(lines)) + "\n"))


class Progress:
    """The installer's last lines, in one display that is replaced.

    Args:
        title: what is being installed.
    """

    def __init__(self, title: str, hear: Hear) -> None:
        self._title = title if len(title) <= 300 else title[:300] + "…"
        self._hear = hear
        self._transient = {"display_id": f"sandbox-dependencies-{os.urandom(8).hex()}"}
        self._is_shown = False
        self._lines: deque[str] = deque(maxlen=SHOWN_LINES)
        self._partial = ""
        self._last_s = 0.0

    def hear(self, text: str) -> None:
        """Some of the installer's output, cut anywhere."""
        *lines, self._partial = (self._partial + text).replace("\r", "\n").split("\n")
        self._partial = self._partial[-SHOWN_CHARACTERS:]
        self._lines.extend(filter(None, map(plain, lines)))
        now_s = time.monotonic()
        if now_s - self._last_s >= UPDATE_INTERVAL_S:
            self._last_s = now_s
            self._show("\n".join([f"Installing {self._title} …", *self._lines]))

    def finish(self, text: str) -> None:
        """Replace everything by one line."""
        self._show(text)

    def fail(self) -> None:
        """As `finish`. The error that follows has the installer's last words."""
        if self._is_shown:
            self._show(f"Nothing was installed of {self._title}.")

    def _show(self, text: str) -> None:
        kind = events.DisplayUpdated if self._is_shown else events.DisplayShown
        self._is_shown = True
        self._hear(kind(0, {"text/plain": text}, {}, self._transient))


def plain(line: str) -> str:
    """A line of an installer's without colours and whatever else a terminal would obey."""
    from sandbox_kernel.outputs.streams import clean_text

    text = re.sub(r"\x1b\[[0-9;:]*m", "", clean_text(line))
    text = "".join(c for c in text if c.isprintable()).strip()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
