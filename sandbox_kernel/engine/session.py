"""A session as programs use it: the verbs. What is known of it, and its end, is in `life`.

It speaks to a `Place`, which knows in which sandbox a run happens. One run at a time uses a
sandbox; in a session whose runs have sandboxes of their own, several may be on at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.engine.choices import UNSET, check_is, check_seconds
from sandbox_kernel.engine.files import as_bytes
from sandbox_kernel.engine.generated import Kept
from sandbox_kernel.engine.hearing import OnDisplay, OnText, Stdin
from sandbox_kernel.engine.life import Life
from sandbox_kernel.engine.places import require_kept, stop_all
from sandbox_kernel.engine.results import (
    DependencyReport,
    GeneratedFile,
    Result,
    error_of,
    exit_code_of,
)
from sandbox_kernel.engine.runs import Request, run_on
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.errors import SessionClosed
from sandbox_kernel.events import Json, TextWritten
from sandbox_kernel.outputs.streams import clean_name, clean_text
from sandbox_kernel.session.run import Sink

if TYPE_CHECKING:
    from sandbox_kernel.session.ports import Forward

__all__ = ["Kept", "Session"]

# Files that were not kept, in the words of a run's stderr.
MAX_LOST_TOLD = 20


class Session(Life):
    """Made by `Engine.create_session`; arguments: see `Life`."""

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
            SettingsError: there is no such language, a limit that cannot be, or an argument
                of the wrong kind.
        """
        started_s = time.monotonic()
        timeout_s = self._choices.timeout_s if timeout_s is UNSET else timeout_s
        check_seconds("timeout_s", timeout_s)
        files = {} if files is None else files
        check_is("files", files, Mapping, "a mapping of names to text or bytes")
        inputs = {name: as_bytes(name, content) for name, content in files.items()}
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
            for name, content in inputs.items():
                self._touched()
                await self._place.put(seat, name, content)
            return await self._run(seat, request, report, started_s, has_inputs=bool(inputs))

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

    # -- stopping --------------------------------------------------------------

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

    # -- parts

    def _runner(self, language: str | None) -> str:
        """As seats name it: "" for the session's own."""
        name = self.language if language is None else languages.named(language)
        return "" if name == self.language else name
