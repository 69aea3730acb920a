"""What of the host an owner may show to a guest, and what never.

`parse` reads the setting; `check` looks at this machine and refuses; `host_config` is what
the engine is told. The owner of a kernel chooses mounts and no cell can; so these refusals
guard owners against mistakes which would hand the host to a guest: a home with its keys, an
engine's socket, the files that hold Jupyter's keys or that the host will run.

Rule 1: named directories only. A path is judged as given and as resolved, and the engine gets
the resolved one.
Rule 2: only what is mounted at that very directory is shown: a second filesystem below it
would come along with its own rights, writable under a read-only mount. It is refused.
Rule 3: a mount hides nothing that a sandbox is made of, nor another mount.

Rule 4: no link on the way but root's: a guest that may write to a directory could have put a
link there, for the next guest to be shown what lies behind it.

What remains: between our look and the engine's, whoever may rename things on the way to the
directory can put a link in its place. So no directory on the way may be writable for others,
and of one kernel's mounts none lies in another that is writable. Two kernels of one owner can
still be set up so that the second's directory lies in the first's writable one. Access lists
(ACLs) are not looked at; nor are sockets that somebody puts into a mounted directory; nor what
programs of the host run by themselves out of a writable one (`.git/hooks`, `conftest.py`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

from sandbox_kernel.backends.base import Mount
from sandbox_kernel.backends.docker import forbidden
from sandbox_kernel.backends.docker.forbidden import is_in
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import GIB, parse_size

_FORM = "Write HOST:GUEST, HOST:GUEST:rw, or tmpfs:GUEST:SIZE"
_CHOOSE_HOST = "Make a directory of its own for what the guest may see, and mount that"
_CHOOSE_GUEST = "Choose another place inside, such as /data or /workspace/data"
# Longer than any path that a kernel takes.
_MAX_PATH = 4095
# As many as a kernel follows; what needs more is a loop, and no directory.
_MAX_LINKS = 40
# Counted towards the memory limit like all of a guest's files.
TMPFS_BYTES, TMPFS_INODES = 1 * GIB, 100_000
# Each would make the engine's start slower; nobody has so many.
MAX_MOUNTS = 32

# Inside: refused with all below, and what would hide them.
_GUEST_TREES = (
    *("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/libx32", "/opt/sandbox-kernel", "/run/sandbox-kernel"),
)
# The guest's own tmpfs: things can be mounted below them, not over them.
_GUEST_OWN = ("/workspace", "/home/sandbox", "/tmp")  # noqa: S108


# --- what is written ------------------------------------------------------------------


def parse(text: str) -> Mount:
    """`HOST:GUEST[:ro|rw]` (read-only unless it says rw) or `tmpfs:GUEST[:SIZE]`.

    Raises:
        SettingsError: it is neither, or the place inside is not one for a mount.
    """
    host, *rest = text.strip().split(":")
    if not 1 <= len(rest) <= 2 or not host or not all(rest):
        raise SettingsError(f"{text!r} is not a mount. {_FORM}.")
    if not text.isprintable() or len(text) > 2 * _MAX_PATH:
        raise SettingsError(f"{text[:200]!r} has characters that no path should have. {_FORM}.")
    guest = _guest_path(rest[0])
    last = rest[1] if len(rest) == 2 else ""
    if host == "tmpfs":
        return Mount(guest, size_bytes=_tmpfs_size(last))
    if last not in ("", "ro", "rw"):
        raise SettingsError(f"{text!r} ends with {last!r}, which is neither ro nor rw. {_FORM}.")
    return Mount(guest, host_path=_host_path(host), is_writable=last == "rw")


def parse_all(lines: Iterable[str]) -> tuple[Mount, ...]:
    """A mount a line; empty lines are none.

    Raises:
        SettingsError: a line is no mount, or two lines do not go together.
    """
    found = tuple(parse(line) for line in lines if line.strip())
    _require_apart(found)
    return found


def _tmpfs_size(text: str) -> int:
    size = parse_size(text, "the size of a tmpfs") if text else TMPFS_BYTES
    if not 4096 <= size <= 2**48:
        raise SettingsError(f"{text!r} is no size for a tmpfs. Write for example 64m.")
    return size


def _host_path(text: str) -> str:
    path = os.path.expanduser(text)
    if not path.startswith("/"):
        raise SettingsError(f"{text!r} is not an absolute path. Write the whole of it.")
    if ".." in path.split("/"):
        raise SettingsError(f"{text!r} goes up again by '..'. Write the path without it.")
    return os.path.normpath(path)


def _guest_path(path: str) -> str:
    if not path.startswith("/"):
        raise SettingsError(f"{path!r}, the place inside, is not an absolute path. {_FORM}.")
    if os.path.normpath(path) != path or path.startswith("//") or len(path) > _MAX_PATH:
        raise SettingsError(
            f"{path!r}, the place inside, is not in its shortest form. "
            f"Write {os.path.normpath('/' + path.lstrip('/'))[:200]!r}."
        )
    for tree in _GUEST_TREES:
        if is_in(path, tree):
            raise SettingsError(f"{path!r} lies in {tree} inside the sandbox. {_CHOOSE_GUEST}.")
    for place in (*_GUEST_TREES, *_GUEST_OWN):
        if is_in(place, path):
            raise SettingsError(f"{path!r} would hide {place} inside. {_CHOOSE_GUEST}.")
    return path


def _require_apart(mounts: tuple[Mount, ...]) -> None:
    """A mount in another one would make the engine, as root, write into the outer one."""
    if len(mounts) > MAX_MOUNTS:
        raise SettingsError(f"There are {len(mounts)} mounts; at most {MAX_MOUNTS} are possible.")
    paths = sorted((mount.guest_path for mount in mounts), key=lambda path: path.split("/"))
    for outer, inner in pairwise(paths):
        if is_in(inner, outer):
            raise SettingsError(
                f"Two mounts are in one place: {inner!r} and {outer!r}. "
                "Mount them beside each other."
            )


# --- what the engine is told ----------------------------------------------------------


def host_config(
    mounts: Iterable[Mount], *, is_local: bool, data_root: str = ""
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """`HostConfig.Mounts` and `HostConfig.Tmpfs` for these mounts.

    Args:
        is_local: whether the engine's machine is this one.
        data_root: where the engine keeps its own files (`DockerRootDir`).

    Raises:
        SettingsError: a mount is refused; with the reason and the remedy.
    """
    checked = check(mounts, is_local=is_local, data_root=data_root)
    binds = [_bind(mount) for mount in checked if mount.host_path is not None]
    return binds, {m.guest_path: _tmpfs(m) for m in checked if m.host_path is None}


def _bind(mount: Mount) -> dict[str, Any]:
    # Not "Binds": that would have the engine make a missing directory, as root.
    return {
        "Type": "bind",
        "Source": mount.host_path,
        "Target": mount.guest_path,
        "ReadOnly": not mount.is_writable,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }


def writer_of(binds: Iterable[dict[str, Any]]) -> tuple[int, int] | None:
    """Whose uid and gid a guest needs for its writable directories; None: it has none.

    The guest is then that user outside as well, and what it writes belongs to them.

    Raises:
        SettingsError: a directory is root's, whom no guest may be, or two are two users'.
    """
    found: dict[tuple[int, int], str] = {}
    for bind in binds:
        if not bind["ReadOnly"]:
            status = os.stat(bind["Source"])
            if status.st_uid == 0 or status.st_gid == 0:
                raise _refused(
                    bind["Source"],
                    "it is to be writable and belongs to root, whom no guest may be",
                    f"Give it to a user and group (chown 1000:1000 {bind['Source']}), or mount it "
                    "read-only",
                )
            found[status.st_uid, status.st_gid] = bind["Source"]
    if len(found) > 1:
        raise SettingsError(
            f"The writable mounts {' and '.join(found.values())} belong to different users, and a "
            "guest can be one only. Give them one owner and group, or mount some read-only."
        )
    return next(iter(found), None)


def _tmpfs(mount: Mount) -> str:
    size = mount.size_bytes or TMPFS_BYTES
    return f"rw,nosuid,nodev,exec,size={size},nr_inodes={TMPFS_INODES},mode=1777"


# --- what is there --------------------------------------------------------------------


def check(mounts: Iterable[Mount], *, is_local: bool = True, data_root: str = "") -> list[Mount]:
    """The mounts with their host paths resolved.

    Raises:
        SettingsError: a mount is refused; with the reason and the remedy.
    """
    found = tuple(mounts)
    for mount in found:
        _guest_path(mount.guest_path)
    _require_apart(found)
    checked = [
        mount
        if mount.host_path is None
        else mount._replace(host_path=_checked(mount.host_path, mount, is_local, data_root))
        for mount in found
    ]
    _require_unreachable(checked)
    return checked


def _require_unreachable(checked: Iterable[Mount]) -> None:
    """A guest that may write to a directory can exchange what lies in it."""
    places = [(m.host_path, m.is_writable) for m in checked if m.host_path is not None]
    for outer, is_writable in places:
        for inner, _ in places:
            if is_writable and inner != outer and is_in(inner, outer):
                raise _refused(
                    inner,
                    f"it lies in {outer}, which is mounted writable",
                    f"Mount {outer} only, or read-only",
                )


def _checked(given: str, mount: Mount, is_local: bool, data_root: str) -> str:
    if not is_local:
        raise _refused(
            given,
            "the engine is on another machine, whose directories cannot be judged from here",
            "Send files through the session, use a tmpfs, or run the kernel beside its engine",
        )
    if not given.startswith("/") or not given.isprintable() or ".." in given.split("/"):
        raise _refused(given, "it is not an absolute, plain path", _CHOOSE_HOST)
    resolved = os.path.realpath(given)
    # What it resolves to may be as unprintable as a link's author liked.
    if not resolved.isprintable():
        raise _refused(given, f"it resolves to {resolved!r}", _CHOOSE_HOST)
    for path in dict.fromkeys((os.path.normpath(given), resolved)):
        reason = forbidden.why_not(path, data_root, is_writable=mount.is_writable)
        if reason:
            raise _refused(given, reason, _CHOOSE_HOST)
    _require_plain_way(given, resolved)
    _require_directory(given, resolved)
    _require_steady(given, resolved)
    _require_one_filesystem(given, resolved)
    return resolved


def _refused(path: str, reason: str, remedy: str) -> SettingsError:
    return SettingsError(f"The mount of {path!r} is refused: {reason}. {remedy}.")


def _require_plain_way(given: str, resolved: str) -> None:
    """Follow `given` as the kernel does, and refuse links that are not root's."""
    here, todo, links = "/", given.split("/"), 0
    while todo and links <= _MAX_LINKS:
        name = todo.pop(0)
        if name in ("", ".", ".."):
            here = os.path.dirname(here) if name == ".." else here
            continue
        path = os.path.join(here, name)
        try:
            found = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
        except OSError:
            break  # `_require_directory` says what is not there
        if target is None:
            here = path
            continue
        if found.st_uid != 0:
            remedy = f"If you made it, write {resolved!r} instead"
            raise _refused(given, f"{path} is a link, which a guest may have made", remedy)
        links += 1
        here, todo = ("/" if target.startswith("/") else here), [*target.split("/"), *todo]


def _require_directory(given: str, resolved: str) -> None:
    try:
        found = os.stat(resolved)
    except OSError as error:
        reason = f"it cannot be looked at ({error.strerror})"
        raise _refused(given, reason, "Make that directory, or correct the path") from None
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(given, "it is not a directory", "Mount the directory that holds it")
    # By another name: bind mounts of the host show a directory in two places.
    for place in ("/", *forbidden.homes()):
        with suppress(OSError):
            if os.path.samestat(found, os.stat(place)):
                raise _refused(given, f"it is {place} by another name", _CHOOSE_HOST)


def _require_steady(given: str, resolved: str) -> None:
    """No guest can put something else in the directory's place (see the header)."""
    child = resolved
    while child != "/":
        parent = os.path.dirname(child)
        try:
            above, below = os.stat(parent), os.lstat(child)
        except OSError as error:
            reason = f"{parent} cannot be looked at ({error.strerror})"
            raise _refused(given, reason, _CHOOSE_HOST) from None
        is_sticky = above.st_mode & stat.S_ISVTX and below.st_uid in (0, os.getuid(), above.st_uid)
        is_open = above.st_mode & stat.S_IWOTH and not is_sticky
        if is_open or not _has_account(above.st_uid):
            reason = f"{parent} can be changed by others, guests among them"
            remedy = f"Take that right away (chmod o-w {parent}), or mount a directory elsewhere"
            raise _refused(given, reason, remedy)
        child = parent


def _has_account(uid: int) -> bool:
    """Guests run as users without one."""
    import pwd

    if uid in (0, os.getuid()):
        return True
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _require_one_filesystem(given: str, resolved: str) -> None:
    for point in _mount_points():
        if point != resolved and is_in(point, resolved):
            reason = f"another filesystem is mounted in it, at {point!r}"
            remedy = f"Mount {point!r} by itself, or a directory beside it"
            raise _refused(given, reason, remedy)


def _mount_points() -> Iterator[str]:
    for row in _read_mountinfo().splitlines():
        # Spaces and the like are written as octal numbers.
        yield os.fsdecode(row.split()[4].decode("unicode_escape").encode("latin-1"))


def _read_mountinfo() -> bytes:
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return file.read()
    except OSError:
        return b""  # not Linux: the engine runs in a machine of its own
