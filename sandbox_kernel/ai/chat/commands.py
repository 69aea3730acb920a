"""What begins with `/`: for the person alone, who may move files between host and sandbox.

To add one: a row in `COMMANDS` and a method `_do_<name>` on `Commands`; it gives an exit code.
"""

from __future__ import annotations

import asyncio
import difflib
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandbox_kernel import languages
from sandbox_kernel.engine.files import write_at
from sandbox_kernel.errors import FileRefused, FileTooLarge, RequestRefused, SettingsError
from sandbox_kernel.limits import KIB, format_size
from sandbox_kernel.outputs.plain import seen
from sandbox_kernel.outputs.streams import clean_name

if TYPE_CHECKING:
    from sandbox_kernel.ai.chat.shell import Chat

DONE = 0
MAX_ROWS = 200
# More than a screen is better searched by code.
MAX_SHOWN_BYTES = 16 * KIB
# A program; data goes in by `/files put`.
MAX_PROGRAM_BYTES = 1024 * KIB


class Usage(NamedTuple):
    arguments: str
    what: str


COMMANDS: dict[str, Usage] = {
    "run": Usage("CODE|FILE", "run code, or a program of this machine, in the sandbox"),
    "fix": Usage("[HINT]", "have the model explain the last error and repair it"),
    "files": Usage("", "the files in the workspace"),
    "files get": Usage("NAME [PATH]", "copy a file or a picture out"),
    "files put": Usage("PATH [NAME]", "copy a file in"),
    "files show": Usage("NAME", "the beginning of a file"),
    "language": Usage("[NAME]", "what code is written in, by you and by the model"),
    "session": Usage("", "the sandbox: its boundary, its limits and what it did"),
    "save": Usage("NOTEBOOK.ipynb", "keep all of this as a notebook that runs again"),
    "restart": Usage("", "forget the variables, keep the files"),
    "help": Usage("", "this"),
    "quit": Usage("", "leave; Ctrl-D does, too"),
}


class Quit(Exception):
    """The person leaves."""


class Commands:
    """Does what a command says, to one chat."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._session = chat.interpreter.session

    async def do(self, name: str, rest: str) -> int:
        """
        Raises:
            Quit: the person leaves.
            SettingsError: there is no such command, or it has other arguments.
            SandboxKernelError: it could not be done.
        """
        if name == "exit":
            name = "quit"
        if name not in COMMANDS:  # those of two words are none
            raise SettingsError(_unknown(name))
        return int(await getattr(self, f"_do_{name}")(rest.strip()))

    # --- code

    async def _do_run(self, rest: str) -> int:
        if not rest:
            raise _wrong("run")
        path = _file_named(rest)
        if path is None:
            return await self._chat.run_code(rest)
        code, language = await asyncio.to_thread(_program, path)
        return await self._chat.run_code(code, language)

    async def _do_fix(self, rest: str) -> int:
        return await self._chat.fix(rest)

    async def _do_language(self, rest: str) -> int:
        if not rest:
            known = ", ".join(languages.names())
            self._chat.screen.show(f"{self._chat.language} (there are {known})")
            return DONE
        name = languages.resolve(rest.lower())
        if name is None or name == languages.SHELL:
            known = ", ".join(languages.names())
            raise SettingsError(f"There is no language {rest[:40]!r}; there are {known}.")
        self._chat.use(name)
        self._chat.screen.say(f"Code is {name} now; files are shared, variables are its own.")
        return DONE

    # --- files

    async def _do_files(self, rest: str) -> int:
        words = _words(rest)
        match words:
            case []:
                await self._list()
            case ["get", name]:
                await self._get(name, "")
            case ["get", name, path]:
                await self._get(name, path)
            case ["put", path]:
                await self._put(path, "")
            case ["put", path, name]:
                await self._put(path, name)
            case ["show", name]:
                await self._show(name)
            case [verb, *_] if f"files {verb}" in COMMANDS:
                raise _wrong(f"files {verb}")
            case _:
                raise SettingsError("/files takes get, put, show, or nothing.")
        return DONE

    async def _list(self) -> None:
        entries = sorted(await self._session.files.list(), key=lambda entry: entry.name)
        if not entries:
            self._chat.screen.show("The workspace has no files.")
            return
        rows = [
            (clean_name(one.name), format_size(one.size), _date(one.mtime_s))
            for one in entries[:MAX_ROWS]
        ]
        if len(entries) > MAX_ROWS:
            rows.append((f"… and {len(entries) - MAX_ROWS:,} more", "", ""))
        self._chat.screen.table(rows)

    async def _get(self, name: str, path: str) -> None:
        target = _target(path, name)
        picture = self._chat.pictures.get(name)
        if picture is None:
            with _with_remedy():
                written = await self._session.files.copy_out(name, target)
        else:
            written = await asyncio.to_thread(write_at, target, picture)
        self._chat.screen.show(f"{clean_name(name)} is now {written}")

    async def _put(self, path: str, name: str) -> None:
        chosen = await self._chat.put(_host_path(path), name)
        self._chat.screen.show(f"{path} is now {clean_name(chosen)} in the workspace.")

    async def _show(self, name: str) -> None:
        from sandbox_kernel.outputs.previews import describe_file

        with _with_remedy():
            content = await self._session.files.read(name)
        head = content[:MAX_SHOWN_BYTES]
        try:
            text = head.decode("utf-8")
        except UnicodeDecodeError:
            bundle, _ = describe_file(name, len(content), content, True)
            text = str(bundle.get("text/plain", ""))
        more = len(content) - len(head)
        self._chat.screen.show(text.rstrip("\n"))
        if more > 0:
            self._chat.screen.say(f"… {format_size(more)} more: /files get {clean_name(name)}")

    # --- the rest

    def _rows(self) -> list[tuple[str, str]]:
        info, limits = self._session.info(), self._chat.limits
        timeout = self._session.timeout_s
        model = self._chat.model_name
        generated = ", ".join(clean_name(name) for name in info.generated[:20])
        return [
            ("session", info.id),
            ("language", self._chat.language),
            ("boundary", seen(info.boundary)),
            ("image", info.image or "none: this machine's own programs"),
            ("memory", format_size(limits.memory_bytes)),
            ("CPUs", f"{limits.cpus:g}"),
            ("processes", str(limits.processes)),
            ("workspace", format_size(limits.workspace_bytes)),
            ("time for code", "no limit" if timeout is None else f"{timeout:g} s"),
            ("network", "none"),
            ("runs", str(info.runs)),
            ("files made", generated or "none"),
            ("model", model or "none"),
        ]

    async def _do_session(self, rest: str) -> int:
        _require_nothing("session", rest)
        self._chat.screen.table(self._rows())
        return DONE

    async def _do_save(self, rest: str) -> int:
        words = _words(rest)
        if len(words) != 1:
            raise _wrong("save")
        written = self._chat.interpreter.transcript.save(words[0])
        self._chat.screen.show(f"The notebook is {written}")
        return DONE

    async def _do_restart(self, rest: str) -> int:
        _require_nothing("restart", rest)
        await self._session.restart()
        self._chat.note_restart()
        self._chat.screen.say("The variables are gone, the files are there.")
        return DONE

    async def _do_help(self, _rest: str) -> int:
        rows = [
            ("words", "go to the model, which writes code and runs it here"),
            (">>> code", "runs as it is; ```language … ``` for several lines"),
            ("!command", "runs in a shell, inside"),
            *(
                (f"/{name} {usage.arguments}".strip(), usage.what)
                for name, usage in COMMANDS.items()
            ),
            ("Ctrl-C", "stops the model or the code; the variables stay"),
        ]
        self._chat.screen.table(rows)
        return DONE

    async def _do_quit(self, _rest: str) -> int:
        raise Quit


def _wrong(name: str) -> SettingsError:
    usage = COMMANDS[name]
    return SettingsError(f"/{name} has other arguments. Write /{name} {usage.arguments}".rstrip())


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"; did you mean /{close[0]}?" if close else "; /help lists them."
    return f"There is no command /{name[:40]}{hint}"


def _require_nothing(name: str, rest: str) -> None:
    if rest:
        raise _wrong(name)


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise SettingsError(f"{error}. Close the quotation mark.") from None


# --- files of the host --------------------------------------------------------------------


@contextmanager
def _with_remedy() -> Iterator[None]:
    """What the guest refuses, with the remedy."""
    try:
        yield
    except RequestRefused as error:
        raise RequestRefused(f"{seen(str(error))} /files lists what is there.") from None


def _host_path(text: str) -> Path:
    return Path(text).expanduser()


def _target(path: str, name: str) -> Path:
    """Where the file `name` of the workspace goes, if the person says `path`."""
    target = _host_path(path or ".")
    return target / name.split("/")[-1] if target.is_dir() else target


def _file_named(rest: str) -> Path | None:
    """The file of this machine that `/run` names; None if it is code.

    Raises:
        FileRefused: it looks like one, and is not there.
    """
    if "\n" in rest or len(rest) > 1_000:
        return None
    path = Path(rest).expanduser()
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):
        return None
    is_path = " " not in rest and (rest.startswith(("./", "../", "/", "~/")))
    if is_path:
        raise FileRefused(f"There is no file {rest!r} on this machine. Correct its name.")
    return None


def _program(path: Path) -> tuple[str, str]:
    """A program's code and its language, "" for one whose ending says none.

    Raises:
        FileRefused: it is no text, or too long.
    """
    if path.stat().st_size > MAX_PROGRAM_BYTES:
        limit = format_size(MAX_PROGRAM_BYTES)
        raise FileTooLarge(f"{str(path)!r} is over {limit}. Bring data in by /files put.")
    try:
        code = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FileRefused(f"{str(path)!r} cannot be run: {reason}.") from None
    return code, _language_of(path)


def _language_of(path: Path) -> str:
    for name in languages.names():
        if path.suffix and languages.get(name).file_extension == path.suffix.lower():
            return name
    return ""


def _date(time_s: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))
    except (ValueError, OverflowError, OSError):
        return "?"
