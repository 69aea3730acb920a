"""From a spec to the body of `POST /containers/create`. Pure: looks at nothing, changes nothing.

`body` answers the reader's question: what is a container allowed? `_host_config` is the
whole list; docker-bench-security's section 5 is its checklist, and a test walks through it.

Rule 1: nothing of the host is in a container by itself: no bind mount, no variable, no
socket. What an owner mounts comes ready-made from `mounts`.
Rule 2: what this engine or its machine cannot hold is refused here, with the number.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.limits import Limits, fit_cpus, fit_memory

HOME, WORKSPACE, SCRATCH = "/home/sandbox", "/workspace", "/run/sandbox-kernel"
GUEST_CODE = "/opt/sandbox-kernel/guest"
SUPERVISOR = ("python3", "-I", "-S", f"{GUEST_CODE}/supervisor.py")
# Kernel resources that are counted by user (inotify, keys, pipes' pages, pending signals) are
# then counted by session. Our images have names for these ids, and 16-bit ids exist under
# every mapping of users. systemd documents the range as one for throw-away users.
FIRST_UID, UIDS = 61184, 1024
# Killed before the user's own programs when the machine, not the sandbox, has no memory left.
_OOM_SCORE = 300
_SCRATCH_BYTES = 8 * 1024**2
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The engine's own list, and what else tells of the host or its other users.
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/bus", "/proc/cmdline", "/proc/config.gz"),
    *("/proc/driver", "/proc/dma", "/proc/fs", "/proc/interrupts", "/proc/iomem"),
    *("/proc/ioports", "/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/key-users"),
    *("/proc/keys", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags"),
    *("/proc/kpagecgroup", "/proc/latency_stats", "/proc/modules", "/proc/mtrr"),
    *("/proc/pagetypeinfo", "/proc/sched_debug", "/proc/schedstat", "/proc/scsi"),
    *("/proc/slabinfo", "/proc/softirqs", "/proc/swaps", "/proc/sysrq-trigger"),
    *("/proc/sysvipc", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo"),
    *("/proc/zoneinfo", "/proc/bootconfig", "/sys/firmware", "/sys/kernel"),
    *("/sys/devices/virtual/powercap", "/sys/devices/virtual/dmi", "/sys/module"),
    *("/sys/block", "/sys/bus", "/sys/class", "/sys/dev"),
)
_READ_ONLY = ("/proc/sys",)


# What `docker info` calls the limits that we rely on.
ENFORCED = {"MemoryLimit": "memory", "CpuCfsQuota": "CPUs", "PidsLimit": "processes"}


# What images, and Podman, call what the kernel calls otherwise.
_KERNEL_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


class Machine(NamedTuple):
    """What must be known of the engine's machine; from `docker info`."""

    cpus: int
    memory_bytes: int
    architecture: str  # as the kernel names it: "x86_64"
    runtimes: tuple[str, ...]
    unlimited: tuple[str, ...] = ()  # limits that the engine says it cannot hold
    counts_swap: bool = True

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Machine:
        """Read the answer of `GET /info`; what an engine leaves out does not bind us."""
        architecture = str(info.get("Architecture") or "")
        return cls(
            cpus=int(info.get("NCPU") or 0) or 2**20,
            memory_bytes=int(info.get("MemTotal") or 0) or 2**60,
            architecture=_KERNEL_NAMES.get(architecture, architecture),
            runtimes=tuple(info.get("Runtimes") or ()),
            unlimited=tuple(name for flag, name in ENFORCED.items() if info.get(flag) is False),
            counts_swap=info.get("SwapLimit") is not False,
        )

    @property
    def image_architecture(self) -> str:
        """As images name it: "amd64"."""
        images = {kernel: image for image, kernel in _KERNEL_NAMES.items()}
        return images.get(self.architecture, self.architecture)


def body(
    spec: SandboxSpec,
    machine: Machine,
    *,
    image: str,
    command: list[str],
    uid: int,
    gid: int,
    seccomp: str,
    labels: Mapping[str, str],
    mounts: list[dict[str, Any]],
    tmpfs: Mapping[str, str],
    volumes: Iterable[str] = (),
    image_variables: Iterable[str] = (),
) -> dict[str, Any]:
    """The whole request.

    Args:
        command: what runs as PID 1.
        uid, gid: inside and, unless the engine maps users, outside.
        seccomp: our profile, as JSON.
        mounts, tmpfs: what the owner asked for, already judged by `mounts`.
        volumes: what the image calls its own (VOLUME). The engine would make each of them a
            directory on its disk that no limit holds; they are tmpfs like our own places.
        image_variables: what the image sets, NAME=VALUE.

    Raises:
        BackendUnavailable: the engine cannot hold a limit at all.
        SettingsError: more than the engine's machine has.
    """
    if machine.unlimited:
        raise BackendUnavailable(
            f"The engine cannot limit {' and '.join(machine.unlimited)} here, so nothing is "
            "started. Give it the cgroup controllers memory, cpu and pids (a rootless engine "
            "needs them delegated by systemd)."
        )
    mounted = {str(mount["Target"]) for mount in mounts}
    volumes = {posixpath.normpath(path) for path in volumes} - mounted
    return {
        "Image": image,
        "Entrypoint": command[:1],
        "Cmd": command[1:],
        "User": f"{uid}:{gid}",
        "Env": [f"{name}={value}" for name, value in _variables(spec, image_variables).items()],
        "WorkingDir": WORKSPACE,
        "Hostname": "sandbox",
        "Labels": dict(labels),
        # Not "NetworkDisabled": that would leave /etc/hosts empty, and nobody be localhost.
        "Healthcheck": {"Test": ["NONE"]},
        "Tty": False,
        "OpenStdin": True,
        # Our end of the stream closes with us, and the guest ends with its stream.
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            **_host_config(spec, machine, seccomp),
            "Mounts": mounts,
            "Tmpfs": {**_tmpfs(spec.limits, uid, gid, volumes), **tmpfs},
        },
    }


def _host_config(spec: SandboxSpec, machine: Machine, seccomp: str) -> dict[str, Any]:
    limits = spec.limits
    config: dict[str, Any] = {
        "AutoRemove": True,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none", "Config": {}},
        "Init": False,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp}"],
        "ReadonlyRootfs": True,
        "MaskedPaths": list(_MASKED),
        "ReadonlyPaths": list(_READ_ONLY),
        "NetworkMode": "none",
        "ExtraHosts": ["sandbox:127.0.0.1"],
        # Otherwise the host's own servers and search domains are written to resolv.conf.
        "Dns": ["127.0.0.1"],
        "DnsSearch": ["."],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidsLimit": limits.processes,
        "Memory": fit_memory(limits.memory_bytes, machine.memory_bytes),
        "MemorySwap": fit_memory(limits.memory_bytes, machine.memory_bytes),
        "NanoCpus": round(fit_cpus(limits.cpus, machine.cpus) * 1e9),
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": [
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "msgqueue", "Soft": 0, "Hard": 0},
        ],
    }
    if not machine.counts_swap:
        config["MemorySwappiness"] = 0  # then nothing is swapped, and the memory limit is whole
    if spec.runtime is not None:
        config["Runtime"] = _known_runtime(spec.runtime, machine)
    return config


def _tmpfs(limits: Limits, uid: int, gid: int, volumes: Iterable[str]) -> dict[str, str]:
    """What can be written to. All of it counts towards the memory limit, too."""

    def options(mode: str, size: int, inodes: int) -> str:
        return (
            f"rw,nosuid,nodev,exec,size={size},nr_inodes={inodes},mode={mode},uid={uid},gid={gid}"
        )

    size, inodes = limits.workspace_bytes, limits.workspace_inodes
    shown = {path: options("0700", size, inodes) for path in (WORKSPACE, HOME)}
    places = (*volumes, "/tmp", "/dev/shm")  # noqa: S108
    shared = {path: options("1777", size, inodes) for path in places}
    return {**shared, **shown, SCRATCH: options("0700", _SCRATCH_BYTES, 1024)}


def _variables(spec: SandboxSpec, image_variables: Iterable[str]) -> dict[str, str]:
    """Besides what the image sets. Nothing of the host's environment, nor of its proxies."""
    variables = {
        "HOME": HOME,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108
        "TERM": "xterm-256color",
        **spec.environment,
    }
    if spec.search_path:
        variables["PATH"] = ":".join((*spec.search_path, program_path(spec, image_variables)))
    return variables


def program_path(spec: SandboxSpec, image_variables: Iterable[str]) -> str:
    """PATH without what a layer adds: the spec's own, else the image's."""
    own = dict(item.partition("=")[::2] for item in image_variables)
    return spec.environment.get("PATH") or own.get("PATH") or _PATH


def _known_runtime(name: str, machine: Machine) -> str:
    # Runtimes of containerd ("io.containerd.kata.v2") are found by name when they are used.
    if name in machine.runtimes or not machine.runtimes or "." in name:
        return name
    raise SettingsError(
        f"runtime is {name!r}, but the engine knows {', '.join(sorted(machine.runtimes))}. "
        "Add it to the engine's daemon.json, or choose one of these."
    )
