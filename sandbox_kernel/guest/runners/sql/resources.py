"""What the sandbox may use, as far as it can be seen from inside: an engine asks once."""

import os
import resource
from typing import Iterator, Optional

_MEMORY_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_QUOTA_FILES = (
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ("/sys/fs/cgroup/cpu.max",),
)


def memory_bytes() -> int:
    """The smallest limit on memory that is in force; 0 when none can be seen."""
    return min(_memory_limits(), default=0)


def _memory_limits() -> Iterator[int]:
    for name in _MEMORY_FILES:
        text = _read(name)
        if text.isdigit():
            yield int(text)
    told = os.environ.get("SANDBOX_MEMORY_BYTES", "")
    if told.isdigit() and int(told):
        yield int(told)
    for what in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        limit = resource.getrlimit(what)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpus() -> int:
    """How many threads can work at once, at least one."""
    available = len(os.sched_getaffinity(0))
    quota = _quota()
    return max(1, min(available, quota) if quota else available)


def _quota() -> Optional[int]:
    for names in _QUOTA_FILES:
        words = " ".join(_read(name) for name in names).split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            return -(-int(words[0]) // int(words[1]))
    return None


def temporary_directory() -> str:
    """Where files may lie that nobody is to see."""
    return os.environ.get("TMPDIR") or "/tmp"


def _read(name: str) -> str:
    try:
        with open(name) as file:
            return file.read(100).strip()
    except OSError:
        return ""
