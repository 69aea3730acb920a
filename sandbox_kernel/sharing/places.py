"""Where live sessions are found: a socket each, in a directory that is its user's alone.

Rule 1: a directory is looked at after it was opened, and used by its descriptor: who swaps
        it for another one meanwhile gets nowhere. It also makes long paths short, of which
        a socket's may have 107 bytes.
Rule 2: what is not certain is refused: a directory that others may enter, a peer whose user
        cannot be told or that lives in another user namespace, as guests do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

DIRECTORY = "sandbox-kernel"
ENDING = ".sock"
# For messages about one that isn't.
LIVE_ONES = "`sandbox-kernel list --sessions` shows those that are live."
_ID = re.compile(r"[0-9a-f]{32}")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: `struct ucred` of Linux


class Place(NamedTuple):
    """A directory that was looked at. Whoever opened it closes `descriptor`."""

    path: str
    descriptor: int

    def address(self, name: str) -> str:
        """What to bind or connect to for the socket `name`."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    def ids(self) -> list[str]:
        """Of the sessions that have a socket here, dead or alive."""
        names = (name.removesuffix(ENDING) for name in sorted(os.listdir(self.descriptor)))
        return [name for name in names if is_id(name)]

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


def new_id() -> str:
    """128 bits that nobody guesses."""
    return os.urandom(16).hex()


def is_id(text: str) -> bool:
    """Whether `text` has the form of a session's id: safe as part of a file name."""
    return _ID.fullmatch(text) is not None


# -- directories


def bases(environ: Mapping[str, str]) -> list[str]:
    """Directories whose `sandbox-kernel` may hold sockets, the preferred one first.

    Kernel and program may have been started from different logins, with other variables.
    So the programs look into all of these.
    """
    return list(dict.fromkeys([*_of_login(environ), *_of_jupyter(environ)]))


def _of_login(environ: Mapping[str, str]) -> list[str]:
    found = [environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"]
    return [path for path in found if os.path.isabs(path)]


def _of_jupyter(environ: Mapping[str, str]) -> list[str]:
    """As `jupyter_core.paths.jupyter_runtime_dir`, whose import takes longer than all this."""
    home = environ.get("HOME") or os.path.expanduser("~")
    data = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    found = [
        environ.get("JUPYTER_RUNTIME_DIR", ""),
        os.path.join(environ.get("JUPYTER_DATA_DIR") or os.path.join(data, "jupyter"), "runtime"),
        os.path.join(home, ".local", "share", "jupyter", "runtime"),
    ]
    return [path for path in found if os.path.isabs(path)]


def make(environ: Mapping[str, str] = os.environ) -> Place:
    """The place for a new session, made where it isn't there.

    Raises:
        OSError: none of them can be used; the message says why for the last.
    """
    problem = OSError(errno.ENOENT, "no directory is named for it")
    for base in bases(environ):
        try:
            if base in _of_jupyter(environ):  # a login's is there, or it isn't one
                os.makedirs(base, mode=0o700, exist_ok=True)
            return _made(base)
        except OSError as error:
            problem = error
    raise problem


def _made(base: str) -> Place:
    status = os.stat(base)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "others may write to it", base)
    path = os.path.join(base, DIRECTORY)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
    return opened(path)


def opened(path: str) -> Place:
    """The directory at `path`.

    Raises:
        OSError: it is not there, or not its user's alone.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is not its user's alone (mode 0700)", path)
    return Place(path, descriptor)


@contextlib.contextmanager
def existing(environ: Mapping[str, str] = os.environ) -> Iterator[list[Place]]:
    """Every place that is there and can be trusted."""
    found: list[Place] = []
    try:
        for base in bases(environ):
            with contextlib.suppress(OSError):
                found.append(opened(os.path.join(base, DIRECTORY)))
        yield found
    finally:
        for place in found:
            place.close()


# -- sockets


def listening(place: Place, session_id: str) -> socket.socket:
    """A socket that listens for drivers of `session_id`. There is no moment at which it is
    seen before it listens, so a socket that refuses is a dead one for certain.

    Raises:
        OSError: it cannot be made.
    """
    draft = f"{session_id}.new"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # before bind: then it never had another mode
        listener.bind(place.address(draft))
        os.chmod(draft, 0o600, dir_fd=place.descriptor)
        listener.listen(64)
        ends = {"src_dir_fd": place.descriptor, "dst_dir_fd": place.descriptor}
        os.rename(draft, session_id + ENDING, **ends)
    except BaseException:
        listener.close()
        place.remove(draft)
        raise
    return listener


def connected(place: Place, session_id: str) -> socket.socket | None:
    """A socket joined to the kernel of `session_id`, None if it is not here or dead.

    What a dead kernel left is removed. Blocks for no longer than the peer's queue is full.

    Raises:
        OSError: it is there, and we may not, or it has no room.
    """
    name = session_id + ENDING
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        peer.setblocking(False)
        peer.connect(place.address(name))
        if why := stranger(peer):
            raise PermissionError(errno.EPERM, why, os.path.join(place.path, name))
    except OSError as error:
        peer.close()
        if error.errno == errno.ECONNREFUSED:
            place.remove(name)
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
            return None
        raise
    return peer


def stranger(peer: socket.socket) -> str:
    """Why whoever is at the other end of `peer` has no business here, or ""."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != os.geteuid():
        return f"it belongs to the user {uid}"
    try:
        theirs = os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return "it cannot be told whose it is"
    if theirs != os.readlink("/proc/self/ns/user"):
        return "it lives in another user namespace, as sandboxes do"
    return ""


def peer_pid(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[0])
