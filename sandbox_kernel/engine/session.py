"""A session as programs use it: run code, move files, and know what happened.

It speaks to a `Place`, which knows in which sandbox a run happens. One run at a time uses a
sandbox; in a session whose runs have sandboxes of their own, several may be on at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel import languages
from sandbox_kernel.engine.choices import UNSET, Choices
from sandbox_kernel.engine.files import SessionFiles, write_new
from sandbox_kernel.engine.hearing import OnDisplay, OnText, Stdin
from sandbox_kernel.engine.packages import Packages
from sandbox_kernel.engine.places import Fresh, Place, require_kept, stop_all
from sandbox_kernel.engine.results import (
    DependencyReport,
    GeneratedFile,
    Result,
    SessionInfo,
    error_of,
    exit_code_of,
)
from sandbox_kernel.engine.runs import Request, run_on
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.errors import SandboxKernelError, SessionClosed, SettingsError
from sandbox_kernel.events import Json
from sandbox_kernel.session import FileEntry, Outcome, State
from sandbox_kernel.session.run import Sink

if TYPE_CHECKING:
    from sandbox_kernel.session.ports import Forward

# Names of generated files that `info` remembers.
MAX_GENERATED = 10_000


class Kept(NamedTuple):
    """What became of a generated file at `close`: where it is, or why it is not there."""

    name: str
    path: Path | None
    reason: str


class Session:
    """Made by `Engine.create_session`. An async context that closes it.

    Args:
        id: unguessable.
        backend: its name.
        choices: what was decided.
        place: where runs happen.
        packages: its dependencies.
        labels: the caller's own.
        on_close: called once, when it is closed.
    """

    def __init__(
        self,
        id: str,
        backend: str,
        choices: Choices,
        place: Place,
        packages: Packages,
        *,
        labels: Mapping[str, str],
        idle_timeout_s: float | None,
        lifetime_s: float | None,
        on_close: Callable[[Session], None],
    ) -> None:
        self.id = id
        self.labels = dict(labels)
        self.idle_timeout_s = idle_timeout_s
        self.lifetime_s = lifetime_s
        self.created = self.last_used = datetime.now(UTC)
        self.files = SessionFiles(self._store, choices.spec.limits.workspace_bytes, self._touched)
        self._backend = backend
        self._choices = choices
        self._place = place
        self._packages = packages
        self._on_close = on_close
        self._runs = 0
        self._active = 0
        self._generated: dict[str, None] = {}
        self._listing: dict[str, FileEntry] | None = None  # of a kept workspace; None: look
        self._closed: asyncio.Future[list[Kept]] | None = None
        self._closed_for = ""

    # -- running ---------------------------------------------------------------

    async def execute(
        self,
        code: str,
        *,
        language: str | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_display: OnDisplay | None = None,
        on_dependency_output: OnText | None = None,
        on_event: Sink | None = None,
        timeout_s: float | None = UNSET,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        dependencies: Iterable[str] = (),
        files: Mapping[str, bytes | str] | None = None,
        stdin: Stdin | None = None,
    ) -> Result:
        """Run code. Cancelling it stops the code, and keeps the variables where they live.

        Args:
            language: another one than the session's; it has variables of its own.
            on_stdout, on_stderr, on_dependency_output: get text as it comes.
            on_display: gets rich outputs, also pictures that the code saved.
            timeout_s: wall seconds (default: the session's; None: no limit).
            memory_bytes, cpus: other limits for this run, where the backend can change them.
            dependencies: packages it needs, as `pandas==3.*`; they stay where the sandbox does.
            files: written into the workspace first.
            stdin: answers `input()`: a text of lines, lines, or a callable that gets the prompt.
                When there is none left, EOFError is raised inside.

        Raises:
            BackendUnavailable, SandboxDied: nothing could be run at all.
            DependencyFailed, DependencyRefused: a package is not to be had.
            RequestRefused: a file does not fit, or no place for another language.
            SessionClosed: it was closed, or ended for its age.
            SettingsError: there is no such language, or a limit that cannot be.
        """
        started_s = time.monotonic()
        request = Request(
            code=code,
            runner=self._runner(language),
            timeout_s=self._choices.timeout_s if timeout_s is UNSET else timeout_s,
            memory_bytes=memory_bytes,
            cpus=cpus,
            stdin=stdin,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_display=on_display,
            on_event=on_event,
        )
        async with self._using(), self._place.claim() as seat:
            report = await self._packages.provide(
                seat, dependencies, on_dependency_output, is_kept=self._place.is_kept
            )
            for name, content in (files or {}).items():
                data = content.encode() if isinstance(content, str) else content
                await seat.files.write(name, data)
                self._touched()
            return await self._run(seat, request, report, started_s, files or {})

    async def _run(
        self,
        seat: Seat,
        request: Request,
        report: DependencyReport,
        started_s: float,
        inputs: Mapping[str, object],
    ) -> Result:
        before = await self._listed_before(seat, has_inputs=bool(inputs))
        self._runs += 1
        outcome, hearing = await run_on(seat, request, self._runs)
        entries = await self._generated_by(seat, outcome, before)
        error = error_of(outcome)
        return Result(
            ok=error is None,
            stdout=hearing.text("stdout"),
            stderr=hearing.text("stderr"),
            exit_code=exit_code_of(outcome, error),
            error=error,
            text=hearing.result_text,
            displays=hearing.displays,
            files=[GeneratedFile(entry.name, entry.size) for entry in entries],
            usage=outcome.receipt,
            dependencies=report,
            duration_s=time.monotonic() - started_s,
        )

    async def run(
        self,
        command: str,
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        timeout_s: float | None = UNSET,
        background: bool = False,
    ) -> Result:
        """Run a shell command in the workspace; `exit_code` is the command's.

        Commands share files with the code, and nothing else: each has a shell of its own.

        Args:
            background: return at once and leave it running, for a server.

        Raises:
            as `execute`.
        """
        from sandbox_kernel.engine import shell

        return await shell.run_command(
            self,
            command,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            timeout_s=timeout_s,
            background=background,
        )

    async def run_app(
        self, source: str | Path | Mapping[str, bytes | str], *, entry: str, **options: Any
    ) -> Result:
        """Run a project of several files, from its entry. See `apps.run_app`."""
        from sandbox_kernel.engine import apps

        return await apps.run_app(self, source, entry=entry, **options)

    def forward(self, guest_port: int, *, host_port: int = 0) -> Forward:
        """Make a server inside reachable at 127.0.0.1, while the context is open.

        Raises:
            SettingsError: the session was not created with `allow_forward=True`.
            RequestRefused: its runs have sandboxes of their own.
        """
        seat: Any = require_kept(self._place, "A port forward")
        forward: Forward = seat.forward(guest_port, host_port=host_port)
        return forward

    async def complete(
        self, code: str, cursor_pos: int | None = None, *, language: str | None = None
    ) -> Json:
        """Completions at `cursor_pos` (code points; default: the end), as Jupyter has them."""
        seat = require_kept(self._place, "Completion")
        where = len(code) if cursor_pos is None else cursor_pos
        async with self._using():
            return await seat.complete(code, where, runner=self._runner(language))

    async def inspect(
        self,
        code: str,
        cursor_pos: int | None = None,
        detail_level: int = 0,
        *,
        language: str | None = None,
    ) -> Json:
        """Documentation at `cursor_pos`, as Jupyter has it."""
        seat = require_kept(self._place, "Documentation of a variable")
        where = len(code) if cursor_pos is None else cursor_pos
        async with self._using():
            return await seat.inspect(code, where, detail_level, runner=self._runner(language))

    # -- life ------------------------------------------------------------------

    async def interrupt(self) -> None:
        """Ask what runs to stop, and see to it. Returns at once; does nothing when idle."""
        await stop_all(self._place)

    async def restart(self) -> None:
        """Lose the variables, and keep the files.

        Raises:
            SandboxDied, SessionClosed: there is nothing to restart.
        """
        async with self._using():
            if self._place.is_kept:  # elsewhere every run begins anew
                for seat in self._place.seats:
                    await seat.restart()

    async def close(
        self, *, keep_generated: str | Path | None = None, reason: str = ""
    ) -> list[Kept]:
        """Destroy its sandboxes. Safe to call twice.

        Args:
            keep_generated: a directory for the files that its runs made, and nothing else.
                None that is there is replaced, and none that the host would run by itself
                is written.
            reason: said to whoever uses it afterwards.

        Returns:
            what became of each generated file; [] without a directory.
        """
        if self._closed is None:
            self._closed_for = reason
            self._closed = asyncio.ensure_future(self._close(keep_generated))
        return await asyncio.shield(self._closed)

    async def _close(self, directory: str | Path | None) -> list[Kept]:
        try:
            return await self._keep(Path(directory)) if directory is not None else []
        finally:
            await self._place.close()
            self._packages.close()
            self._on_close(self)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- knowing ---------------------------------------------------------------

    @property
    def language(self) -> str:
        return self._choices.spec.language

    @property
    def is_busy(self) -> bool:
        return self._active > 0

    @property
    def is_closed(self) -> bool:
        return self._closed is not None

    def info(self) -> SessionInfo:
        """What is known of it, without asking the sandbox."""
        choices, seats = self._choices, self._place.seats
        image = choices.spec.image
        if image is None and self._backend == "docker":
            image = languages.get(self.language).image
        return SessionInfo(
            id=self.id,
            language=self.language,
            backend=self._backend,
            boundary=next((seat.boundary for seat in seats), ""),
            image=image,
            strategy=choices.strategy.value,
            workspace=choices.workspace.value,
            labels=dict(self.labels),
            created=self.created,
            last_used=self.last_used,
            runs=self._runs,
            generated=tuple(self._generated),
            dependencies_checksum=self._packages.checksum(),
            sandboxes=self._place.records.all(),
            state=self._state(seats).value,
        )

    def _state(self, seats: list[Seat]) -> State:
        if self.is_closed:
            return State.CLOSED
        if self._active:
            return State.BUSY
        return seats[0].state if seats else State.IDLE

    # -- parts

    def _runner(self, language: str | None) -> str:
        if language is None:
            return ""
        name = languages.resolve(language)
        if name is None:
            known = ", ".join(languages.names())
            raise SettingsError(f"There is no language {language!r}; there are {known}.")
        return "" if name == self.language else name

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[None]:
        if self._closed is not None:
            why = f" {self._closed_for}" if self._closed_for else ""
            raise SessionClosed(f"The session is closed.{why} Create another one.")
        self._active += 1
        self.last_used = datetime.now(UTC)
        try:
            yield
        finally:
            self._active -= 1
            self.last_used = datetime.now(UTC)

    def _store(self) -> Any:
        if self._closed is not None:
            raise SessionClosed("The session is closed. Create another one.")
        return self._place.store()

    def _touched(self) -> None:
        self._listing = None

    async def _listed_before(self, seat: Seat, *, has_inputs: bool) -> dict[str, FileEntry]:
        """The workspace as a run finds it."""
        if self._place.is_kept:
            if self._listing is None or has_inputs:
                self._listing = await _listing(seat)
            return self._listing
        # A fresh sandbox's is empty but for what was put there.
        is_empty = not has_inputs and not await self._place.store().list()
        return {} if is_empty else await _listing(seat)

    async def _generated_by(
        self, seat: Seat, outcome: Outcome, before: dict[str, FileEntry]
    ) -> list[FileEntry]:
        """What a run made or changed; taken over where its sandbox goes now."""
        if outcome.receipt is None:  # the sandbox is gone, and its files are
            self._listing = None
            return []
        if outcome.receipt.files == 0:
            return []
        now = await _listing(seat)
        entries = [entry for entry in now.values() if entry != before.get(entry.name)]
        if self._place.is_kept:
            self._listing = now
        elif isinstance(self._place, Fresh):
            await self._place.carried.take(seat.files, entries)
        for entry in entries[: MAX_GENERATED - len(self._generated)]:
            self._generated[entry.name] = None
        return entries

    async def _keep(self, directory: Path) -> list[Kept]:
        kept: list[Kept] = []
        for name in self._generated:
            try:
                content = await self._place.store().read(name)
                path = await asyncio.to_thread(write_new, directory, name, content)
                kept.append(Kept(name, path, ""))
            except SandboxKernelError as error:
                kept.append(Kept(name, None, str(error)))
        return kept


async def _listing(seat: Seat) -> dict[str, FileEntry]:
    try:
        return {entry.name: entry for entry in await seat.files.list()}
    except SandboxKernelError:
        return {}  # it went away; the run says so
