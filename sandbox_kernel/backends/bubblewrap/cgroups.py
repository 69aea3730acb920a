"""Control groups, version 1 and 2: make, fill, read, remove.

One group a sandbox (on version 1 one in each hierarchy), under `sandbox-kernel`. Its name
says who owns it: `PID-START-PIDNS-ID`, so that whoever finds it can tell whether that
process still lives. Host and launcher share this file: no import but `os`.

To be in force a group needs memory, processes and CPUs together; otherwise there is none
and the weaker means of `plan` apply.
"""

import os

PARENT = "sandbox-kernel"
ROOT = "/sys/fs/cgroup"
V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
# 100 ms, the kernel's default. A cell that uses its quota up waits less than that.
CPU_PERIOD_US = 100_000


def identify(pid: int) -> "str | None":
    """`PID-START-PIDNS` of a living process: what no later process can share."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name may hold spaces and brackets; after its last bracket fields are plain.
            start = file.read().rpartition(b")")[2].split()[19].decode()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, IndexError):
        return None
    return f"{pid}-{start}-{namespace}"


def is_abandoned(name: str) -> bool:
    """Whether the owner in a group's name is gone. False for what we cannot judge."""
    parts = name.split("-")
    if len(parts) != 4 or not parts[0].isdecimal():
        return False
    if parts[2] != str(os.stat("/proc/self/ns/pid").st_ino):
        return False  # made in another container: its process numbers mean nothing here
    return identify(int(parts[0])) != "-".join(parts[:3])


def find_parents(root: str = ROOT, mounts: str = "/proc/self/mountinfo") -> "dict[str, str]":
    """Directories where groups could be made: controller to path, "" for version 2."""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split() for line in file]
    found: dict[str, str] = {}
    for row in rows:
        kind, options, point = row[row.index("-") + 1], row[-1].split(","), row[4]
        if not point.startswith(root):
            continue
        if kind == "cgroup2" and "memory" in _read(f"{point}/cgroup.controllers").split():
            return {"": point}
        if kind == "cgroup":
            found.update({name: point for name in V1_CONTROLLERS if name in options})
    return found if all(name in found for name in V1_CONTROLLERS) else {}


def name_groups(label: str, parents: "dict[str, str]") -> "dict[str, str]":
    """Where the group will be: controller to directory; empty where there can be none."""
    if "" not in parents:
        return {name: os.path.join(parents[name], PARENT, label) for name in parents}
    try:
        return {"": os.path.join(_open_v2_parent(parents[""]), label)}
    except OSError:
        return {}


def make(groups: "dict[str, str]", memory_bytes: int, processes: int, cpus: float) -> bool:
    """Make the named group with its limits; leaves nothing of an attempt that fails."""
    try:
        for name, path in groups.items():
            os.makedirs(path, exist_ok=True)
            _limit(name, path, memory_bytes, processes, cpus)
    except OSError:
        remove(groups)
        return False
    return bool(groups)


def change(
    groups: "dict[str, str]", memory_bytes: "int | None" = None, cpus: "float | None" = None
) -> None:
    """Give a living group other limits; None leaves one as it is.

    Raises:
        OSError: the kernel refuses, as when more memory is in use than would be allowed.
    """
    for name, path in groups.items():
        if memory_bytes is not None and name in ("", "memory"):
            _limit_memory(name, path, memory_bytes)
        if cpus is not None and name in ("", "cpu"):
            _limit_cpus(name, path, cpus)


def parent_directories(parents: "dict[str, str]") -> "dict[str, str]":
    """Where `make` puts groups, without making anything; they need not exist."""
    if "" not in parents:
        return {name: os.path.join(point, PARENT) for name, point in parents.items()}
    for candidate in _v2_candidates(parents[""]):
        if os.path.isdir(os.path.join(candidate, PARENT)):
            return {"": os.path.join(candidate, PARENT)}
    return {}


def _v2_candidates(point: str) -> "list[str]":
    """Our own group and its ancestors, nearest first."""
    own = _read("/proc/self/cgroup").rpartition("0::")[2].strip().strip("/")
    parts = own.split("/") if own else []
    return [os.path.join(point, *parts[:depth]) for depth in range(len(parts), -1, -1)]


def _open_v2_parent(point: str) -> str:
    """A directory whose children may have limits: at the root, or where systemd delegates.

    A group with processes in it cannot pass controllers on, so the parent is the nearest
    writable ancestor of our own group that has none.
    """
    for candidate in _v2_candidates(point):
        parent = os.path.join(candidate, PARENT)
        try:
            for directory in (candidate, parent):
                os.makedirs(directory, exist_ok=True)
                _write(f"{directory}/cgroup.subtree_control", "+memory +pids +cpu")
        except OSError:
            continue
        return parent
    raise PermissionError(f"no group below {point} is ours to divide")


def _limit(name: str, path: str, memory_bytes: int, processes: int, cpus: float) -> None:
    if name in ("", "memory"):
        _limit_memory(name, path, memory_bytes)
    if name in ("", "pids"):
        # bwrap's own two processes are in the group, too.
        _write(f"{path}/pids.max", str(processes + 2))
    if name in ("", "cpu"):
        _limit_cpus(name, path, cpus)


def _limit_memory(name: str, path: str, memory_bytes: int) -> None:
    """Memory, and swap with it: version 1 counts both together, and never less than memory."""
    if not name:
        _write(f"{path}/memory.max", str(memory_bytes))
        if os.path.exists(f"{path}/memory.swap.max"):
            _write(f"{path}/memory.swap.max", "0")
        return
    files = [f"{path}/memory.limit_in_bytes"]
    both = f"{path}/memory.memsw.limit_in_bytes"
    if os.path.exists(both):
        is_growing = int(_read(both)) < memory_bytes
        files = [both, *files] if is_growing else [*files, both]
    for file in files:
        _write(file, str(memory_bytes))


def _limit_cpus(name: str, path: str, cpus: float) -> None:
    quota = max(1000, int(cpus * CPU_PERIOD_US))
    if name == "":
        _write(f"{path}/cpu.max", f"{quota} {CPU_PERIOD_US}")
    else:
        _write(f"{path}/cpu.cfs_period_us", str(CPU_PERIOD_US))
        _write(f"{path}/cpu.cfs_quota_us", str(quota))


def join(groups: "dict[str, str]") -> None:
    """Move the calling process, which has one thread, into every group."""
    for path in groups.values():
        _write(f"{path}/cgroup.procs", "0")


def announce_join(parents: "dict[str, str]") -> None:
    """Make a `join` that follows within some milliseconds quick. Blocks, changes nothing.

    The kernel's first move of a process waits for an RCU grace period, 5 to 20 ms; those
    right after it need not. So we move ourselves to where we are, in the version 2 tree or
    that of `pids`, while the launcher still starts.
    Source: cgroup_attach_lock, percpu_down_write, rcu_sync_enter in the kernel.
    """
    name = "" if "" in parents else "pids"
    for row in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = row.split(":", 2)
        if name in controllers.split(","):
            try:
                _write(f"{parents[name]}{path.rstrip('/')}/cgroup.procs", "0")
            except OSError:
                return  # not ours, or not below this mount: the join takes longer, no more


def processes(groups: "dict[str, str]") -> "list[int]":
    """Who is in it, as process numbers of this namespace; those of others cannot be named."""
    path = groups.get("", groups.get("pids", ""))
    pids = _read(f"{path}/cgroup.procs").split() if path else []
    # The kernel writes 0 for a process of a foreign namespace, and `kill(0)` would be us.
    return [int(pid) for pid in pids if int(pid) > 0]


def kill(groups: "dict[str, str]") -> None:
    """SIGKILL everybody in it, also who is being born meanwhile.

    Raises:
        PermissionError: they, or the group, are another user's.
    """
    if "" in groups and os.path.exists(f"{groups['']}/cgroup.kill"):
        _write(f"{groups['']}/cgroup.kill", "1")
        return
    for _ in range(100):
        pids = processes(groups)
        for pid in pids:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        if not pids:
            return


def remove(groups: "dict[str, str]") -> bool:
    """Remove the empty groups; whether none is left."""
    for path in groups.values():
        try:
            os.rmdir(path)
        except OSError:
            continue
    return not any(os.path.exists(path) for path in groups.values())


def measure(groups: "dict[str, str]") -> "dict[str, int]":
    """cpu_us, memory, peak, kills; what cannot be read is missing."""
    if "" in groups:
        return _measure_v2(groups[""])
    memory, result = groups.get("memory", ""), {}
    for key, file in (("memory", "memory.usage_in_bytes"), ("peak", "memory.max_usage_in_bytes")):
        result[key] = _number(f"{memory}/{file}")
    result["kills"] = _field(f"{memory}/memory.oom_control", "oom_kill")
    nanoseconds = _number(f"{groups.get('cpuacct', '')}/cpuacct.usage")
    result["cpu_us"] = nanoseconds // 1000 if nanoseconds >= 0 else -1
    return {key: value for key, value in result.items() if value >= 0}


def _measure_v2(path: str) -> "dict[str, int]":
    result = {
        "memory": _number(f"{path}/memory.current"),
        "peak": _number(f"{path}/memory.peak"),
        "kills": _field(f"{path}/memory.events", "oom_kill"),
        "cpu_us": _field(f"{path}/cpu.stat", "usage_usec"),
    }
    return {key: value for key, value in result.items() if value >= 0}


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else -1


def _field(path: str, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return -1


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    # No O_CREAT: on anything but a control group this must fail, not make files.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)
