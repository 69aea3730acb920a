"""What a live container is allowed, criterion by criterion, seen from the engine, host and inside.

The criteria are those of section 5 of the CIS Docker Benchmark, which docker-bench-security
checks. One sandbox lives while the facts are collected; each test judges them.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend, container
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from tests.support.engines import image, shared_engine

LIMITS = Limits(
    memory_bytes=300 * 2**20,
    cpus=1.5,
    processes=77,
    workspace_bytes=20 * 2**20,
    workspace_inodes=500,
    open_files=333,
)
CANARY = "canary-4c1f0b7e"

INSIDE = """
import glob, json, os, socket
def read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError as error:
        return f"{type(error).__name__}"
def attempt(path):
    try:
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
        return "written"
    except OSError as error:
        return error.strerror
def tmpfs(path):
    stat = os.statvfs(path)
    return [stat.f_blocks * stat.f_frsize, stat.f_files]
print("o" * 70000)
print("FACTS" + json.dumps({
    "status": dict(line.split(":", 1) for line in read("/proc/self/status").splitlines()),
    "commands": [read(p).split(chr(0))[0] for p in glob.glob("/proc/[0-9]*/cmdline")],
    "mounts": [line.split() for line in read("/proc/self/mountinfo").splitlines()],
    "interfaces": sorted(line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]),
    "listening": read("/proc/net/tcp").splitlines()[1:] + read("/proc/net/tcp6").splitlines()[1:],
    "limits": read("/proc/self/limits"),
    "devices": sorted(os.listdir("/dev")),
    "block_devices": glob.glob("/dev/sd*") + glob.glob("/dev/vd*") + glob.glob("/dev/nvme*"),
    "etc": {name: read(f"/etc/{name}") for name in ("resolv.conf", "hosts", "hostname")},
    "environment": dict(os.environ),
    "hostname": socket.gethostname(),
    "cgroup": read("/proc/self/cgroup"),
    "sockets": glob.glob("/run/*.sock") + glob.glob("/var/run/*.sock"),
    "writes": {p: attempt(p + "/probe") for p in
        ("/", "/etc", "/usr", "/proc/sys/kernel", "/workspace", "/home/sandbox", "/tmp", "/dev/shm",
         "/run", "/var/tmp", "/opt", "/dev", "/mnt")},
    "tmpfs": {p: tmpfs(p) for p in ("/workspace", "/home/sandbox", "/tmp", "/dev/shm", "/run/sandbox-kernel")},
    "core_pattern": attempt("/proc/sys/kernel/core_pattern"),
    "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
}))
"""  # noqa: E501


class Facts(NamedTuple):
    """Of one live container."""

    inspect: dict[str, Any]
    inside: dict[str, Any]
    outer_uids: set[int]
    outer_namespaces: dict[str, str]  # of our own process
    cgroups: dict[str, str]  # the limits as the kernel of the host holds them
    logs: list[Path]
    docker_info: dict[str, Any]

    @property
    def host_config(self) -> dict[str, Any]:
        return self.inspect["HostConfig"]

    def status(self, name: str) -> str:
        return self.inside["status"][name].strip()


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Collected while it lives, from all three sides."""
    engine = shared_engine()
    os.environ["CANARY"] = CANARY
    try:
        return asyncio.run(_collect(DockerBackend(engine), image(engine.api())))
    finally:
        del os.environ["CANARY"]


async def _collect(backend: DockerBackend, name: str) -> Facts:
    session = SandboxSession(backend, SandboxSpec(image=name, limits=LIMITS))
    api = backend.engine.api()
    try:
        await session.start()
        heard: list[str] = []
        outcome = await session.execute(
            INSIDE, on_event=lambda event: heard.append(getattr(event, "text", ""))
        )
        assert outcome.error is None, outcome.error
        identity = session._guest.sandbox.container_id
        inspect = api.inspect_container(identity)
        pids = [int(row[1]) for row in api.top(identity)["Processes"]]
        root = Path(backend.engine.info()["DockerRootDir"])
        return Facts(
            inspect,
            json.loads("".join(heard).partition("FACTS")[2]),
            {uid for pid in pids for uid in _uids(pid)},
            {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
            _cgroups(pids[0]),
            list((root / "containers" / inspect["Id"]).glob("*.log*")),
            backend.engine.info(),
        )
    finally:
        await session.close()


def _uids(pid: int) -> list[int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(word) for line in lines if line.startswith("Uid:") for word in line.split()[1:]]


# Version 1 and version 2 of control groups.
_FILES = (
    *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "pids.max"),
    *("memory.max", "memory.swap.max", "cpu.max", "devices.list"),
)


def _cgroups(pid: int) -> dict[str, str]:
    """Values of the control groups of a process, by file."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for base in (controllers, controllers.split(",")[0], "unified", ""):
            for name in _FILES:
                file = Path("/sys/fs/cgroup") / base / path.lstrip("/") / name
                if file.is_file():
                    found[name] = file.read_text().strip()
    return found


# --- docker-bench-security, section 5 -------------------------------------------------


def apparmor(facts: Facts) -> None:
    """Docker's own profile, wherever the kernel has AppArmor."""
    has = Path("/sys/module/apparmor/parameters/enabled")
    is_on = has.is_file() and has.read_text().strip() == "Y"
    assert facts.inspect["AppArmorProfile"] == ("docker-default" if is_on else "")
    assert not any("apparmor" in option for option in facts.host_config["SecurityOpt"])


def selinux(facts: Facts) -> None:
    """Nothing here switches a label off; where the engine labels, ours is labelled."""
    assert not any(option.startswith("label") for option in facts.host_config["SecurityOpt"])


def capabilities(facts: Facts) -> None:
    assert facts.host_config["CapDrop"] == ["ALL"]
    assert not facts.host_config["CapAdd"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts.status(name), 16) == 0, name


def privileged(facts: Facts) -> None:
    assert facts.host_config["Privileged"] is False


def host_directories(facts: Facts) -> None:
    """No directory of the host at all: only the three files that the engine itself makes.

    The one volume holds installed packages, and cannot be written to.
    """
    [packages] = facts.inspect["Mounts"]
    assert (packages["Type"], packages["Name"]) == ("volume", "sandbox-kernel-layers")
    assert packages["RW"] is False
    assert not facts.host_config["Binds"]
    real = {mount[4] for mount in facts.inside["mounts"] if mount[3] != "/" and _is_disk(mount)}
    engines = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
    assert real <= {*engines, packages["Destination"]}


def _is_disk(mount: list[str]) -> bool:
    return mount[mount.index("-") + 1] in ("ext4", "xfs", "btrfs", "zfs", "overlay")


def no_sshd(facts: Facts) -> None:
    commands = facts.inside["commands"]
    assert commands
    assert not any("sshd" in command for command in commands)


def privileged_ports(facts: Facts) -> None:
    assert not facts.host_config["PortBindings"]
    assert not facts.host_config["PublishAllPorts"]


def open_ports(facts: Facts) -> None:
    assert not facts.inspect["NetworkSettings"]["Ports"]
    assert facts.inside["listening"] == []


def host_network(facts: Facts) -> None:
    assert facts.host_config["NetworkMode"] == "none"
    assert facts.inside["interfaces"] == ["lo"]
    assert facts.inside["namespaces"]["net"] != facts.outer_namespaces["net"]


def memory(facts: Facts) -> None:
    """Swap is none: the two limits are equal."""
    assert facts.host_config["Memory"] == LIMITS.memory_bytes
    assert facts.host_config["MemorySwap"] == LIMITS.memory_bytes
    held = facts.cgroups.get("memory.limit_in_bytes") or facts.cgroups["memory.max"]
    assert int(held) == LIMITS.memory_bytes


def cpu(facts: Facts) -> None:
    assert facts.host_config["NanoCpus"] == LIMITS.cpus * 1e9
    held = facts.cgroups.get("cpu.cfs_quota_us") or facts.cgroups["cpu.max"].split()[0]
    assert int(held) == LIMITS.cpus * 100_000


def read_only_root(facts: Facts) -> None:
    assert facts.host_config["ReadonlyRootfs"] is True
    writes = facts.inside["writes"]
    ours = {"/workspace", "/home/sandbox", "/tmp", "/dev/shm"}
    assert {path for path, said in writes.items() if said == "written"} == ours


def bind_address(facts: Facts) -> None:
    """No port is published, so there is no address to bind."""
    assert not facts.inspect["NetworkSettings"]["Ports"]


def restart_policy(facts: Facts) -> None:
    """Stricter than "on-failure, five times": never, and it is removed when it ends."""
    assert facts.host_config["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert facts.host_config["AutoRemove"] is True


def host_pids(facts: Facts) -> None:
    assert facts.host_config["PidMode"] == ""
    assert facts.inside["namespaces"]["pid"] != facts.outer_namespaces["pid"]


def host_ipc(facts: Facts) -> None:
    """Private is stricter than the default: no other container may join."""
    assert facts.host_config["IpcMode"] == "private"
    assert facts.inside["namespaces"]["ipc"] != facts.outer_namespaces["ipc"]


def devices(facts: Facts) -> None:
    assert not facts.host_config["Devices"]
    assert not facts.host_config["DeviceRequests"]
    assert facts.inside["block_devices"] == []
    usual = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"}
    usual |= {"stderr", "stdin", "stdout", "tty", "urandom", "zero", "console"}
    assert set(facts.inside["devices"]) <= usual


def ulimits(facts: Facts) -> None:
    """They are set because they are needed: descriptors, and no core files."""
    rows = {line[:26].strip(): line[26:].split()[:2] for line in _lines(facts.inside["limits"])}
    assert rows["Max open files"] == [str(LIMITS.open_files)] * 2
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max msgqueue size"] == ["0", "0"]


def _lines(text: str) -> list[str]:
    return text.splitlines()[1:]


def propagation(facts: Facts) -> None:
    assert not any(word.startswith("shared:") for m in facts.inside["mounts"] for word in m[6:9])


def host_uts(facts: Facts) -> None:
    assert facts.host_config["UTSMode"] == ""
    assert facts.inside["namespaces"]["uts"] != facts.outer_namespaces["uts"]
    assert facts.inside["hostname"] == "sandbox" != socket.gethostname()


def seccomp(facts: Facts) -> None:
    """Not the engine's default profile but our own, which allows less."""
    (option,) = [o for o in facts.host_config["SecurityOpt"] if o.startswith("seccomp=")]
    profile = json.loads(option.removeprefix("seccomp="))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert facts.status("Seccomp") == "2"


def exec_privileged(facts: Facts) -> None:
    """Nobody runs `docker exec`, so nobody does it with privileges."""
    assert not facts.inspect["ExecIDs"]


def exec_root(facts: Facts) -> None:
    assert not facts.inspect["ExecIDs"]
    user, group = map(int, facts.inspect["Config"]["User"].split(":"))
    assert user == group
    assert user in range(container.FIRST_UID, container.FIRST_UID + container.UIDS)


def cgroup(facts: Facts) -> None:
    """In a group of its own below the engine's, which it cannot see past."""
    assert facts.host_config["CgroupParent"] == ""
    assert facts.host_config["CgroupnsMode"] == "private"
    assert facts.inspect["Id"] not in facts.inside["cgroup"]
    assert facts.inside["namespaces"]["cgroup"] != facts.outer_namespaces["cgroup"]


def no_new_privileges(facts: Facts) -> None:
    assert "no-new-privileges:true" in facts.host_config["SecurityOpt"]
    assert facts.status("NoNewPrivs") == "1"


def health(facts: Facts) -> None:
    """The stream is the health check. An image's own would be commands nobody asked for."""
    assert facts.inspect["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "Health" not in facts.inspect["State"]


def image_version(facts: Facts) -> None:
    """Which version is the owner's choice; a start never pulls (see `test_bad_input`)."""
    assert facts.inspect["Image"].startswith("sha256:")


def pids_limit(facts: Facts) -> None:
    assert facts.host_config["PidsLimit"] == LIMITS.processes
    assert int(facts.cgroups["pids.max"]) == LIMITS.processes


def default_bridge(facts: Facts) -> None:
    assert set(facts.inspect["NetworkSettings"]["Networks"]) <= {"none"}
    assert facts.inspect["NetworkSettings"]["IPAddress"] == ""


def host_users(facts: Facts) -> None:
    """Where the engine maps users, ours are mapped, too; "host" would opt out."""
    assert facts.host_config["UsernsMode"] == ""


def engine_socket(facts: Facts) -> None:
    assert facts.inside["sockets"] == []
    assert not any("docker.sock" in word for mount in facts.inside["mounts"] for word in mount)


CRITERIA: dict[str, Callable[[Facts], None]] = {
    "5.1 AppArmor profile": apparmor,
    "5.2 SELinux options": selinux,
    "5.3 Linux kernel capabilities are restricted": capabilities,
    "5.4 privileged containers are not used": privileged,
    "5.5 sensitive host directories are not mounted": host_directories,
    "5.6 sshd is not run": no_sshd,
    "5.7 privileged ports are not mapped": privileged_ports,
    "5.8 only needed ports are open": open_ports,
    "5.9 the host's network namespace is not shared": host_network,
    "5.10 memory is limited": memory,
    "5.11 CPU is set": cpu,
    "5.12 the root file system is read-only": read_only_root,
    "5.13 incoming traffic is bound to one interface": bind_address,
    "5.14 restart policy": restart_policy,
    "5.15 the host's process namespace is not shared": host_pids,
    "5.16 the host's IPC namespace is not shared": host_ipc,
    "5.17 host devices are not exposed": devices,
    "5.18 ulimits are overwritten where needed": ulimits,
    "5.19 mount propagation is not shared": propagation,
    "5.20 the host's UTS namespace is not shared": host_uts,
    "5.21 seccomp is not disabled": seccomp,
    "5.22 no exec with privileges": exec_privileged,
    "5.23 no exec as root": exec_root,
    "5.24 cgroup usage": cgroup,
    "5.25 no additional privileges": no_new_privileges,
    "5.26 health": health,
    "5.27 image version": image_version,
    "5.28 process limit": pids_limit,
    "5.29 the default bridge is not used": default_bridge,
    "5.30 the host's user namespaces are not shared": host_users,
    "5.31 the engine's socket is not mounted": engine_socket,
}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_live_container_meets(criterion, facts):
    CRITERIA[criterion](facts)


def test_no_criterion_of_the_benchmark_is_left_out():
    assert [name.split()[0] for name in CRITERIA] == [f"5.{n}" for n in range(1, 32)]


# --- what the benchmark does not ask --------------------------------------------------


def test_no_process_is_root_outside(facts):
    assert facts.outer_uids
    first = container.FIRST_UID
    mapped = "userns" in str(facts.docker_info.get("SecurityOptions"))
    assert all(uid > 0 for uid in facts.outer_uids)
    assert mapped or all(first <= uid < first + container.UIDS for uid in facts.outer_uids)


@pytest.mark.parametrize("path", ["/workspace", "/home/sandbox", "/tmp", "/dev/shm"])
def test_what_can_be_written_is_capped_in_bytes_and_inodes(path, facts):
    size, inodes = facts.inside["tmpfs"][path]
    assert size == LIMITS.workspace_bytes
    assert inodes == LIMITS.workspace_inodes
    (mount,) = [mount for mount in facts.inside["mounts"] if mount[4] == path]
    assert {"nosuid", "nodev"} <= set(mount[5].split(","))


def test_scratch_directory_is_small(facts):
    size, inodes = facts.inside["tmpfs"]["/run/sandbox-kernel"]
    assert size == 8 * 2**20
    assert inodes == 1024


def test_kernel_settings_of_the_host_cannot_be_written(facts):
    assert facts.inside["core_pattern"] in ("Read-only file system", "Permission denied")


def test_names_and_servers_of_the_host_are_not_inside(facts):
    etc = facts.inside["etc"]
    host = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    words = {line.split()[1] for line in host.splitlines() if line.startswith("nameserver")}
    words |= {socket.gethostname()} - {"sandbox", "localhost"}
    text = "\n".join(etc.values()) + json.dumps(facts.inside["environment"])
    assert [word for word in words - {"127.0.0.1"} if word in text] == []
    assert etc["hostname"].strip() == "sandbox"
    lines = [line for line in etc["resolv.conf"].splitlines() if not line.startswith("#")]
    assert set(lines) <= {"nameserver 127.0.0.1", "search .", ""}


def test_variables_of_the_host_are_not_inside(facts):
    """Nor are the proxies that the client's configuration would add."""
    text = json.dumps([facts.inside["environment"], facts.inspect["Config"]["Env"]])
    assert CANARY not in text
    assert "proxy" not in text.lower()


def test_directories_of_the_host_do_not_show_in_the_mount_table(facts):
    """Of the engine's own directories their names show: of the root's layers, and of /etc."""
    shown = {mount[3] for mount in facts.inside["mounts"] if mount[4] not in ("/",)}
    home = str(Path.home())
    assert not any(path.startswith((home + "/", os.getcwd())) for path in shown)


def test_output_is_written_to_no_log(facts):
    """The cell printed 70,000 characters; a json-file driver would have kept them on disk."""
    assert facts.host_config["LogConfig"] == {"Type": "none", "Config": {}}
    assert facts.logs == []
    assert facts.inspect["LogPath"] == ""
