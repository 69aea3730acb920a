"""What differs in a container whose system calls gVisor (`runsc`) answers. Pure.

gVisor is a kernel in user space: the guest's processes are not the host's, so what the host's
kernel would hold for the guest must be held by gVisor, or from around the whole of it. Each
limit, and who holds it (tried with the release of July 2024):

    memory          the cgroup holds all of it, with an allowance for gVisor itself
    cpus            the cgroup
    processes       RLIMIT_NPROC, which gVisor counts. The cgroup's own counts the threads of
                    gVisor, which dies when it is refused one; so that is only a second line
    workspace size  tmpfs of the host, as volumes of the engine: gVisor's own tmpfs knows
    and inodes      no nr_inodes, and would take no notice
    open files      RLIMIT_NOFILE, which gVisor counts

The host's filter of system calls, its masks on /proc and no-new-privileges are not asked:
there is another kernel behind, with a filter of its own around it.

Weaker than on Linux, within the one sandbox: its programs can kill the first process, and
open its ends of the stream. The host takes what comes for the guest's word in any case.

Rule: what is not held here is refused in words, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox_kernel.limits import Limits

# gVisor and the process that opens files for it take 40 to 60 MiB before a guest does anything.
_ITS_OWN_BYTES = 64 * 1024**2
# It has 30 threads, and for each process of the guest at least one of the host's: more on more
# CPUs. Enough that a guest meets its own limit first; still a number.
_ITS_OWN_THREADS, _THREADS_A_PROCESS = 256, 8
# In the names of its runtimes and of their programs.
_NAMES = ("runsc", "gvisor")


def is_used(runtime: str | None, info: Mapping[str, Any]) -> bool:
    """Whether this runtime, or None for the engine's default, is gVisor's.

    By its name, and by that of its program. An owner who hides it behind another script gets
    a container whose limits of processes and inodes are not held: `doctor` cannot see that.

    Args:
        info: what the engine says of itself (`GET /info`).
    """
    name = runtime or str(info.get("DefaultRuntime") or "")
    found = (info.get("Runtimes") or {}).get(name) or {}
    program = str(found.get("path") or found.get("runtimeType") or "").rpartition("/")[2]
    return any(word in text.lower() for word in _NAMES for text in (name, program))


def adapted(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The body of `POST /containers/create`, with each of the limits where it holds."""
    host = dict(request["HostConfig"])
    host["Memory"] = host["MemorySwap"] = int(host["Memory"]) + _ITS_OWN_BYTES
    host["PidsLimit"] = _ITS_OWN_THREADS + _THREADS_A_PROCESS * limits.processes
    host["Ulimits"] = [
        *host["Ulimits"],
        {"Name": "nproc", "Soft": limits.processes, "Hard": limits.processes},
    ]
    places = host.pop("Tmpfs")
    host["Mounts"] = [*host["Mounts"], *map(_volume, places, places.values())]
    return {**request, "HostConfig": host}


def _volume(guest_path: str, options: str) -> dict[str, Any]:
    """A tmpfs that the engine makes for this container, and removes with it.

    Without a name, so that it is removed with the container whatever ends that. Nobody but
    the guest looks into it, and its bytes are charged to the container's memory.
    """
    driver = {"type": "tmpfs", "device": "tmpfs", "o": options}
    return {
        "Type": "volume",
        "Target": guest_path,
        # Otherwise the engine copies there what the image has in that place.
        "VolumeOptions": {"NoCopy": True, "DriverConfig": {"Name": "local", "Options": driver}},
    }
