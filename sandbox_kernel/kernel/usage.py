"""What the kernel uses, for usage requests: from /proc, since psutil costs 15 ms and 5 MiB.

The figures of the sandbox are its session's; here they are only added up.
"""

from __future__ import annotations

import os
import time
from typing import Any

from sandbox_kernel.kernel.wire import Json

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage:
    """Remembers the last figures, since CPU shares are differences."""

    def __init__(self) -> None:
        self._last_wall_s = time.monotonic()
        self._last_cpu_s = 0.0
        self._last_host = host_jiffies()

    def answer(self, sandbox: Json) -> Json:
        """The content of a usage_reply. `sandbox` is `SandboxSession.status()`, or empty."""
        cpu_s = process_cpu_s() + _number(sandbox.get("cpu_s"))
        content: Json = {
            "hostname": os.uname().nodename,
            "pid": os.getpid(),
            "kernel_cpu": self._cpu_percent(cpu_s),
            "kernel_memory": resident_bytes() + int(_number(sandbox.get("memory_bytes"))),
            "cpu_count": os.cpu_count() or 1,
            "host_virtual_memory": host_memory(),
            "sandbox": sandbox,
        }
        percent = self._host_percent()
        if percent is not None:
            content["host_cpu_percent"] = percent
        return content

    def _cpu_percent(self, cpu_s: float) -> float:
        now = time.monotonic()
        wall_s, self._last_wall_s = now - self._last_wall_s, now
        used_s, self._last_cpu_s = cpu_s - self._last_cpu_s, cpu_s
        # A new sandbox starts its count again: never below nothing.
        return round(100 * max(used_s, 0.0) / wall_s, 1) if wall_s > 0 else 0.0

    def _host_percent(self) -> float | None:
        (busy, total), self._last_host = self._last_host, host_jiffies()
        elapsed = self._last_host[1] - total
        return round(100 * (self._last_host[0] - busy) / elapsed, 1) if elapsed > 0 else None


def process_cpu_s() -> float:
    """CPU seconds of this process."""
    times = os.times()
    return times.user + times.system


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where /proc doesn't say."""
    fields = _read("/proc/self/statm").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else 0


def host_jiffies() -> tuple[int, int]:
    """Busy and total CPU time of the machine, in ticks."""
    fields = [int(field) for field in _read("/proc/stat").partition("\n")[0].split()[1:9]]
    idle = sum(fields[3:5])
    return sum(fields) - idle, sum(fields)


def host_memory() -> Json:
    """`total`, `available`, `used`, `free` (bytes) and `percent`, as psutil names them."""
    found: dict[str, int] = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "MemFree"):
            found[name] = int(rest.split()[0]) * 1024
    total, available = found.get("MemTotal", 0), found.get("MemAvailable", 0)
    return {
        "total": total,
        "available": available,
        "used": total - available,
        "free": found.get("MemFree", 0),
        "percent": round(100 * (total - available) / total, 1) if total else 0.0,
    }


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _number(value: Any) -> float:
    """`value` if it is a sensible number; the guest may have made it up."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 2**60 else 0
