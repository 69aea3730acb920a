"""Files between the host and a sandbox, by host paths that nobody can bend.

A model may have written the cell that says `%sandbox get a.csv ../../.bashrc`. So a host
path is a name beneath one directory, the notebook's, and is walked one component at a
time, each opened without following links. Nobody who swaps a component for a symlink
meanwhile gets anywhere: what was opened stays what it was.

Rule 1: `plan` is pure and refuses names; `Exchange` does the I/O and refuses what is there.
Rule 2: nothing is overwritten unasked, nothing is made executable, no directory is made
        unasked, and only regular files are read.
Rule 3: no file is written that a program of the host's would run by itself (see
        `_RUN_BY_THEMSELVES`), and nothing hidden is read or written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator

from sandbox_kernel.errors import FileRefused, FileTooLarge
from sandbox_kernel.limits import format_size

# One file at a time passes through the host's memory.
MAX_BYTES = 256 * 1024 * 1024
MAX_COMPONENTS = 32
MAX_COMPONENT_BYTES = 255  # of every file system in use
_MODE = 0o644
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC

# What Python, Jupyter, IPython, pytest or a desktop run or load without being told to, by
# glob, lower case. Hidden files (.bashrc, .git/hooks, .ipython) are refused by their dot.
_RUN_BY_THEMSELVES = (
    ("*.pth", "Python runs it at every start"),
    ("*.egg-link", "Python follows it at every start"),
    ("sitecustomize.py*", "Python runs it at every start"),
    ("usercustomize.py*", "Python runs it at every start"),
    ("conftest.py*", "pytest runs it"),
    ("__init__.py*", "Python runs it when the directory is imported"),
    ("__main__.py*", "Python runs it when the directory is run"),
    ("jupyter_*config.py", "Jupyter runs it at its start"),
    ("jupyter_*config.json", "Jupyter reads it at its start"),
    ("ipython_*config.py", "IPython runs it at its start"),
    ("kernel.json", "Jupyter starts the program it names"),
    ("*.desktop", "desktops start the program it names"),
)
# A module of that name here is imported in place of the real one by programs started here.
_MODULE_ENDINGS = (".py", ".pyc", ".pyw", ".so", ".pyd", ".zip")


def plan(host_path: str, root: str) -> list[str]:
    """The components of `host_path` beneath the directory `root`, the file's name last.

    Args:
        host_path: relative to `root`, or absolute and within it.
        root: absolute; only compared, never opened.

    Raises:
        FileRefused: it leads out of `root`, or a component is hidden or unprintable.
    """
    if host_path.startswith("/"):
        inside = root.rstrip("/") + "/"
        if not host_path.startswith(inside):
            raise _refused(host_path, f"it is not beneath {root}", "Choose a place beneath it.")
        host_path = host_path[len(inside) :]
    parts = [part for part in host_path.split("/") if part not in ("", ".")]
    if not parts or host_path.endswith("/"):
        raise _refused(host_path, "it names no file", "Add the file's name.")
    if len(parts) > MAX_COMPONENTS:
        raise _refused(host_path, f"it is over {MAX_COMPONENTS} directories deep", "Shorten it.")
    for part in parts:
        _check_component(host_path, part)
    return parts


def _check_component(host_path: str, part: str) -> None:
    if part == "..":
        raise _refused(host_path, "it has a '..'", "Name a place beneath the notebook's directory.")
    if part.startswith("."):
        raise _refused(host_path, f"{_shown(part)} is hidden", "Choose a name without the dot.")
    if part.startswith(("-", "~")):
        raise _refused(
            host_path, f"{_shown(part)} begins with {part[0]!r}", "Choose a name that does not."
        )
    # Also refuses line breaks, escape sequences, marks that reverse text, and lone surrogates.
    if not part.isprintable():
        raise _refused(host_path, "it has characters that cannot be shown", "Choose another name.")
    if len(part.encode("utf-8", "replace")) > MAX_COMPONENT_BYTES:
        raise _refused(
            host_path, f"a name in it is over {MAX_COMPONENT_BYTES} bytes", "Shorten it."
        )


def refuse_what_runs(name: str) -> None:
    """Refuse to write a file called `name` if the host would run or import it by itself.

    Raises:
        FileRefused: the message says what would run it.
    """
    from fnmatch import fnmatchcase

    lowered = name.lower()
    for pattern, reason in _RUN_BY_THEMSELVES:
        if fnmatchcase(lowered, pattern):
            raise _refused(name, reason, "Choose another name.")
    stem, dot, _ = name.partition(".")
    if dot and lowered.endswith(_MODULE_ENDINGS) and _is_module(stem):
        raise _refused(
            name,
            f"programs started in this directory would import it in place of {stem}",
            "Choose another name.",
        )


def _is_module(stem: str) -> bool:
    if stem in sys.stdlib_module_names:
        return True
    from importlib.machinery import PathFinder

    # Absolute directories only: "" would find the file that is to be replaced.
    places = [place for place in sys.path if place.startswith("/") and place != os.getcwd()]
    try:
        return PathFinder.find_spec(stem, places) is not None
    except (ImportError, ValueError, OSError):
        return False


class Exchange:
    """Writes and reads host files beneath one directory.

    Args:
        root: absolute path of that directory; the working directory if None. It is opened
            once, so that nobody replaces it later.
        remedy: what a reader does when a file exists already.
    """

    def __init__(
        self, root: str | None = None, *, remedy: str = "Choose another name, or remove it."
    ) -> None:
        self._remedy = remedy
        self.root = os.path.realpath(root or os.getcwd())
        self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._root)

    def check(self, host_path: str, *, allow_overwrite: bool = False) -> None:
        """Refuse early what `write` would refuse, before a large file is fetched.

        Raises:
            FileRefused: see `write`.
        """
        parts = plan(host_path, self.root)
        refuse_what_runs(parts[-1])
        with self._directory(host_path, parts) as directory:
            try:
                _check_target(host_path, parts[-1], directory, allow_overwrite)
            except FileExistsError:
                raise self._exists(host_path) from None

    def write(
        self,
        host_path: str,
        content: bytes,
        *,
        allow_overwrite: bool = False,
        allow_new_directories: bool = False,
    ) -> str:
        """Write a new file, whole or not at all; returns its path relative to the root.

        Raises:
            FileRefused: the path (see `plan`), a name the host would run, a file that is
                there already, a link or something else in the way, a full disk.
        """
        parts = plan(host_path, self.root)
        refuse_what_runs(parts[-1])
        with self._directory(host_path, parts, allow_new=allow_new_directories) as directory:
            try:
                _check_target(host_path, parts[-1], directory, allow_overwrite)
                _place(directory, parts[-1], content, allow_overwrite)
            except FileExistsError:
                raise self._exists(host_path) from None
            except OSError as error:
                raise _failed(host_path, error) from None
        return "/".join(parts)

    def read(self, host_path: str, *, limit_bytes: int = MAX_BYTES) -> bytes:
        """The content of a regular file.

        Raises:
            FileRefused: the path (see `plan`), or no regular file is there.
            FileTooLarge: it is over `limit_bytes`.
        """
        parts = plan(host_path, self.root)
        with self._directory(host_path, parts) as directory:
            try:
                # O_NONBLOCK: opening a FIFO must not wait for its writer.
                handle = os.open(
                    parts[-1], os.O_RDONLY | os.O_NONBLOCK | _NO_LINK, dir_fd=directory
                )
            except OSError as error:
                raise _failed(host_path, error) from None
        try:
            size, content = _read_regular(handle, limit_bytes)
        except OSError as error:
            raise _failed(host_path, error) from None
        finally:
            os.close(handle)
        if content is None:
            raise _refused(host_path, "it is no regular file", "Choose a regular file.")
        if max(size, len(content)) > limit_bytes:
            raise FileTooLarge(
                f"The file {_shown(host_path)} is over the limit of {format_size(limit_bytes)}. "
                "Split it."
            )
        return content

    def _exists(self, host_path: str) -> FileRefused:
        return _refused(host_path, "that file exists and is not overwritten", self._remedy)

    @contextlib.contextmanager
    def _directory(
        self, host_path: str, parts: list[str], *, allow_new: bool = False
    ) -> Iterator[int]:
        """The directory that holds the last of `parts`, opened without following a link."""
        handle = os.dup(self._root)
        try:
            for part in parts[:-1]:
                try:
                    if allow_new:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, dir_fd=handle)
                    inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=handle)
                except OSError as error:
                    raise _failed(host_path, error) from None
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)


def _read_regular(handle: int, limit_bytes: int) -> tuple[int, bytes | None]:
    """Size and content, one byte more than the limit at most; None for what is no file."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        return 0, None
    if found.st_size > limit_bytes:
        return found.st_size, b""
    # It may grow while it is read: the size alone proves nothing.
    with os.fdopen(handle, "rb", closefd=False) as file:
        return found.st_size, file.read(limit_bytes + 1)


def _check_target(host_path: str, name: str, directory: int, allow_overwrite: bool) -> None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(host_path, error) from None
    if not stat.S_ISREG(found.st_mode):
        raise _refused(
            host_path, "something that is no regular file is there", "Choose another name."
        )
    if not allow_overwrite:
        raise FileExistsError


def _place(directory: int, name: str, content: bytes, allow_overwrite: bool) -> None:
    """Write beside the target, then give it its name in one step."""
    temporary = f"sandbox-{os.urandom(8).hex()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
    try:
        with os.fdopen(os.open(temporary, flags, _MODE, dir_fd=directory), "wb") as file:
            file.write(content)
        if allow_overwrite:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            _name_unless_taken(directory, temporary, name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)


def _name_unless_taken(directory: int, temporary: str, name: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without hard links: claim the name, then replace our own empty file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
        os.close(os.open(name, flags, _MODE, dir_fd=directory))
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


# --- what goes wrong ------------------------------------------------------------------


def _refused(host_path: str, reason: str, remedy: str) -> FileRefused:
    return FileRefused(f"The host path {_shown(host_path)} is refused: {reason}. {remedy}")


def _failed(host_path: str, error: OSError) -> FileRefused:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return _refused(
            host_path, "a part of it is a symbolic link or no directory", "Name the real place."
        )
    if error.errno == errno.ENOENT:
        return _refused(host_path, "it, or a directory in it, does not exist", "Make it first.")
    return _refused(host_path, (error.strerror or "it failed").lower(), "Choose another place.")


def _shown(text: str) -> str:
    """`text` for a message: quoted, nothing unprintable, not endless."""
    return repr(text if len(text) <= 200 else text[:200] + "…")
