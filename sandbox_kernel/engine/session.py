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
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.engine.choices import UNSET, Choices, check_seconds
from sandbox_kernel.engine.files import SessionFiles, made_directory
from sandbox_kernel.engine.generated import Generated, Kept
from sandbox_kernel.engine.hearing import OnDisplay, OnText, Stdin
from sandbox_kernel.engine.packages import Packages
from sandbox_kernel.engine.places import Place, require_kept, stop_all
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
from sandbox_kernel.errors import SessionClosed, SettingsError
from sandbox_kernel.events import Json, TextWritten
from sandbox_kernel.outputs.streams import clean_name, clean_text
from sandbox_kernel.session import State
from sandbox_kernel.session.run import Sink

if TYPE_CHECKING:
    from sandbox_kernel.engine.attached import NotebookPackages
    from sandbox_kernel.session.ports import Forward

__all__ = ["Kept", "Session"]

# Files that were not kept, in the words of a run's stderr.
MAX_LOST_TOLD = 20


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
        packages: Packages | NotebookPackages,
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
        # Wall clocks are set; what is too old is not for them to say.
        self._created_s = self._used_s = time.monotonic()
        self.files = SessionFiles(
            self._store,
            choices.spec.limits.workspace_bytes,
            used=self._note_use,
            touched=self._touched,
        )
        self._backend = backend
        self._choices = choices
        self._place = place
        self._packages = packages
        self._on_close = on_close
        self._runs = 0
        self._boundary = ""
        self._active = 0
        self._generated = Generated(place)
        self._forwards: list[Forward] = []
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
        timeout_s = self._choices.timeout_s if timeout_s is UNSET else timeout_s
        check_seconds("timeout_s", timeout_s)
        request = Request(
            code=code,
            runner=self._runner(language),
            timeout_s=timeout_s,
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
                seat,
                dependencies,
                on_dependency_output,
                language=request.runner,
                is_kept=self._place.is_kept,
            )
            for name, content in (files or {}).items():
                data = content.encode() if isinstance(content, str) else content
                self._touched()
                await self._place.put(seat, name, data)
            return await self._run(seat, request, report, started_s, has_inputs=bool(files))

    async def _run(
        self,
        seat: Seat,
        request: Request,
        report: DependencyReport,
        started_s: float,
        *,
        has_inputs: bool,
    ) -> Result:
        self._seen_boundary([seat])
        before = await self._generated.before(seat, has_inputs=has_inputs)
        self._runs += 1
        try:
            outcome, hearing = await run_on(seat, request, self._runs)
        except BaseException:
            self._touched()  # by what it did until then
            raise
        if self._closed is not None and outcome.receipt is None:
            raise SessionClosed("The session was closed while this ran. Create another one.")
        entries, lost = await self._generated.after(seat, outcome, before)
        for name, reason in list(lost.items())[:MAX_LOST_TOLD]:
            told = f"[sandbox] The file {clean_name(name)} was not kept. {clean_text(reason)}\n"
            hearing.hear(TextWritten(0, "stderr", told))
        error = error_of(outcome)
        return Result(
            ok=error is None,
            stdout=hearing.text("stdout"),
            stderr=hearing.text("stderr"),
            exit_code=exit_code_of(outcome, error),
            error=error,
            text=hearing.result_text,
            displays=hearing.displays,
            files=[GeneratedFile(one.name, one.size) for one in entries if one.name not in lost],
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

    def forward(
        self, guest_port: int, *, host_port: int = 0, socket_path: str | None = None
    ) -> Forward:
        """Make a server inside reachable at 127.0.0.1, while the context is open.

        Args:
            host_port: 0 for one that is free.
            socket_path: a unix socket of this user's alone, in place of a port.

        Raises:
            SettingsError: the session was not created with `allow_forward=True`.
            RequestRefused: its runs have sandboxes of their own.
        """
        self._require_open()
        seat: Any = require_kept(self._place, "A port forward")
        forward: Forward = seat.forward(guest_port, host_port=host_port, socket_path=socket_path)
        self._forwards = [*(one for one in self._forwards if one.is_open), forward]
        self._note_use()
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

        Raises:
            FileRefused: that directory cannot be made; the session is still open.
        """
        directory = None if keep_generated is None else Path(keep_generated)
        if directory is not None and self._closed is None:
            await asyncio.to_thread(made_directory, directory)
        return await asyncio.shield(self.begin_to_close(directory, reason=reason))

    def begin_to_close(
        self, directory: Path | None = None, *, reason: str = ""
    ) -> asyncio.Future[list[Kept]]:
        """As `close`, which waits for it: from now on nobody uses it any more."""
        if self._closed is None:
            self._closed_for = reason
            self._closed = asyncio.ensure_future(self._close(directory))
        return self._closed

    async def _close(self, directory: Path | None) -> list[Kept]:
        try:
            return await self._generated.keep(directory) if directory is not None else []
        finally:
            try:
                await self._place.close()
            finally:
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
    def timeout_s(self) -> float | None:
        """Wall seconds of a run that names none; None: no limit."""
        return self._choices.timeout_s

    @property
    def is_busy(self) -> bool:
        return self._active > 0

    @property
    def is_closed(self) -> bool:
        return self._closed is not None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._created_s

    @property
    def idle_s(self) -> float:
        """For how long nobody has used it; 0 while somebody does, if by a port only."""
        if self._active or any(forward.is_open for forward in self._forwards):
            self._note_use()
        return time.monotonic() - self._used_s

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
            boundary=self._seen_boundary(seats),
            image=image,
            strategy=choices.strategy.value,
            workspace=choices.workspace.value,
            labels=dict(self.labels),
            created=self.created,
            last_used=self.last_used,
            runs=self._runs,
            generated=self._generated.names,
            dependencies_checksum=self._packages.checksum(),
            sandboxes=self._place.records.all(),
            state=self._state(seats).value,
        )

    def _seen_boundary(self, seats: list[Seat]) -> str:
        """That of a sandbox that is there, or was."""
        now = next((seat.boundary for seat in seats), "")
        self._boundary = now or self._boundary
        return self._boundary

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
        self._require_open()
        self._active += 1
        self._note_use()
        try:
            yield
        finally:
            self._active -= 1
            self._note_use()

    def _require_open(self) -> None:
        if self._closed is not None:
            why = f" {self._closed_for}" if self._closed_for else ""
            raise SessionClosed(f"The session is closed.{why} Create another one.")

    def _note_use(self) -> None:
        self.last_used = datetime.now(UTC)
        self._used_s = time.monotonic()

    def _store(self) -> Any:
        self._require_open()
        return self._place.store()

    def _touched(self) -> None:
        self._generated.forget_listing()
