"""What one kernel has made on this machine, told apart from what others make meanwhile.

A kernel's processes are its descendants, and whoever runs as the outer user that its
sandbox got; its control groups carry its process id, and its containers a label with it;
its temporary files are in the `TMPDIR` that the test gave to it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from tests.support import docker_engine
from tests.support.kernels import Family

CGROUPS = Path("/sys/fs/cgroup")


class Traces:
    """Of the kernel `pid`, whose TMPDIR is `temporary`. `look` while it lives, `left` after."""

    def __init__(self, pid: int, temporary: Path, backend: str = "auto") -> None:
        self._backend = backend
        self._pid = pid
        self._temporary = temporary
        self._family = Family(pid)
        self._users: set[int] = set()
        self._mounts = set(mounts())

    def look(self) -> None:
        """Remember who belongs to the kernel now."""
        for process in self._family.note():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._users.add(process.uids().real)
        self._users.discard(os.getuid())

    @property
    def count(self) -> int:
        """How many processes and containers were seen."""
        return len(self._family.note()) + len(self.containers())

    def containers(self) -> list[str]:
        return docker_engine.containers_of(self._pid) if self._backend == "docker" else []

    def left(self) -> list[str]:
        """A line for each thing that is still there."""
        return [
            *(f"process {line}" for line in self._family.alive()),
            *(f"process {line}" for line in self._processes_of_its_users()),
            *(f"container {line}" for line in self.containers()),
            *(f"control group {path}" for path in control_groups(self._pid)),
            *(f"mount {line}" for line in set(mounts()) - self._mounts),
            *(f"file {path}" for path in self._temporary.iterdir()),
        ]

    def end(self) -> None:
        self._family.end()

    def _processes_of_its_users(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.uids().real in self._users:
                    found.append(f"{process.pid} of user {process.uids().real}")
        return found


def control_groups(pid: int) -> list[Path]:
    """The control groups whose owner is the process `pid`."""
    patterns = (f"sandbox-kernel/{pid}-*", f"*/sandbox-kernel/{pid}-*")
    return [path for pattern in patterns for path in CGROUPS.glob(pattern)]


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()
