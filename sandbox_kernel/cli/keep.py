"""A guest's file onto the host: the one place where a name that the guest chose is a path.

Rule 1: every step down is opened relative to the one before, and follows no link: a
        symbolic link that is planted or swapped in leads nowhere.
Rule 2: nothing that exists is overwritten, and nothing hidden is made: `.git/hooks` and
        `.bashrc` are run by programs that nobody told to.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from sandbox_kernel.errors import FileRefused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The guest may nest 10,000 directories; nobody keeps those.
_DEEPEST = 32


def write_new(directory: Path, guest_name: str, content: bytes) -> Path:
    """Write `content` under `directory`, which is made when it isn't there.

    Raises:
        FileRefused: the name leaves the directory, or the file exists.
        OSError: the host cannot write there.
    """
    *parents, name = _parts(guest_name)
    directory.mkdir(parents=True, exist_ok=True)
    # The caller chose `directory`: a link there is theirs, and followed.
    here = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        for parent in parents:
            here = _descend(here, parent)
        _create(here, name, content)
    except FileExistsError:
        raise FileRefused(f"{directory / guest_name} exists and is not overwritten.") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise FileRefused(f"{directory / guest_name} would leave {directory} by a link.") from None
    finally:
        os.close(here)
    return directory / guest_name


def _parts(guest_name: str) -> list[str]:
    parts = guest_name.split("/")
    if len(parts) > _DEEPEST or any(not _is_legal(part) for part in parts):
        raise FileRefused(f"{printable(guest_name)} is no name for a file here, or hidden.")
    return parts


def _is_legal(part: str) -> bool:
    try:
        encoded = os.fsencode(part)
    except UnicodeEncodeError:
        return False
    # A leading dot is also "." and "..".
    return part != "" and part[0] != "." and "\0" not in part and len(encoded) <= 255


def _descend(here: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=here)
    below = os.open(name, _DIRECTORY, dir_fd=here)
    os.close(here)
    return below


def _create(here: int, name: str, content: bytes) -> None:
    # Never executable: nothing that a guest wrote is run by accident.
    descriptor = os.open(name, _NEW_FILE, 0o644, dir_fd=here)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def printable(text: str) -> str:
    """`text` without what could move a terminal's cursor or hide."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
