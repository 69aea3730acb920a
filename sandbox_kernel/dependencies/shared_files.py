"""Files that several processes of one user keep at once, and lock while they use them.

A lock goes with the process that held it, however that ended. A file may be replaced between
its opening and its locking: what counts is the one that is still there under its name.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress


def open_locked(path: str, how: int) -> int | None:
    """A locked descriptor of the file at `path`; None: not there, or others hold it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        if is_same(descriptor, path):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def is_same(descriptor: int, path: str) -> bool:
    """Whether the file at `path` is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def names_in(parent: str, ending: str, form: re.Pattern[str]) -> list[str]:
    """Of the files in `parent`, those named as `form` with `ending` behind; without it."""
    try:
        found = [name.removesuffix(ending) for name in os.listdir(parent) if name.endswith(ending)]
    except OSError:
        return []
    return sorted(name for name in found if form.fullmatch(name))


def unlink(path: str) -> None:
    """Remove a file; nothing if that cannot be."""
    with suppress(OSError):
        os.unlink(path)
