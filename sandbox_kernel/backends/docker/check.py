"""Whether the engine isolates, found by starting a container that looks around.

The probe runs inside, with the very request that a session's container is made by, and
prints what it sees; `_judge` compares that with what `container` and `seccomp` promise. One
broken promise makes the backend unusable. Versions with known escapes do not: whether a
distribution has patched them cannot be seen. They are named.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.backends.base import Check, SandboxSpec
from sandbox_kernel.backends.docker import bringup, container, engine, guest_code, versions
from sandbox_kernel.backends.docker.stream import STDOUT
from sandbox_kernel.errors import BackendUnavailable, SandboxKernelError
from sandbox_kernel.limits import Limits

if TYPE_CHECKING:
    from sandbox_kernel.backends.docker.backend import DockerBackend

TIMEOUT_S = 20
_MAX_ANSWER_BYTES = 65536
# Enough for the probe; the check itself should not cost much.
_LIMITS = Limits(memory_bytes=256 * 1024**2, workspace_bytes=16 * 1024**2, cpus=1, processes=64)

PROBE = r"""
import json, os
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
def size(path):
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize
def number(*paths):
    texts = [read(path).strip() for path in paths]
    return next((int(text) for text in texts if text.isdigit()), None)
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines() if ":" in line)
network = [line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]]
groups = "/sys/fs/cgroup/"
print(json.dumps({
    "pid": os.getpid(),
    "uid": os.getuid(),
    "groups": os.getgroups(),
    "capabilities": sum(int(status.get(name, "0"), 16) for name in ("CapPrm", "CapEff", "CapBnd")),
    "no_new_privileges": int(status.get("NoNewPrivs", "-1")),
    "seccomp": int(status.get("Seccomp", "-1")),
    "network": [name for name in network if name != "lo"],
    "routes": len(read("/proc/net/route").splitlines()[1:]),
    "writable": [path for path in ("/x", "/dev/x", "/usr/x", "/etc/x",
                 "/proc/sys/kernel/core_pattern") if writes(path)],
    "unwritable": [path for path in ("/workspace/x", "/tmp/x", "/dev/shm/x",
                   os.environ["HOME"] + "/x") if not writes(path)],
    "sizes": {path: size(path) for path in ("/workspace", "/tmp", "/dev/shm", os.environ["HOME"])},
    "memory": number(groups + "memory.max", groups + "memory/memory.limit_in_bytes"),
    "processes": number(groups + "pids.max", groups + "pids/pids.max"),
    "sockets": [path for path in ("/var/run/docker.sock", "/run/containerd/containerd.sock",
                "/run/podman/podman.sock") if os.path.exists(path)],
}), flush=True)
os.read(0, 1)
"""


def check(backend: DockerBackend) -> Check:
    """Ask the engine, then start a container with a probe and judge what it saw."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    details: dict[str, str] = {}
    try:
        notes = _describe(backend.engine, details)
        seen = _run_probe(backend.engine)
    except SandboxKernelError as error:
        return _refused(backend.name, str(error), _remedy(str(error)), details)
    except (DockerException, RequestException, OSError) as error:
        backend.engine.forget()
        reason = str(engine.unavailable(error))
        return _refused(backend.name, reason, _remedy(reason), details)
    runtime = str(backend.engine.info().get("DefaultRuntime") or "runc")
    try:
        broken = _judge(seen, _has_own_kernel(runtime))
    except (LookupError, TypeError, AttributeError):
        broken = ["its own answer makes no sense"]
    if broken:
        reason = "A probe in a container found that " + "; ".join(broken) + "."
        return _refused(backend.name, reason, "Please report this; use another backend.", details)
    reason = " ".join(["A probe inside a container found the isolation in force.", *notes])
    return Check(backend.name, True, _boundary(details, runtime), reason, "", details)


def _refused(name: str, reason: str, remedy: str, details: dict[str, str]) -> Check:
    return Check(name, False, "none", reason, remedy, details)


def _remedy(reason: str) -> str:
    if "sandbox-kernel setup docker" in reason:
        return "Make the image: sandbox-kernel setup docker"
    return "See the reason. With an engine in place: sandbox-kernel setup docker"


def _boundary(details: Mapping[str, str], runtime: str) -> str:
    kernel = "the kernel of " + runtime if _has_own_kernel(runtime) else "the engine's kernel"
    return (
        f"docker ({details['engine']}): a container with namespaces, seccomp and no capability "
        f"on {kernel}, no network, an unprivileged user, memory by cgroup"
    )


def _has_own_kernel(runtime: str) -> bool:
    """Whether the guest's system calls are answered by gVisor's kernel or in a machine."""
    return any(name in runtime for name in ("runsc", "gvisor", "kata"))


# --- what the engine says of itself ---------------------------------------------------


def _describe(eng: engine.Engine, details: dict[str, str]) -> list[str]:
    """Fill `details`; what an owner should know though it works, in sentences.

    Raises:
        BackendUnavailable: no engine, or one that cannot hold what we promise.
    """
    answer, info = eng.api().version(), eng.info()
    found = versions.components(answer)
    warnings = versions.warnings(found)
    api_version = str(answer.get("ApiVersion") or "0")
    security = [str(option).removeprefix("name=") for option in info.get("SecurityOptions") or []]
    details.update({
        "engine": str(answer.get("Version") or "?"),
        "place": f"{engine.place()} ({'this' if eng.is_local() else 'another'} machine)",
        "API": f"{api_version} (at least {engine.API_VERSION} is needed)",
        **{name: found[name] for name in ("runc", "crun", "containerd") if name in found},
        "runtimes": ", ".join(sorted(info.get("Runtimes") or ())) or "not told",
        "default runtime": str(info.get("DefaultRuntime") or "not told"),
        "control groups": f"version {info.get('CgroupVersion') or '?'}, driver "
        f"{info.get('CgroupDriver') or '?'}",
        "security": ", ".join(security) or "not told",
        "users": _users(security),
        "image": _image(eng),
        **{f"warning {number}": text for number, text in enumerate(warnings, 1)},
    })  # fmt: skip
    _require_able(api_version, info, security)
    notes = [_flaws(warnings)] if warnings else []
    if info.get("SwapLimit") is False:
        notes.append(
            "The engine's kernel does not count swap: a guest may use that beyond its memory. "
            "Turn swap off there, or boot it with swapaccount=1."
        )
    return notes


def _flaws(warnings: list[str]) -> str:
    return (
        f"But by their versions its programs have {len(warnings)} known "
        f"flaw{'s' if len(warnings) > 1 else ''}, which the details name: update them, unless "
        "your distribution has patched them."
    )


def _users(security: list[str]) -> str:
    if any(option.startswith("rootless") for option in security):
        return "the engine has no rights of root; a guest's user is one of its sub-uids"
    if any(option.startswith("userns") for option in security):
        return "the engine maps guests' users to others of its machine"
    last = container.FIRST_UID + container.UIDS - 1
    return f"one of {container.FIRST_UID}–{last} per container, inside and outside"


def _image(eng: engine.Engine) -> str:
    """The default image, and whether it holds the guest's code that is in force here."""
    from docker.errors import NotFound

    name = languages.get(SandboxSpec().language).image
    try:
        found = eng.api().inspect_image(name)
    except NotFound:
        return f"{name} is not there"
    labels = found.get("Config", {}).get("Labels") or {}
    if labels.get(guest_code.GUEST_LABEL) == guest_code.digest():
        return f"{name}, made for this version"
    return (
        f"{name}, made for another version: it works, and starts slower. Make it again with: "
        "sandbox-kernel setup docker"
    )


def _require_able(api_version: str, info: Mapping[str, Any], security: list[str]) -> None:
    if _numbers(api_version) < _numbers(engine.API_VERSION):
        raise BackendUnavailable(
            f"The engine speaks version {api_version} of Docker's API; {engine.API_VERSION} "
            "(Docker 20.10) is the oldest that can isolate as we want. Update it."
        )
    if security and not any(option.startswith("seccomp") for option in security):
        raise BackendUnavailable(
            "The engine was built without seccomp, so nothing would filter a guest's system "
            "calls. Use an engine with it."
        )
    missing = container.Machine.from_info(info).unlimited
    if missing:
        raise BackendUnavailable(
            f"The engine cannot limit {', '.join(missing)} on its machine. Without root it needs "
            "control groups of version 2 that are delegated to its user "
            "(https://rootlesscontaine.rs/getting-started/common/cgroup2)."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


# --- what a probe sees ----------------------------------------------------------------


def _run_probe(eng: engine.Engine) -> dict[str, Any]:
    """
    Raises:
        BackendUnavailable: no container came up, or it gave no answer.
    """
    made: list[str] = []
    spec, command = SandboxSpec(limits=_LIMITS), ["python3", "-I", "-S", "-c", PROBE]
    try:
        started = bringup.start(eng, spec, secrets.token_hex(16), made.append, command)
        try:
            answer = _answer(started)
        finally:
            started.stream.close()
    finally:
        for container_id in made:
            with contextlib.suppress(Exception):  # of the SDK; `gc` looks again
                eng.remove(container_id)
    try:
        seen = json.loads(answer)
    except ValueError:
        seen = None
    if not isinstance(seen, dict):
        raise BackendUnavailable("A probe in a container gave an answer that makes no sense.")
    return seen


def _answer(started: bringup.Started) -> bytes:
    line, words = bytearray(), bytearray()
    deadline_s = time.monotonic() + TIMEOUT_S
    while b"\n" not in line and len(line) < _MAX_ANSWER_BYTES:
        chunk = started.stream.read_by(deadline_s)
        if not chunk:
            from sandbox_kernel.backends.words import clean

            said = clean(bytes(words)) or "nothing"
            raise BackendUnavailable(f"A probe in a container ended early. It said: {said!r}")
        for number, data in started.pieces.feed(chunk):
            (line if number == STDOUT else words).extend(data)
    return bytes(line)


def _judge(seen: Mapping[str, Any], has_own_kernel: bool) -> list[str]:
    """The promises that what the probe saw breaks, as clauses for a reader.

    A kernel of the guest's own does not show the filter and limits around it.
    """
    last_uid = container.FIRST_UID + container.UIDS
    sizes = {path: size for path, size in seen["sizes"].items() if size > _LIMITS.workspace_bytes}
    facts = {
        "it is not the first process": seen["pid"] != 1,
        f"its uid is {seen['uid']}": not container.FIRST_UID <= seen["uid"] < last_uid,
        "it is in groups of the image": bool(set(seen["groups"]) - {seen["uid"]}),
        "it has capabilities": seen["capabilities"] != 0,
        f"it has network interfaces {seen['network']}": bool(seen["network"]),
        "it has routes": seen["routes"] != 0,
        f"it can write to {seen['writable']}": bool(seen["writable"]),
        f"it cannot write to {seen['unwritable']}": bool(seen["unwritable"]),
        f"places are larger than they should be: {sizes}": bool(sizes),
        f"sockets of an engine are inside: {seen['sockets']}": bool(seen["sockets"]),
    }
    if not has_own_kernel:
        facts |= {
            "it may gain privileges": seen["no_new_privileges"] != 1,
            "no system call filter is in force": seen["seccomp"] != 2,
            f"its memory limit is {seen['memory']}": seen["memory"] != _LIMITS.memory_bytes,
            f"its limit of processes is {seen['processes']}": seen["processes"]
            != _LIMITS.processes,
        }
    return [what for what, is_broken in facts.items() if is_broken]
