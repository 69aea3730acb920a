"""Backends by name. A new one is a module here and a row in `_BACKENDS`.

Nothing is imported here before it is used: `bubblewrap.head_start` comes first of all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend

# name: (module, class). Strongest first among those that need no daemon.
_BACKENDS = {
    "bubblewrap": ("sandbox_kernel.backends.bubblewrap", "BubblewrapBackend"),
    "docker": ("sandbox_kernel.backends.docker", "DockerBackend"),
}


def names() -> list[str]:
    """The names that `get` takes, besides `auto`."""
    return list(_BACKENDS)


def shows_host(name: str) -> bool:
    """Whether guests see this host's own Python environment, and not an image."""
    return name in ("auto", "bubblewrap")


def get(name: str = "auto") -> Backend:
    """The backend called `name`; `auto` is the strongest embedded one.

    Raises:
        SettingsError: there is no such backend.
    """
    import importlib

    from sandbox_kernel.errors import SettingsError

    chosen = next(iter(_BACKENDS)) if name == "auto" else name
    if chosen not in _BACKENDS:
        raise SettingsError(
            f"There is no backend {name!r}; choose one of auto, {', '.join(_BACKENDS)}."
        )
    module, cls = _BACKENDS[chosen]
    backend: Backend = getattr(importlib.import_module(module), cls)()
    return backend
