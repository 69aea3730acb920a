"""Places of the host that no guest is shown, whatever its owner asks for.

Told by their paths: the system's own, homes with their keys, and what Jupyter, an engine,
this package or a login keep where variables say. `mounts` asks here.

To add a place: a tree of the system's in a table below, what a variable names in `_protected`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

# Refused with all that is below them.
_SYSTEM_TREES = (
    *("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc", "/var/spool"),
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet"),
    "/var/snap/docker",
)
# Refused as a whole: somebody's directory below them may be shown.
_SYSTEM_ROOTS = frozenset(
    "/ /usr /bin /sbin /lib /lib32 /lib64 /libx32 /var /var/lib /var/log /var/tmp /tmp /home "
    "/root /opt /lost+found".split()
)
# Below these a name with a dot in front is settings, keys, caches or somebody's sockets.
_DOTS_BELOW = ("/home", "/root", "/tmp", "/var/tmp")  # noqa: S108


def is_in(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or lies below it. Both normalised."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def why_not(path: str, data_root: str, *, is_writable: bool) -> str:
    """The reason, as a clause, or "" when there is none."""
    if path in _SYSTEM_ROOTS:
        return f"{path} is one of the system's own directories"
    for tree in _SYSTEM_TREES:
        if is_in(path, tree) or is_in(tree, path):
            return f"{path} is, holds or lies in {tree}, which belongs to the system"
    if os.path.dirname(path) == "/home":
        return f"{path} is somebody's home directory"
    own = homes()
    for home in own:
        if is_in(home, path):
            return f"{path} is or holds the home directory {home}, with its keys and settings"
    for root in (*own, *_DOTS_BELOW):
        below = path[len(root) :].split("/") if is_in(path, root) else []
        hidden = next((name for name in below if name.startswith(".")), None)
        if hidden is not None:
            return f"{hidden} is a hidden directory, where programs keep keys and settings"
    for what, place in _protected(data_root, is_writable=is_writable):
        if is_in(path, place) or is_in(place, path):
            return f"{path} is, holds or lies in {place}, {what}"
    return ""


def homes() -> list[str]:
    """This user's home, in every spelling."""
    import pwd

    named = [os.environ.get("HOME", "")]
    with suppress(KeyError):  # a user without an account, as containers have them
        named.append(pwd.getpwuid(os.getuid()).pw_dir)
    return _spellings(path for path in named if path not in ("", "/"))


def _spellings(paths: Iterable[str]) -> list[str]:
    absolute = [os.path.normpath(path) for path in paths if path.startswith("/")]
    return list(dict.fromkeys([*absolute, *(os.path.realpath(path) for path in absolute)]))


def _protected(data_root: str, *, is_writable: bool) -> Iterator[tuple[str, str]]:
    """What no guest may be in: why, and where. Computed at each use: variables change."""
    for what, paths in (
        ("where an engine listens", _engine_places()),
        ("where the engine keeps its files", [data_root]),
        ("where Jupyter keeps its keys and kernels", _jupyter_places()),
        ("where sandbox-kernel keeps its settings and caches", _own_places()),
        ("where programs of this login listen", _login_places()),
        ("whose programs run outside of the sandbox", _code_places() if is_writable else []),
    ):
        for place in _spellings(paths):
            if place != "/":
                yield what, place


def _engine_places() -> list[str]:
    """The directories of sockets."""
    from sandbox_kernel.backends.docker import engine

    host = engine.place()
    sockets = [host.partition("://")[2]] if "unix://" in host else []
    sockets += ["/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/x.sock"]
    return [os.path.dirname(os.path.realpath(path)) for path in sockets]


def _jupyter_places() -> list[str]:
    from jupyter_core import paths

    places = [paths.jupyter_runtime_dir(), paths.jupyter_config_dir(), paths.jupyter_data_dir()]
    places += [os.environ.get("JUPYTER_RUNTIME_DIR", ""), *paths.jupyter_path("kernels")]
    return [str(place) for place in places]


def _own_places() -> list[str]:
    from sandbox_kernel.settings import settings_path

    path, is_named = settings_path(os.environ)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [
        # Somebody's own choice of a file may lie beside other files of theirs.
        os.path.abspath(path if is_named else os.path.dirname(path)),
        os.path.join(cache, "sandbox-kernel"),
    ]


def _login_places() -> list[str]:
    agent = os.environ.get("SSH_AUTH_SOCK", "")
    return [os.environ.get("XDG_RUNTIME_DIR", ""), os.path.dirname(agent)]


def _code_places() -> list[str]:
    import sys

    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.prefix, sys.base_prefix, package]
