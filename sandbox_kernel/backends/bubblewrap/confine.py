"""What the launcher's child does between fork and bwrap, in the order of confinement.

`confine()` is the page to read: it goes from a process of the host's to one that has an
unprivileged user, its own mounts and its limits, and executes bwrap, which takes the rest
away. Standard library only, and little of it: every import delays the guest.

Why root may not simply start bwrap: bwrap as root leaves the *outer* uid 0, whatever
`--uid` says, and files of the host's /proc/sys open for writing. So root first becomes a
user that nobody else is. That user may not be able to look where Python is (a root-only
home), so the directories are bound to a staging place before the step down.
"""

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, which takes 2 ms
import fcntl
import os
import resource

from . import cgroups, libc

TYPE_CHECKING = False  # `typing` takes 5 ms to import; type checkers know this name
if TYPE_CHECKING:
    from typing import Any

    Plan = dict[str, Any]  # as `plan.make` returns it

# Descriptors 0, 1 and 2 are the guest's stream and its early stderr.
ARGUMENTS_FD, FILTER_FD, STATUS_FD = 3, 4, 5
_HIGHEST_FD = 1 << 20
_SIGPIPE, _SIGXFSZ = 13, 25
_MAX_SEED_BYTES = 16 * 1024 * 1024


def confine(plan: "Plan") -> None:
    """Become the sandbox. Returns never; raises `OSError` that says which step failed."""
    os.umask(0o022)
    # Before bwrap makes a namespace of groups, or the guest would see the group's path.
    _step("join the control group", cgroups.join, plan["groups"])
    _offer_to_oom_killer(plan["oom_score_adj"])
    if plan["uid"] is None:
        _step("make a user namespace", _enter_user_namespace, plan)
    _step("make a mount namespace", libc.unshare, libc.CLONE_NEWNS)
    _step("make the mounts private", _make_mounts_private)
    _step("stage the guest's files", _stage, plan)
    arguments, program = _memory_file(plan["arguments"]), _memory_file(plan["seccomp"])
    _set_limits(plan)
    if plan["uid"] is not None:
        _step("become an unprivileged user", _drop_root, plan["uid"])
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    _restore_signals()
    _keep_descriptors(arguments, program)
    command = [plan["bwrap"], "--args", str(ARGUMENTS_FD), "--", *plan["command"]]
    _step("execute bwrap", os.execve, plan["bwrap"], command, {})


def _step(what: str, action, *arguments) -> None:  # type: ignore[no-untyped-def]
    try:
        action(*arguments)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise OSError(error.errno, f"could not {what}: {error.strerror}{place}") from None


def _offer_to_oom_killer(score: int) -> None:
    """A machine without memory loses sandboxes before it loses the user's programs.

    As root this is also the floor below which nothing inside can set its own score.
    """
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        score = max(score, int(file.read()))
    _write_self("oom_score_adj", str(score))


def _enter_user_namespace(plan: "Plan") -> None:
    """As our own user we may mount in a namespace of our own only."""
    uid, gid = os.getuid(), os.getgid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    _write_self("setgroups", "deny")
    _write_self("uid_map", f"{uid} {uid} 1")
    _write_self("gid_map", f"{gid} {gid} 1")
    # These count per user, so a guest could use up what the user's other programs need.
    for name, value in plan["user_limits"].items():
        try:
            _write(f"/proc/sys/user/{name}", value)
        except OSError:
            continue  # an older kernel has no such limit


def _make_mounts_private() -> None:
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)


def _stage(plan: "Plan") -> None:
    """Mount a small tmpfs and build what bwrap will bind: `plan.stage` lists it in order."""
    # Opened first, by path: the staging place hides what was there, and in this namespace:
    # a mount of another one cannot be bound.
    sources = {
        entry[2]: os.open(entry[2], os.O_PATH | os.O_CLOEXEC)
        for entry in plan["stage"]
        if entry[0] == "bind"
    }
    seeds = [(name, _read_seed(path)) for name, path in plan["scratch"]["seeds"]]
    flags = libc.MS_NOSUID | libc.MS_NODEV
    libc.mount("tmpfs", plan["stage_at"], "tmpfs", flags, "size=4m,nr_inodes=4k,mode=755")
    for kind, name, value in plan["stage"]:
        path = f"{plan['stage_at']}/{name}"
        if kind == "directory":
            os.mkdir(path, 0o755)
        elif kind == "file":
            _create(path, value)
        elif kind == "link":
            os.symlink(value, path)
        else:
            _bind(sources[value], path)
    _make_scratch(plan, seeds)


def _bind(source: int, path: str) -> None:
    origin = f"/proc/self/fd/{source}"
    if os.path.isdir(origin):
        os.mkdir(path, 0o755)
    else:
        _create(path, b"")
    libc.mount(origin, path, None, libc.MS_BIND | libc.MS_REC)


def _make_scratch(plan: "Plan", seeds: "list[tuple[str, bytes | None]]") -> None:
    """The one place a guest can write to. Its directories share one size and inode limit."""
    root, scratch = f"{plan['stage_at']}/scratch", plan["scratch"]
    os.mkdir(root)
    # Every directory is an inode, too, and the root's page of each counts in bytes.
    options = f"size={scratch['bytes']},nr_inodes={scratch['inodes'] + 8},mode=755"
    libc.mount("tmpfs", root, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, options)
    for name, mode in (("workspace", 0o755), ("home", 0o700), ("tmp", 0o1777), ("shm", 0o1777)):
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
        _give(f"{root}/{name}", plan["uid"])
    for name, content in seeds:
        _seed(root, name, content, plan["uid"])


def _read_seed(path: str) -> "bytes | None":
    """A file to start with is a convenience: without it the guest makes its own."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_SEED_BYTES)
    except OSError:
        return None


def _seed(root: str, name: str, content: "bytes | None", uid: "int | None") -> None:
    if content is None:
        return
    directory = root
    for part in os.path.dirname(name).split("/"):
        directory = f"{directory}/{part}"
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o755)
            _give(directory, uid)
    _create(f"{root}/{name}", content)
    _give(f"{root}/{name}", uid)


def _give(path: str, uid: "int | None") -> None:
    if uid is not None:
        os.chown(path, uid, uid)


def _restore_signals() -> None:
    """What Python ignores and the launcher blocks, a guest should get."""
    for number in (_SIGPIPE, _SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    libc.unblock_signals()


def _drop_root(uid: int) -> None:
    libc.drop_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    # Takes every capability with it, as no user of this thread is root any longer.
    os.setresuid(uid, uid, uid)


def _set_limits(plan: "Plan") -> None:
    if plan["affinity"]:
        os.sched_setaffinity(0, plan["affinity"])
    for number, value in plan["rlimits"]:
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))


def _keep_descriptors(*wanted: int) -> None:
    """Leave the stream, and what bwrap reads and closes. Status closes itself at the exec."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in wanted]
    for source, target in zip(high, (ARGUMENTS_FD, FILTER_FD), strict=True):
        os.dup2(source, target, inheritable=True)
    os.closerange(STATUS_FD + 1, _HIGHEST_FD)


def _memory_file(content: bytes) -> int:
    """A descriptor to read `content` from: unlike argv, no other user can read it."""
    descriptor = os.memfd_create("plan", os.MFD_CLOEXEC)
    _write_all(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _create(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_self(name: str, text: str) -> None:
    _write(f"/proc/self/{name}", text)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
