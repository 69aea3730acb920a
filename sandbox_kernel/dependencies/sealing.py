"""The files of a layer: a last look at them before every guest can see them, and their removal.

Rule: no link is followed, neither by the look nor by the removal.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from sandbox_kernel.errors import DependencyFailed

# Whoever a guest is outside, it may read and run what is in a layer.
_FILE, _PROGRAM = 0o444, 0o555


def seal(directory: str) -> tuple[int, int]:
    """Check that all below are plain files of their own, and take the right to write away.

    Gives their bytes and their number. What fills the directory has checked already; this is
    the last look before every guest can see it.

    Raises:
        DependencyFailed: there is a link, a device, or a file with the rights of another user.
    """
    size_bytes = files = 0
    for parent, directories, names in os.walk(directory, topdown=False, onerror=_raise):
        for name in (*directories, *names):
            path = os.path.join(parent, name)
            found = os.lstat(path)
            is_file = stat.S_ISREG(found.st_mode)
            if not (is_file or stat.S_ISDIR(found.st_mode)) or (is_file and found.st_nlink != 1):
                raise DependencyFailed(
                    f"An installed package has {name[:80]!r}, which is neither a directory nor a "
                    "plain file. It was not kept."
                )
            if is_file:
                size_bytes, files = size_bytes + found.st_size, files + 1
                os.chmod(path, _PROGRAM if found.st_mode & 0o111 else _FILE)
            else:
                os.chmod(path, _PROGRAM)
    # Its own right to be written is what moving it takes; `LayerStore.put` takes it away.
    os.chmod(directory, _PROGRAM | stat.S_IWUSR)
    return size_bytes, files


def _raise(error: OSError) -> None:
    raise error


def delete(path: str) -> None:
    """Remove a tree that may be read-only; nothing if it is not there."""
    for parent, directories, _ in os.walk(path):
        for name in directories:
            child = os.path.join(parent, name)
            if not os.path.islink(child):
                with suppress(OSError):
                    os.chmod(child, 0o700)
    with suppress(OSError):
        os.chmod(path, 0o700)
    import shutil

    with suppress(FileNotFoundError):
        shutil.rmtree(path)
