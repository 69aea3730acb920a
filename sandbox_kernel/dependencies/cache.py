"""Where installed packages are kept, and whether nobody else can change them there.

Rule: what a guest imports was written by nobody but this user's own builders. Where that is
not certain, nothing is kept or found.
"""

from __future__ import annotations

import os
import stat

from sandbox_kernel.errors import DependencyFailed


def root() -> str:
    """Where all of it is; the directory may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "sandbox-kernel", "dependencies")


def problem() -> str:
    """Why other users of this machine could change what is kept there, in a sentence, or "".

    What is ours and too open is closed. The cache itself may be root's, or open to all where
    nobody can rename what is another's.
    """
    where, us = root(), os.geteuid()
    cache = os.path.dirname(os.path.dirname(where))
    try:
        found = os.stat(cache)
    except OSError:
        return ""  # who makes it says why that cannot be
    is_open = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if is_open or found.st_uid not in (us, 0):
        return _distrusted(cache)
    parts = (os.path.join(where, part) for part in ("records", "building", "layers"))
    for path in (os.path.dirname(where), where, *parts):
        try:
            own, found = os.lstat(path), os.stat(path)
            if (own.st_uid, found.st_uid) != (us, us):
                return _distrusted(path)
            if found.st_mode & 0o022:
                os.chmod(path, stat.S_IMODE(found.st_mode) & ~0o022)
        except OSError:
            continue
    return ""


def require_trust() -> None:
    """
    Raises:
        DependencyFailed: other users could change what is kept there.
    """
    if told := problem():
        raise DependencyFailed(told)


def _distrusted(path: str) -> str:
    return (
        f"Packages are kept below {path}, which another user of this machine can change. Set "
        "XDG_CACHE_HOME to a directory of your own."
    )
