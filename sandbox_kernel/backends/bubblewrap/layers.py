"""Layers of packages as directories of the host, bound read-only into every guest.

    <cache>/sandbox-kernel/dependencies/layers/<name>/

Guests see the directory of all layers (see `plan`), so that packages can come while they
run. It has mode 0311: whoever the guest is outside, it finds what it knows the name of, and
lists nothing. Nor do we list it: `dependencies.store` has the names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from sandbox_kernel.backends.base import LAYERS, LayerStore, SandboxSpec
from sandbox_kernel.backends.bubblewrap import environment, plan
from sandbox_kernel.errors import DependencyFailed

# What else binaries are made for, beside Python: name of the ecosystem -> its programs.
_PROGRAMS = {"npm": ("node",), "gem": ("ruby",), "cran": ("R", "Rscript"), "apt": (), "apk": ()}
# The directory of all layers, and one layer: whoever a guest is outside.
_UNLISTED, _READABLE = 0o311, 0o555


def directory() -> str:
    """Where the layers are, made if it is not there yet; "" where nothing can be made, or
    others could change it."""
    from sandbox_kernel.dependencies.cache import problem, root

    path = os.path.join(root(), "layers")
    try:
        if os.stat(path).st_mode & 0o777 == _UNLISTED:
            return "" if problem() else path
    except OSError:
        pass
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(path, _UNLISTED)
        os.chmod(path, _UNLISTED)
    except OSError:
        return ""
    return "" if problem() else path


class BubblewrapLayers(LayerStore):
    """See the module."""

    def place(self) -> str:
        return "host"

    def built_for(self, spec: SandboxSpec, ecosystem: str) -> Mapping[str, str]:
        machine, found = os.uname().machine, environment.discover(spec.python)
        if ecosystem == "pip":
            return {
                "backend": "bubblewrap",
                "machine": machine,
                "python": os.path.realpath(found.executable),
                "version": found.version,
                "prefix": found.prefix,
                "distributions": _distributions(found),
            }
        path = plan.search_path(found)
        programs = " ".join(_program(name, path) for name in _PROGRAMS[ecosystem])
        return {
            "backend": "bubblewrap",
            "machine": machine,
            "programs": programs,
            "system": _status("/etc/os-release"),
            "packages": _status("/var/lib/dpkg/status") if ecosystem == "apt" else "",
        }

    def program_path(self, spec: SandboxSpec) -> str:
        return plan.variables(spec, environment.discover(spec.python))["PATH"]

    def guest_path(self, name: str) -> str:
        return f"{LAYERS}/{name}"

    def put(self, directory: str, name: str, spec: SandboxSpec) -> None:
        parent = _require()
        path = os.path.join(parent, name)
        try:
            os.rename(directory, path)
            os.chmod(path, _READABLE)
        except OSError as error:
            raise DependencyFailed(
                f"The installed packages could not be kept in {parent} ({error.strerror})."
            ) from None

    def drop(self, name: str) -> None:
        from sandbox_kernel.dependencies.sealing import delete

        try:
            delete(os.path.join(_require(), name))
        except OSError as error:
            raise DependencyFailed(
                f"The layer {name[:8]}… could not be removed ({error.strerror})."
            ) from None

    def has(self, name: str) -> bool:
        return os.path.isdir(os.path.join(_require(), name))


def _require() -> str:
    path = directory()
    if not path:
        from sandbox_kernel.dependencies.cache import problem, root

        raise DependencyFailed(
            problem()
            or f"Packages are kept in {root()}, which cannot be written to. Make it writable, or "
            "set XDG_CACHE_HOME to a directory that is."
        )
    return path


def _distributions(found: environment.Environment) -> str:
    """A digest of what is installed, since an installer takes it into account."""
    from hashlib import sha256

    short = ".".join(found.version.split(".")[:2])
    names = []
    for prefix in dict.fromkeys((found.prefix, found.base_prefix)):
        for place in (f"lib/python{short}/site-packages", "lib/python3/dist-packages"):
            names += _info_directories(os.path.join(prefix, place))
    if found.user_site:
        names += _info_directories(found.user_site)
    return sha256("\0".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _info_directories(path: str) -> list[str]:
    try:
        found = os.listdir(path)
    except OSError:
        return []
    return [f"{path}/{name}" for name in found if name.endswith((".dist-info", ".egg-info"))]


def _program(name: str, search_path: Iterable[str]) -> str:
    """A program by its real path, size and time of change."""
    for parent in search_path:
        path = os.path.join(parent, name)
        if os.path.exists(path):
            return f"{os.path.realpath(path)} {_status(path)}"
    return f"{name} -"


def _status(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
