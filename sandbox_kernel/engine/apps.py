"""Runs a project: several files, its dependencies, and the file that starts it.

The files go to the root of the workspace, and the entry runs there as its language runs a
file: `python3 main.py`, `node src/server.js`.

Rule 1: of a host directory only regular files below it go in: no link leads out of it, and
nothing hidden goes unless the caller says so (`.env`, `.npmrc` and the like hold secrets).
Rule 2: how much is bounded, and what is left out is a list here; all else is refused by name.
Rule 3: packages are asked for as a cell asks for them: by the same grammar and policy.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.engine import shell
from sandbox_kernel.engine.choices import check_is, list_of
from sandbox_kernel.engine.files import as_bytes
from sandbox_kernel.errors import DependencyRefused, FileRefused, FileTooLarge, SettingsError
from sandbox_kernel.limits import MIB, format_size

if TYPE_CHECKING:
    from sandbox_kernel.engine.results import Result
    from sandbox_kernel.engine.session import Session
    from sandbox_kernel.languages import Language

# A project that somebody writes by hand, with its pictures. They pass through our memory.
MAX_FILES = 2000
MAX_BYTES = 64 * MIB
_MAX_DEPTH = 16
_MAX_COMPONENT_BYTES = 255
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
# Linux takes 128 KiB as one argument.
_MAX_COMMAND_BYTES = 100_000
# Made from the project by its tools: there they would be wrong, or too much.
_LEFT_OUT = frozenset({"node_modules", "__pycache__", ".git", ".hg", ".svn", ".DS_Store"})
_VENV = "pyvenv.cfg"
_MORE_EXTENSIONS = {
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".mts": "typescript",
    ".cts": "typescript",
}
# What `import` of ES modules looks for; NODE_PATH is for `require` only.
_LINK_MODULES = (
    'if [ -n "$NODE_PATH" ] && { [ -L node_modules ] || [ ! -e node_modules ]; }; then\n'
    '    ln -sfn "${NODE_PATH%%:*}" node_modules\nfi\n'
)

Files = dict[str, bytes]


async def run_app(
    session: Session,
    source: str | Path | Mapping[str, bytes | str],
    *,
    entry: str,
    arguments: Sequence[str] = (),
    language: str | None = None,
    dependencies: Iterable[str] | str = (),
    background: bool = False,
    allow_hidden: bool = False,
    stdin: str | None = None,
    **options: Any,
) -> Result:
    """Run the project in `source` from its file `entry`; `exit_code` is the program's.

    Args:
        source: a directory of this host, which is copied, or names and contents of files.
        arguments: what the program gets.
        stdin: all that it reads there; it is not asked line by line, as a cell is.
        language: default: what the ending of `entry` says.
        dependencies: packages, or "auto": those in the project's `requirements.txt` and in
            the `dependencies` of its `package.json`.
        background: leave it running and return at once, as `shell.run_command` says.
        allow_hidden: copy what begins with a dot as well.
        options: as `Session.execute` has them: `on_stdout`, `timeout_s` and so on.

    Raises:
        FileRefused, FileTooLarge: a file of the project, or a name.
        DependencyRefused: a package that may not be had, or is none.
        SettingsError: no language, or no such entry.
        and as `Session.execute`.
    """
    check_is("source", source, str | Path | Mapping, "a directory, or names and contents of files")
    check_is("stdin", stdin, str | None, "a text")
    if isinstance(source, Mapping):
        files = from_mapping(source)
    else:
        files = await asyncio.to_thread(from_directory, Path(source), allow_hidden=allow_hidden)
    if entry not in files:
        some = ", ".join(sorted(files)[:10]) or "nothing"
        raise SettingsError(f"The project has no file {entry!r} to start with; it has {some}.")
    chosen = languages.get(_language_of(entry, language, session.language))
    if dependencies == "auto":
        dependencies = wanted_packages(files)
    elif isinstance(dependencies, str):
        raise SettingsError(f"dependencies is {dependencies!r}; give a list of names, or 'auto'.")
    command = command_for(chosen, entry, arguments)
    if stdin:
        name = f".stdin-{secrets.token_hex(4)}"
        files[name] = as_bytes(name, stdin)
        # Gone before the program begins, which has it open.
        command = f"exec <{name}\nrm -f {name}\n{command}"
    if background:
        await shell.require_background(session)
        command = shell.in_background(command)
    result = await session.execute(
        command, language=languages.SHELL, files=files, dependencies=dependencies, **options
    )
    return shell.with_pid(result) if background else result


# --- how it is run ----------------------------------------------------------------------


def command_for(language: Language, entry: str, arguments: Sequence[str] = ()) -> str:
    """The shell command that becomes the program.

    Raises:
        SettingsError: the arguments are too long, or none.
    """
    # A name such as -c.py is no option.
    argv = language.run_command(f"./{entry}" if entry.startswith("-") else entry)
    programs = language.programs if argv[0] == language.command[0] else argv[:1]
    words = [*argv[1:], *list_of(arguments)]
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise SettingsError("An argument of the program is no text, or holds a NUL character.")
    quoted = " ".join(map(shlex.quote, words))
    if len(quoted.encode()) > _MAX_COMMAND_BYTES:
        limit = format_size(_MAX_COMMAND_BYTES)
        raise SettingsError(f"The program's arguments are over {limit}. Use a file.")
    missing = f"There is no {programs[0]} in this sandbox. {language.remedy}".strip()
    return (
        f"{_LINK_MODULES if language.ecosystem == 'npm' else ''}"
        f"for program in {' '.join(map(shlex.quote, programs))}; do\n"
        f'    command -v "$program" >/dev/null 2>&1 && exec "$program" {quoted}\n'
        f"done\n"
        f"echo {shlex.quote(missing)} >&2\nexit 127\n"
    )


def _language_of(entry: str, language: str | None, own: str) -> str:
    if language is not None:
        return languages.named(language)
    ending = os.path.splitext(entry)[1].lower()
    # The session's own comes first: Deno and Node both run TypeScript.
    for name in (own, *languages.names()):
        if ending and languages.get(name).file_extension.lower() == ending:
            return name
    if ending in _MORE_EXTENSIONS:
        return _MORE_EXTENSIONS[ending]
    raise SettingsError(f"The name {entry!r} tells of no language. Name one: language='python'.")


# --- its packages -----------------------------------------------------------------------


def wanted_packages(files: Mapping[str, bytes]) -> list[str]:
    """What the project says that it needs, as texts for `Session.execute`.

    Raises:
        DependencyRefused: `package.json` is none. What is no package is refused later.
    """
    lines = files.get("requirements.txt", b"").decode("utf-8", "replace").splitlines()
    plain = (line.split(" #")[0].strip() for line in lines)
    wanted = [f"pip:{line}" for line in plain if line and not line.startswith("#")]
    if "package.json" in files:
        wanted += _npm_packages(files["package.json"])
    return wanted


def _npm_packages(content: bytes) -> Iterator[str]:
    try:
        project = json.loads(content)
    except (ValueError, RecursionError):
        raise DependencyRefused("The project's package.json is no JSON. Correct it.") from None
    asked = project.get("dependencies", {}) if isinstance(project, dict) else None
    if not isinstance(asked, dict) or not all(isinstance(item, str) for item in asked.values()):
        raise DependencyRefused(
            "The dependencies in the project's package.json are no names and versions. Correct it."
        )
    for name, versions in asked.items():
        yield f"npm:{name}@{versions}" if versions.strip() else f"npm:{name}"


# --- its files --------------------------------------------------------------------------


def from_mapping(source: Mapping[str, bytes | str]) -> Files:
    """
    Raises:
        FileRefused, FileTooLarge: a name that leads elsewhere, or too much.
    """
    found: Files = {}
    total = 0
    for name, content in source.items():
        _check_name(name)
        found[name] = as_bytes(name, content)
        total += len(found[name])
        _check_amount(len(found), total)
    return found


def from_directory(root: Path, *, allow_hidden: bool = False) -> Files:
    """The files below `root`, by their paths relative to it. Blocks.

    Raises:
        FileRefused: there is no such directory, or something in it is no file.
        FileTooLarge: too many files, or too much in them.
    """
    if not root.is_dir():
        raise FileRefused(f"There is no directory {str(root)!r} on this host. Name the project's.")
    found: Files = {}
    total = 0
    top = os.path.realpath(root)
    with _opened(top) as directory:
        for name, path in _walk(top, allow_hidden):
            _check_name(name)
            parts = os.path.relpath(path, top).split("/")
            found[name] = _content(name, directory, parts, MAX_BYTES - total)
            total += len(found[name])
            _check_amount(len(found), total)
    return found


@contextmanager
def _opened(name: str, inside: int | None = None) -> Iterator[int]:
    """The directory `name`, which is no link, in the directory that is open as `inside`."""
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=inside)
    try:
        yield handle
    finally:
        os.close(handle)


def _walk(root: str, allow_hidden: bool) -> Iterator[tuple[str, str]]:
    """(relative name, path to open) of each file, without following a link to a directory."""
    pending = [("", root, 1)]
    while pending:
        prefix, directory, depth = pending.pop()
        for entry in _listed(directory, prefix):
            name = prefix + entry.name
            is_hidden = entry.name.startswith(".") and not allow_hidden
            if is_hidden or entry.name in _LEFT_OUT:
                continue
            if entry.is_dir(follow_symlinks=False):
                if os.path.exists(os.path.join(entry.path, _VENV)):
                    continue  # a virtual environment: of this host's Python
                if depth >= _MAX_DEPTH:
                    raise _refused(name, f"it is over {_MAX_DEPTH} directories deep")
                pending.append((f"{name}/", entry.path, depth + 1))
            elif entry.is_symlink():
                yield name, _target(name, entry.path, root)
            else:
                yield name, entry.path


def _listed(directory: str, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _refused(prefix or directory, (error.strerror or "it failed").lower()) from None


def _target(name: str, path: str, root: str) -> str:
    target = os.path.realpath(path)
    if os.path.commonpath((root, target)) != root:
        raise _refused(name, "it is a link that leads out of the project")
    if os.path.isdir(target):
        raise _refused(name, "it is a link to a directory")
    return target


def _content(name: str, directory: int, parts: Sequence[str], limit: int) -> bytes:
    """The whole file; one byte over `limit` at most.

    No component is a link: a guest may change a project that is mounted in its sandbox, and
    swap a directory for a link to one of the host's between our look and this.
    """
    try:
        with ExitStack() as stack:
            for part in parts[:-1]:
                directory = stack.enter_context(_opened(part, directory))
            # O_NONBLOCK: opening a FIFO must not wait for its writer.
            flags = os.O_RDONLY | os.O_NONBLOCK | _NO_LINK
            handle = os.open(parts[-1], flags, dir_fd=directory)
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise _refused(name, "it is no regular file")
                return file.read(limit + 1)
    except OSError as error:
        raise _refused(name, (error.strerror or "it failed").lower()) from None


def _check_name(name: str) -> None:
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise _refused(name, "it is no path below the project, with '/' between names")
    # Also line breaks, escape sequences, marks that reverse text, and lone surrogates.
    if not name.isprintable():
        raise _refused(name, "it has characters that cannot be shown")
    if any(len(part.encode()) > _MAX_COMPONENT_BYTES for part in parts):
        raise _refused(name, f"a name in it is over {_MAX_COMPONENT_BYTES} bytes")
    if len(parts) > _MAX_DEPTH:
        raise _refused(name, f"it is over {_MAX_DEPTH} directories deep")


def _check_amount(count: int, total: int) -> None:
    if count > MAX_FILES:
        raise FileTooLarge(
            f"The project has over {MAX_FILES} files. Give the directory of its sources only."
        )
    if total > MAX_BYTES:
        raise FileTooLarge(
            f"The files of the project are over {format_size(MAX_BYTES)}. Copy large ones by "
            "session.files.copy_in, or mount them."
        )


def _refused(name: object, reason: str) -> FileRefused:
    shown = repr(name) if len(repr(name)) <= 200 else repr(name)[:200] + "…"
    return FileRefused(f"The project's {shown} is refused: {reason}. Rename it, or leave it out.")
