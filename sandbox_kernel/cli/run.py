"""`run`: one program in a fresh sandbox, and nothing of it left afterwards.

What it prints streams to our stdout and stderr as it comes. Exit codes: 0 it worked,
1 it failed, 124 it ran out of time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED, TIMED_OUT
from sandbox_kernel.cli.options import add_settings, chosen_settings
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel import events
    from sandbox_kernel.session import FileEntry, Outcome, SandboxSession
    from sandbox_kernel.settings import Settings

# A program that was forgotten should not run for ever; a notebook's cell may.
DEFAULTS = {"timeout": "60s"}
# Streamed output is held back by whoever reads it; what `--json` collects is not.
STREAMING_DEFAULTS = {**DEFAULTS, "output": "all"}


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="run a program in a fresh sandbox",
        description="Run a program in a fresh sandbox; 60 s at most unless --timeout says more.",
        allow_abbrev=False,
    )
    program = parser.add_mutually_exclusive_group(required=True)
    program.add_argument("-c", metavar="CODE", dest="code", help="the program itself")
    program.add_argument("path", metavar="FILE", nargs="?", help="its file; - reads stdin")
    parser.add_argument(
        "--file", metavar="F", action="append", default=[], dest="files",
        help="copy this file into the sandbox first; may be repeated",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="keep generated files here")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    # `--output` is the directory here; the budget is SANDBOX_KERNEL_OUTPUT.
    add_settings(parser, without=["output"])
    parser.set_defaults(execute=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from sandbox_kernel.settings import Settings

    defaults = DEFAULTS if arguments.json else STREAMING_DEFAULTS
    settings = Settings.load(chosen_settings(arguments), defaults=defaults)
    code = _program(arguments)
    inputs = _inputs(arguments.files)
    try:
        return asyncio.run(_run(settings, code, inputs, arguments))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@asynccontextmanager
async def _session(settings: Settings) -> AsyncIterator[SandboxSession]:
    """A session, not yet started, that has the declared packages; gone afterwards.

    Raises:
        BackendUnavailable, DependencyFailed: they could not be had.
    """
    from sandbox_kernel import backends
    from sandbox_kernel.provision import spec_from
    from sandbox_kernel.session import SandboxSession

    spec, backend = spec_from(settings), backends.get(settings.backend)
    async with AsyncExitStack() as stack:
        if settings.declared_dependencies:
            from sandbox_kernel.dependencies.manager import Dependencies

            made = Dependencies.from_settings(backend, spec, settings)
            stack.callback(made.close)
            ensured = await made.ensure(made.policy.declared, on_output=_show_installer)
            if ensured.built:
                _show_installer(f"{ensured.text}\n")
            made.note_attached(ensured.layers)
            spec = made.applied(spec)
        session = SandboxSession(backend, spec, policy=settings.outputs)
        stack.push_async_callback(session.close)
        yield session


def _show_installer(text: str) -> None:
    """Apart from what the program prints, as far as a terminal allows."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


async def _run(
    settings: Settings,
    code: str,
    inputs: dict[str, bytes],
    arguments: argparse.Namespace,
) -> int:
    import asyncio
    import signal

    task = asyncio.current_task()
    assert task is not None
    # Not left to `asyncio.run`: a signal that comes just before its loop sleeps wakes nobody.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    shown = Shown(is_quiet=arguments.json, give_up=task.cancel)
    try:
        async with _session(settings) as session:
            await session.start()
            for name, content in inputs.items():
                await session.files.write(name, content)
            before = {entry.name: entry for entry in await session.files.list()}
            outcome = await session.execute(code, on_event=shown.take)
            files = await _generated(session, before)
            kept = await _keep(session, settings, files, arguments.output)
    except asyncio.CancelledError:
        # Ctrl-C cancels too; only the other case has an error to tell.
        raise shown.broken_pipe or asyncio.CancelledError from None
    if arguments.json:
        _print_json(shown, outcome, files)
    else:
        _print_files(files, kept, arguments.output)
    return exit_code(outcome)


# --- what goes in ---------------------------------------------------------------------


def _program(arguments: argparse.Namespace) -> str:
    if arguments.code is not None:
        return str(arguments.code)
    if arguments.path == "-":
        content = sys.stdin.buffer.read()
    else:
        content = Path(arguments.path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"The program {arguments.path} is not UTF-8 text (byte {error.start}). Convert it."
        ) from None


def _inputs(paths: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in map(Path, paths):
        if path.name in found:
            raise SettingsError(f"Two files are called {path.name!r}; rename one of them.")
        found[path.name] = path.read_bytes()
    return found


# --- what comes out -------------------------------------------------------------------


class Shown:
    """Takes a session's events: streams them, and remembers them for `--json`.

    It is called from deep inside the session, so it calls `give_up` where it would raise.
    """

    def __init__(self, *, is_quiet: bool, give_up: Callable[[], object]) -> None:
        self._give_up = give_up
        self.broken_pipe: BrokenPipeError | None = None
        self.texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.displays: list[list[str]] = []  # MIME types of each
        self._is_quiet = is_quiet

    def take(self, event: events.Event) -> None:
        from sandbox_kernel import events

        match event:
            case events.TextWritten():
                self._write(event.stream, event.text)
            case events.DisplayShown() | events.ResultShown():
                self.displays.append(sorted(event.bundle))
                if not self._is_quiet:
                    self._write("stdout", _line(event.bundle))
            case events.CellFailed():
                if not self._is_quiet:
                    self._write("stderr", _traceback(event))

    def _write(self, name: str, text: str) -> None:
        if self._is_quiet:
            self.texts[name].append(text)
            return
        stream = sys.stdout if name == "stdout" else sys.stderr
        try:
            stream.buffer.write(text.encode(stream.encoding or "utf-8", "backslashreplace"))
            stream.flush()
        except BrokenPipeError as error:
            self.broken_pipe = error
            self._give_up()


def _line(bundle: events.Json) -> str:
    """A rich output on a terminal: its text, or what kinds of it there are."""
    text = bundle.get("text/plain")
    return (text if isinstance(text, str) else f"[{', '.join(sorted(bundle))}]") + "\n"


def _traceback(event: events.CellFailed) -> str:
    import re

    text = "\n".join(event.traceback) + "\n"
    return text if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", text)


def exit_code(outcome: Outcome) -> int:
    if outcome.error is None:
        return DONE
    if outcome.error.name == "SystemExit" and outcome.error.value in ("", "0", "None"):
        return DONE
    return TIMED_OUT if outcome.error.name == "CellTimeout" else FAILED


def _print_json(shown: Shown, outcome: Outcome, files: list[FileEntry]) -> None:
    import json

    error = outcome.error
    result = {
        "ok": exit_code(outcome) == DONE,
        "stdout": "".join(shown.texts["stdout"]),
        "stderr": "".join(shown.texts["stderr"]),
        "exit_code": exit_code(outcome),
        "error": error and {"name": error.name, "value": error.value, "traceback": error.traceback},
        "displays": shown.displays,
        "files": [{"name": entry.name, "size": entry.size} for entry in files],
        "usage": outcome.receipt and outcome.receipt._asdict(),
    }
    print(json.dumps(result))


# --- generated files ------------------------------------------------------------------


async def _generated(session: SandboxSession, before: dict[str, FileEntry]) -> list[FileEntry]:
    """Files that are new or changed; none when the sandbox did not survive."""
    try:
        now = await session.files.list()
    except SandboxKernelError:
        return []
    return [entry for entry in now if entry != before.get(entry.name)]


async def _keep(
    session: SandboxSession, settings: Settings, files: list[FileEntry], directory: str | None
) -> dict[str, str]:
    """Write `files` under `directory`; by name, where each went or why it did not."""
    from sandbox_kernel.engine.files import write_new

    kept: dict[str, str] = {}
    for entry in files if directory else []:
        limit = settings.limits.workspace_bytes
        try:
            content = await session.files.read(entry.name, limit_bytes=limit)
            kept[entry.name] = f"-> {write_new(Path(str(directory)), entry.name, content)}"
        except (SandboxKernelError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            kept[entry.name] = f"was not kept: {reason}"
    return kept


def _print_files(files: list[FileEntry], kept: dict[str, str], directory: str | None) -> None:
    from sandbox_kernel.limits import format_size

    if not files:
        return
    hint = "" if directory else " (keep them with --output DIR)"
    print(f"Generated files{hint}:", file=sys.stderr)
    for entry in files:
        where = printable(kept.get(entry.name, ""))
        print(f"  {printable(entry.name)}  {format_size(entry.size)} {where}", file=sys.stderr)


def printable(text: str) -> str:
    """`text` without what could move a terminal's cursor or hide."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
