"""What the host says about a sandbox: why it ended, what it used, what forbids it. Words.

Rule 1: the guest's last words are data: cleaned of control characters, bounded, quoted.
Rule 2: a failed start names the setting of this machine that forbids it, and the remedy.
"""

from __future__ import annotations

import os

from sandbox_kernel.backends.base import Death
from sandbox_kernel.backends.words import clean

# What forbids user namespaces: file, value that forbids, the command that allows.
_FORBIDDING = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sudo sysctl user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile "
        "with `userns,` for bwrap",
    ),
)


def namespace_remedy() -> str:
    """Which setting forbids user namespaces here, and what allows them; "" when none does."""
    for path, forbidding, command in _FORBIDDING:
        try:
            with open(path, encoding="ascii") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == forbidding:
            name = path.removeprefix("/proc/sys/").replace("/", ".")
            return f"{name} is {value}, which forbids user namespaces here. Allow them: {command}."
    return ""


def parse_report(text: bytes) -> dict[str, str]:
    """The launcher's lines of `key=value`."""
    rows = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {key: value for key, _, value in rows if key}


def explain(
    report: dict[str, str],
    *,
    ending: str,
    last_words: bytes,
    has_spoken: bool,
    launcher_status: int,
) -> Death:
    """Why it is gone: from the launcher's report, bwrap's and the guest's last words."""
    if ending == "closed":
        return Death("closed", "The sandbox was closed.")
    if ending == "killed":
        return Death("killed", "The sandbox was ended by its kernel.")
    words = clean(last_words)
    quoted = f" Its last words: {words!r}" if words else ""
    if "failed" in report:
        return _failure(f"the launcher {report['failed']}")
    if "code" not in report:
        code = os.waitstatus_to_exitcode(launcher_status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if has_spoken or code < 0:
            return Death("killed", f"The sandbox's launcher was ended from outside ({how}).")
        return _failure(f"the launcher ended with {how}: {words}")
    if int(report.get("kills", 0)) > 0 and _was_killed(int(report["code"])):
        return Death("memory", "The kernel ended the whole sandbox for its memory limit.")
    if not has_spoken and words.startswith("bwrap:"):
        return _failure(words)
    return _ended(int(report["code"]), quoted)


def _was_killed(status: int) -> bool:
    # bwrap says 128 + signal for the supervisor; for itself the status has the signal.
    return os.waitstatus_to_exitcode(status) in (137, -9)


def _ended(status: int, quoted: str) -> Death:
    code = os.waitstatus_to_exitcode(status)
    signal = -code if code < 0 else code - 128
    if code < 0 or code > 128:
        return Death("killed", f"The sandbox's first process was ended by signal {signal}.{quoted}")
    return Death("exited", f"The sandbox's first process ended with exit code {code}.{quoted}")


def remedy() -> str:
    """What to do when no sandbox can be started here."""
    return namespace_remedy() or (
        "In a container, user namespaces and mounts must be allowed (for Docker: --security-opt "
        "seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
        "systempaths=unconfined); elsewhere, look for a security module that forbids them. Or "
        "use another backend. `sandbox-kernel doctor` says what this machine allows."
    )


def _failure(what: str) -> Death:
    return Death("failed to start", f"The sandbox could not be started: {what}. {remedy()}")


def measure_tree(root: int, last: dict[str, int]) -> dict[str, int]:
    """Use of all descendants of `root`: what there is without a cgroup. Best effort.

    Memory is resident memory, where what two processes share counts twice.
    """
    ticks_us = 1_000_000 // os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    cpu_us = memory = 0
    for pid in descendants(root):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        cpu_us += sum(int(field) for field in fields[11:15]) * ticks_us
        memory += int(fields[21]) * page
    # A process that ended without being waited for takes its time along: never go back.
    return {
        "cpu_us": max(cpu_us, last.get("cpu_us", 0)),
        "memory": memory,
        "peak": max(memory, last.get("peak", 0)),
    }


def descendants(root: int) -> list[int]:
    """All processes below `root`, bounded. What is orphaned inside stays below its PID 1."""
    found: list[int] = []
    pending = [root]
    while pending and len(found) < 4096:
        pid = pending.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = [int(child) for child in file.read().split()]
        except OSError:
            continue
        found += children
        pending += children
    return found
