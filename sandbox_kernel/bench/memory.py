"""What processes of this machine use, as Linux counts it.

Proportional memory (PSS) counts a page that n processes share as an n-th for each, so that
sums over processes are true. Only root, or the owner of a process that may be debugged,
may read it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from sandbox_kernel.limits import MIB

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def proportional_mebibytes(pids: list[int]) -> float:
    """What has ended uses nothing.

    Raises:
        PermissionError: one of them is another user's.
    """
    return sum(map(_pss_bytes, pids)) / MIB


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):  # the latter of who is not reaped yet
        return 0
    for line in lines:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, itself not among them."""
    children: dict[int, list[int]] = defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        if parent := parent_of(int(name)):
            children[parent].append(int(name))
    found, todo = [], [pid]
    while todo:
        below = children[todo.pop()]
        found += below
        todo += below
    return found


def parent_of(pid: int) -> int:
    """0: there is no such process any more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name of the program, in parentheses, may hold anything.
    return int(stat.rpartition(")")[2].split()[1])


def own_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # the one that lists them


def own_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def own_resident_mebibytes() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * _PAGE_BYTES / MIB
