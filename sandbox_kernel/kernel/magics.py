"""`%sandbox` lines: files in and out, and what the sandbox is. Run on the host.

Only the leading lines of a cell are looked at, and they never reach the guest; the rest
of the cell runs there with its line numbers kept.

Rule 1: a model may have written the cell, so no command widens what the sandbox may do,
        and host paths are confined by `exchange`.
Rule 2: names that come from the guest are shown, escaped, and never used as host paths
        unless `exchange.plan` accepts them.

To add a command: a method `_<verb>` on `Magics`, a row in `_COMMANDS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sandbox_kernel.errors import FileRefused, FileTooLarge, RequestRefused
from sandbox_kernel.exchange import MAX_BYTES, Exchange
from sandbox_kernel.kernel.wire import Json
from sandbox_kernel.limits import Limits, format_size

if TYPE_CHECKING:
    from sandbox_kernel.kernel.drivers import Drivers
    from sandbox_kernel.session import SandboxSession

MAGIC = "%sandbox"
# `%dependencies a b` is `%sandbox dependencies a b`, which `kernel.dependencies` does.
SHORT_MAGIC, DEPENDENCIES = "%dependencies", "dependencies"
MAX_ROWS = 500
_OVERWRITE = "Add --overwrite to replace it, or choose another name."

# verb: (fewest, most arguments, what follows the verb, what it does)
_COMMANDS: dict[str, tuple[int, int, str, str]] = {
    "files": (0, 0, "", "list the files in the workspace"),
    "get": (
        1,
        2,
        "NAME [HOST_PATH] [--overwrite]",
        "copy a file of the workspace to the notebook's directory",
    ),
    "put": (1, 2, "HOST_PATH [NAME]", "copy a file from there into the workspace"),
    "status": (0, 0, "", "what isolates the sandbox, its limits and what it uses"),
    "share": (0, 1, "[off]", "the id by which your programs attach; off: none may any more"),
    DEPENDENCIES: (0, 200, "PACKAGE…", "install packages; %dependencies PACKAGE… for short"),
    "help": (0, 0, "", "this"),
}


class UsageError(ValueError):
    """A `%sandbox` line that is none. The message says how to write it."""


class Command(NamedTuple):
    """One `%sandbox` line."""

    verb: str
    arguments: list[str]
    allow_overwrite: bool


class Shown(NamedTuple):
    """What a command has to say: text, and html if a table reads better."""

    text: str
    html: str | None = None


def split(code: str, comment: str = "#") -> tuple[list[str], str]:
    """The leading lines of `code` that are ours, and `code` without them, numbered as before.

    A line that is taken leaves a bare `comment`, since IPython drops leading blank lines and
    counts anew; a blank one before a cell magic, which must come first.
    """
    if MAGIC not in code and SHORT_MAGIC not in code:
        return [], code
    lines = code.split("\n")
    found: dict[int, str] = {}
    filler = ""
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped == MAGIC or stripped.startswith((MAGIC + " ", MAGIC + "\t")):
            found[number] = stripped[len(MAGIC) :].strip()
        elif stripped.split(None, 1)[:1] == [SHORT_MAGIC]:
            found[number] = DEPENDENCIES + stripped[len(SHORT_MAGIC) :]
        elif stripped and not stripped.startswith("#"):
            filler = "" if stripped.startswith("%%") else comment
            break
    for number in found:
        lines[number] = filler
    return list(found.values()), "\n".join(lines)


def hide(code: str) -> str:
    """`code` with those lines blanked at equal length, for questions with a cursor."""
    _, rest = split(code, "")
    pairs = zip(code.split("\n"), rest.split("\n"), strict=True)
    return "\n".join(line if kept else " " * len(line) for line, kept in pairs)


def is_blank(code: str) -> bool:
    """Whether there is nothing in `code` to run: blank lines and comments only."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in code.split("\n"))


def parse(line: str) -> Command:
    """The command that `line` (without `%sandbox`) asks for.

    Raises:
        UsageError: there is no such command, or its arguments are wrong.
    """
    import shlex  # only who uses a magic pays

    try:
        verb, *arguments = shlex.split(line) or ["help"]
    except ValueError as error:
        raise UsageError(f"{MAGIC} {line}: {error}. Close the quotation mark.") from None
    if verb not in _COMMANDS:
        raise UsageError(f"There is no {MAGIC} {verb}; there are {', '.join(_COMMANDS)}.")
    overwrite = "--overwrite" in arguments
    arguments = [argument for argument in arguments if argument != "--overwrite"]
    fewest, most, usage, _ = _COMMANDS[verb]
    unknown = [argument for argument in arguments if argument.startswith("--")]
    if unknown or not fewest <= len(arguments) <= most or (overwrite and verb != "get"):
        problem = f"takes no {unknown[0]}" if unknown else "has other arguments"
        raise UsageError(f"{MAGIC} {verb} {problem}. Write {MAGIC} {verb} {usage}".rstrip() + ".")
    return Command(verb, arguments, overwrite)


class Magics:
    """Runs commands against one session, with host files beneath the working directory."""

    def __init__(
        self,
        session: SandboxSession,
        exchange: Exchange | None = None,
        *,
        share: Callable[[], Drivers | None] = lambda: None,
    ) -> None:
        self._session = session
        self._exchange = exchange
        self._share_now = share

    async def run(self, line: str) -> Shown:
        """Do what `line` says.

        Raises:
            UsageError: it is no command.
            FileRefused, RequestRefused, SandboxDied: see `Exchange` and `SandboxSession`.
        """
        command = parse(line)
        match command.verb:
            case "files":
                return await self._files()
            case "get":
                return await self._get(command)
            case "put":
                return await self._put(command)
            case "status":
                return await self._status()
            case "share":
                return self._share(command)
        return _help()

    @property
    def _host(self) -> Exchange:
        if self._exchange is None:
            try:
                self._exchange = Exchange(remedy=_OVERWRITE)
            except OSError as error:
                raise FileRefused(
                    f"The kernel's working directory cannot be opened: {error.strerror}. "
                    "Start the kernel in a directory that exists."
                ) from None
        return self._exchange

    async def _files(self) -> Shown:
        entries = sorted(await self._session.files.list(), key=lambda entry: entry.name)
        if not entries:
            return Shown("The workspace has no files.")
        rows = [(show(e.name), format_size(e.size), _date(e.mtime_s)) for e in entries[:MAX_ROWS]]
        if len(entries) > MAX_ROWS:
            rows.append((f"… and {len(entries) - MAX_ROWS} more", "", ""))
        return _table(("name", "size", "changed"), rows)

    async def _get(self, command: Command) -> Shown:
        name = command.arguments[0]
        host_path = command.arguments[-1] if len(command.arguments) > 1 else name.split("/")[-1]
        if host_path.endswith("/"):
            host_path += name.split("/")[-1]
        overwrite = command.allow_overwrite
        self._host.check(host_path, allow_overwrite=overwrite)
        limit = min(MAX_BYTES, self._session.limits.workspace_bytes)
        try:
            content = await self._session.files.read(name, limit_bytes=limit)
        except RequestRefused as refused:
            raise RequestRefused(f"{show(name)} was not copied. {refused}") from None
        written = self._host.write(host_path, content, allow_overwrite=overwrite)
        return Shown(f"{show(name)} ({format_size(len(content))}) was copied to {show(written)}.")

    async def _put(self, command: Command) -> Shown:
        host_path = command.arguments[0]
        name = command.arguments[1] if len(command.arguments) > 1 else host_path.split("/")[-1]
        limit = min(MAX_BYTES, self._session.limits.workspace_bytes)
        try:
            content = self._host.read(host_path, limit_bytes=limit)
        except FileTooLarge as error:
            raise FileTooLarge(
                f"{error} The workspace has room for {format_size(limit)}."
            ) from None
        await self._session.files.write(name, content)
        return Shown(
            f"{show(host_path)} ({format_size(len(content))}) was copied to {show(name)} "
            "in the workspace."
        )

    async def _status(self) -> Shown:
        found = await self._session.status()
        drivers = self._share_now()
        shared = drivers.rows() if drivers is not None else [("session id", "not shared")]
        return _table(("sandbox", ""), [*status_rows(found, self._session.limits), *shared])

    def _share(self, command: Command) -> Shown:
        if command.arguments not in ([], ["off"]):
            raise UsageError(f"{MAGIC} share takes off, or nothing.")
        drivers = self._share_now()
        if drivers is None:
            return Shown(
                "This session is not shared: the setting share is off. Its owner turns it on in "
                "the kernelspec (--share on), the environment or the settings file."
            )
        if command.arguments:
            drivers.close("The notebook's reader ended the sharing.")
        return Shown(drivers.sentence())


def status_rows(found: Json, limits: Limits) -> list[tuple[str, ...]]:
    """What `SandboxSession.status` says, beside the limits, for a reader."""
    runner = found.get("runner")
    runner = runner if isinstance(runner, dict) else {}
    memory = f"{_size(found, 'memory_bytes')} of {format_size(limits.memory_bytes)}"
    files = f"{_size(found, 'workspace_used_bytes')} of {format_size(limits.workspace_bytes)}"
    inodes = f"{_count(found, 'workspace_inodes_used')} of {limits.workspace_inodes}"
    timeout = "none" if limits.timeout_s is None else f"{limits.timeout_s:g} s"
    return [
        ("boundary", show(str(found.get("boundary") or "unknown"))),
        ("memory", f"{memory}, peak {_size(found, 'peak_memory_bytes')}"),
        ("CPUs", f"{limits.cpus:g}"),
        ("processes", f"{_count(found, 'processes')} of {limits.processes}"),
        ("workspace", f"{files}, {inodes} files and directories"),
        ("output of a cell", format_size(limits.output_bytes) if limits.output_bytes else "all"),
        ("cell timeout", timeout),
        ("runner", f"generation {_count(runner, 'generation')}"),
        ("up for", f"{_count(found, 'uptime_s')} s"),
    ]


def show(name: str) -> str:
    """`name` with nothing unprintable (breaks, escapes, reversing marks), not endless."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return clean if len(clean) <= 300 else clean[:300] + "…"


def _help() -> Shown:
    rows = [
        (f"{MAGIC} {verb} {usage}".strip(), text) for verb, (_, _, usage, text) in _COMMANDS.items()
    ]
    return _table(("command", "what it does"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Shown:
    from html import escape

    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    html = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Shown(text, html)


def _size(found: Json, key: str) -> str:
    value = found.get(key)
    is_size = isinstance(value, int | float) and 0 <= value < 2**60
    return format_size(value) if is_size and value is not None else "?"


def _count(found: Json, key: str) -> str:
    value = found.get(key)
    is_count = isinstance(value, int | float) and 0 <= value < 10**15
    return f"{value:.0f}" if is_count and value is not None else "?"


def _date(time_s: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
    except (ValueError, OverflowError, OSError):
        return "?"
