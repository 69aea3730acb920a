"""What a sandbox uses: CPU and peak of the runner, memory of all, processes, files.

Rule 1: all of it is cheap enough for every cell: files of /proc stay open and are read
again, and what costs more is asked only when the cheap answer leaves a doubt.
Rule 2: these are the guest's own numbers. They end runners and fill receipts; the
boundary's limits do not depend on them where a cgroup holds.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Tuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# With more processes the dear look at their descriptors is taken every fifth time.
_FEW_PROCESSES = 32
_FEW_FILES = 4096
# A fork bomb's receipt need not be exact.
_MOST_CHILDREN = 64
_RESET_PEAK = b"5"  # proc(5), clear_refs


class Meter:
    """Reads one process again and again."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._init_children = 0  # not yet opened
        self._fds = {name: _open_proc(pid, name) for name in ("stat", "status")}
        self._fds["children"] = _open_proc(pid, "task/%d/children" % pid)
        self._fds["clear_refs"] = _open_proc(pid, "clear_refs", os.O_WRONLY)

    def cpu_s(self) -> float:
        """CPU time of the process, its children that ended, and those that still run."""
        own, of_ended = _cpu_ticks(self._read("stat"))
        total = own + of_ended
        for child in self._children():
            total += sum(_cpu_ticks(read_proc(child, "stat")))
        try:
            # The process's own clock counts nanoseconds where `stat` counts ticks.
            return time.clock_gettime(_cpu_clock(self.pid)) + (total - own) / _TICKS
        except OSError:
            return total / _TICKS

    def reset_peak(self) -> None:
        """Forget the peak so far, the children's as well: an interpreter is its runner's child."""
        with suppress(OSError):  # not every kernel has it: the peak is then the runner's ever
            os.write(self._fds["clear_refs"], _RESET_PEAK)
        for child in self._children():
            fd = _open_proc(child, "clear_refs", os.O_WRONLY)
            if fd >= 0:
                with suppress(OSError):
                    os.write(fd, _RESET_PEAK)
                os.close(fd)

    def peak_bytes(self) -> int:
        """The most that the process held, and those of its children that still run."""
        own = _field_bytes(self._read("status"), b"VmHWM:")
        of_children = (
            _field_bytes(read_proc(child, "status"), b"VmHWM:") for child in self._children()
        )
        return own + sum(of_children)

    def _children(self) -> List[int]:
        return [int(child) for child in self._read("children").split()[:_MOST_CHILDREN]]

    def is_alone(self, runners: Collection[int]) -> bool:
        """Whether this process has no children, and none of any runner's lost its parent.

        Whoever did is the supervisor's child, if that is the first process.

        Args:
            runners: the pids of all runners, this one's too.
        """
        if not self._init_children:
            self._init_children = _open_proc(1, "task/1/children") if os.getpid() == 1 else -1
        try:
            ours = os.pread(self._init_children, 4096, 0).split()
            theirs = os.pread(self._fds["children"], 4096, 0).split()
        except OSError:  # not every kernel has these files
            return False
        return not theirs and len(ours) == len(runners) and set(map(int, ours)) == set(runners)

    def close(self) -> None:
        if self._init_children > 0:
            os.close(self._init_children)
        self._init_children = -1
        for fd in self._fds.values():
            if fd >= 0:
                os.close(fd)
        self._fds = dict.fromkeys(self._fds, -1)

    def _read(self, name: str) -> bytes:
        try:
            return os.pread(self._fds[name], 65536, 0)
        except OSError:  # ended, or never there
            return b""


class Excess(NamedTuple):
    """More memory than allowed: who to kill, and the numbers for the reader."""

    pid: int
    process_bytes: int
    file_bytes: int


class MemoryWatch:
    """Finds a sandbox that uses more memory than it may, where no cgroup does that.

    Not seen: shared memory in no process's pages and in no open file, such as a shared
    anonymous map that was given back with `madvise`. Only a cgroup holds that.
    """

    def __init__(self, limit_bytes: int, workspace: int, scratch_bytes: int) -> None:
        self._limit = limit_bytes
        self._workspace = workspace
        self._scratch_bytes = scratch_bytes
        self._round = 0
        self._unmapped = 0

    def check(self, pids: List[int]) -> Optional[Excess]:
        """Three looks, each dearer and truer: resident; without shared files; proportional."""
        files = self._file_bytes()
        unmapped = self._count_unmapped(pids)
        if sum(map(_resident_bytes, pids)) + files + unmapped <= self._limit:
            return None
        own = {pid: _own_bytes(pid) for pid in pids}
        if sum(own.values()) + files + unmapped <= self._limit:
            return None
        # Forked processes share pages; each has them among its own until it writes.
        own = {pid: _proportional_bytes(pid, own[pid]) for pid in pids}
        # What is mapped is among `own` already; nobody knows which part that is.
        shared = sum(_field_bytes(read_proc(pid, "status"), b"RssShmem:") for pid in pids)
        total = sum(own.values()) + max(unmapped - shared, 0)
        # Where the files are the culprit, killing a small runner frees nothing.
        if total + files <= self._limit or total < self._limit // 4:
            return None
        return Excess(max(own, key=lambda pid: own[pid]), total, files)

    def _count_unmapped(self, pids: List[int]) -> int:
        """Memory behind descriptors: memfds, and System V segments."""
        self._round += 1
        if len(pids) <= _FEW_PROCESSES or self._round % 5 == 0:
            self._unmapped = _memfd_bytes(pids) + _system_v_bytes()
        return self._unmapped

    def _file_bytes(self) -> int:
        """What lies in the scratch file system: memory, when it is the one with our cap."""
        total, used, _ = file_system_use(self._workspace)
        return used if total <= self._scratch_bytes + _PAGE_BYTES else 0


def file_system_use(fd: int) -> "tuple[int, int, int]":
    """(size in bytes, bytes used, inodes used) of the file system behind `fd`."""
    status = os.statvfs(fd)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    return status.f_blocks * status.f_frsize, used, status.f_files - status.f_ffree


def sandbox_pids(is_init: bool, sessions: Collection[int]) -> List[int]:
    """All processes but this one; outside of a PID namespace those of the runners' sessions."""
    pids = _all_pids()
    if is_init:
        return [pid for pid in pids if pid != 1]
    return [pid for pid in pids if _session(pid) in sessions]


def living_sessions() -> Iterator[Tuple[int, int]]:
    """(pid, session) of every process but the first that is not dead already."""
    for pid in _all_pids():
        fields = _stat_fields(read_proc(pid, "stat"))
        if pid != 1 and len(fields) > 3 and fields[0] not in (b"Z", b"X"):
            yield pid, int(fields[3])


def _all_pids() -> List[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def memory_bytes(pids: List[int]) -> int:
    return sum(map(_own_bytes, pids))


def read_proc(pid: int, name: str) -> bytes:
    fd = _open_proc(pid, name)
    if fd < 0:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _open_proc(pid: int, name: str, flags: int = os.O_RDONLY) -> int:
    try:
        return os.open("/proc/%d/%s" % (pid, name), flags | os.O_CLOEXEC)
    except OSError:
        return -1


def _memfd_bytes(pids: List[int]) -> int:
    """What the memory files hold that these processes have open, each counted once."""
    found: Dict[Tuple[int, int], int] = {}
    for pid in pids:
        directory = "/proc/%d/fd" % pid
        with suppress(OSError):  # ended, or it hides
            for name in os.listdir(directory)[:_FEW_FILES]:
                path = directory + "/" + name
                with suppress(OSError):
                    if os.readlink(path).startswith("/memfd:"):
                        status = os.stat(path)
                        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _system_v_bytes() -> int:
    """Resident bytes of the segments of this IPC namespace."""
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return 0
    rows = (line.split() for line in lines[1:])
    return sum(int(row[14]) for row in rows if len(row) > 14)


def _stat_fields(content: bytes) -> List[bytes]:
    """The fields after the command's name, which may hold anything, brackets too."""
    return content[content.rfind(b")") + 1 :].split()


def _cpu_ticks(content: bytes) -> "tuple[int, int]":
    """(user and system time of a process, that of its children that ended and were awaited)"""
    fields = _stat_fields(content)  # from the third of proc(5) on
    return sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))


def _cpu_clock(pid: int) -> int:
    """The id of a process's CPU clock. Source: CPUCLOCK_SCHED in Linux's posix-timers_types.h."""
    return (~pid << 3) | 2


def _session(pid: int) -> int:
    fields = _stat_fields(read_proc(pid, "stat"))
    return int(fields[3]) if len(fields) > 3 else -1


def _resident_bytes(pid: int) -> int:
    fields = read_proc(pid, "statm").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else 0


def _own_bytes(pid: int) -> int:
    status = read_proc(pid, "status")
    return _field_bytes(status, b"RssAnon:") + _field_bytes(status, b"RssShmem:")


def _proportional_bytes(pid: int, otherwise: int) -> int:
    rollup = read_proc(pid, "smaps_rollup")
    if b"Pss_Anon:" not in rollup:  # an old kernel, a process that hides, or has ended
        return min(otherwise, _own_bytes(pid))
    return _field_bytes(rollup, b"Pss_Anon:") + _field_bytes(rollup, b"Pss_Shmem:")


def _field_bytes(content: bytes, name: bytes) -> int:
    start = content.find(b"\n" + name)
    if start < 0:
        return 0
    value = content[start + 1 + len(name) :].split(b"kB", 1)[0].strip()
    return int(value) * 1024 if value.isdigit() else 0
