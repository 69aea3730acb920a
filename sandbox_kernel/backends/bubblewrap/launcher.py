"""The process between the host kernel and bwrap: it starts the sandbox, then is its janitor.

    host kernel -> launcher -> [its child: `confine`] -> bwrap -> supervisor (PID 1 inside)

Descriptors it is started with: 0, 1 the guest's stream; 2 early stderr; 3 the plan
(marshalled by the same Python); 4 the lifeline, whose other end the host holds; 5 status.

Rule 1: when the lifeline ends or the owner is gone, everything dies: `kill -9` of the host
leaves no process, mount or control group. The host's own Ctrl-C must not reach us: we lead
a session of our own and block the signals that ask politely.
Rule 2: nothing here reads what the guest writes.
Rule 3: few imports. The guest waits for each of them, and the janitor's memory is theirs.

Status is lines of `key=value`: `failed=TEXT` and `errno` when no guest could run, then
once, at the end, `code`, `kills`, `peak`, `cpu_us`.
"""

import marshal
import os
import select

from . import cgroups, confine, libc

TYPE_CHECKING = False  # `typing` takes 5 ms to import; type checkers know this name
if TYPE_CHECKING:
    from typing import Any

    Plan = dict[str, Any]  # as `plan.make` returns it

STREAM_FDS = (0, 1, 2)
PLAN_FD, LIFELINE_FD, STATUS_FD = 3, 4, confine.STATUS_FD
SIGKILL = 9


def main() -> None:
    """Start the sandbox and stay until it has gone without a trace."""
    os.chdir("/")
    for descriptor in (PLAN_FD, LIFELINE_FD, STATUS_FD):
        os.set_inheritable(descriptor, False)
    plan = _read_plan()
    if plan["uid"] is not None:
        plan["uid"] += os.getpid()
    # Whoever is orphaned becomes our child, so that "no child left" means "all dead".
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        _start(plan, launcher)
    for descriptor in STREAM_FDS:
        os.close(descriptor)
    _stay_alive(plan)
    code = _watch(child, plan)
    _clean_up()
    _report({"code": code, **cgroups.measure(plan["groups"])})
    _remove_groups(plan["groups"])
    os._exit(0)


def _read_plan() -> "Plan":
    """Two values: the groups that the host will make, and, when they are made, the plan."""
    groups: dict[str, str] = {}
    with open(PLAN_FD, "rb") as file:
        try:
            groups = marshal.load(file)  # noqa: S302 - written by our parent
            plan: Plan = marshal.load(file)  # noqa: S302
        except (EOFError, ValueError, TypeError):
            # The host changed its mind or died; what it made until then is left to us.
            _remove_groups(groups)
            os._exit(0)
    return plan


def _start(plan: "Plan", launcher: int) -> None:
    libc.prctl(libc.PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)  # it was killed before it could be our parent
    try:
        confine.confine(plan)
    except OSError as error:
        _report({"failed": str(error.strerror).replace("\n", " "), "errno": error.errno})
        os._exit(1)


def _stay_alive(plan: "Plan") -> None:
    """Be the last that the kernel kills when the whole machine runs out of memory."""
    if plan["uid"] is not None:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write("-900")
        except OSError:
            return


def _watch(child: int, plan: "Plan") -> int:
    """Wait until bwrap ends or has to; its wait status."""
    poll = select.poll()
    # A reaped or foreign child cannot be mistaken: it is ours until we wait for it.
    poll.register(os.pidfd_open(child), select.POLLIN)
    poll.register(LIFELINE_FD, select.POLLIN)
    # The lifeline's other end may live on in a process that the owner forked.
    try:
        poll.register(os.pidfd_open(plan["owner"]), select.POLLIN)
        is_orphan = os.getppid() != plan["owner"]
    except OSError:
        is_orphan = True
    if not is_orphan:
        poll.poll()
    _kill(child, plan)
    return os.waitpid(child, 0)[1]


def _kill(child: int, plan: "Plan") -> None:
    """bwrap takes its child along (--die-with-parent), that one is PID 1 of all others."""
    os.kill(child, SIGKILL)
    cgroups.kill(plan["groups"])


def _clean_up() -> None:
    """Kill and reap who was orphaned. A PID 1 is only reaped when its whole namespace is gone.

    bwrap's child is one when bwrap is killed before it has asked to die along with it.
    """
    try:
        while True:
            for pid in _children():
                os.kill(pid, SIGKILL)  # ours until we wait for it, so it is nobody else
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _children() -> "list[int]":
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [
            pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _is_ours(pid)
        ]


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1]) == os.getpid()
    except OSError:
        return False


def _remove_groups(groups: "dict[str, str]") -> None:
    for _ in range(200):
        if cgroups.remove(groups):
            return
        select.select([], [], [], 0.005)  # the kernel empties a group a moment later


def _report(values: "Plan") -> None:
    lines = "".join(f"{key}={value}\n" for key, value in values.items())
    try:
        os.write(STATUS_FD, lines.encode("utf-8", "replace"))
    except BrokenPipeError:
        return  # the host is gone; there is nobody to tell
