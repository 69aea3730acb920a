"""Sandboxes by bubblewrap: the host's own Python environment, read-only, nothing to set up.

In the order of a start: `head_start` spawns the `launcher`; `backend` makes a `plan` from an
`environment`, with a `seccomp` filter and `cgroups`; the launcher and `confine` go from there
to bwrap; `sandbox` is the host's end of it and `diagnosis` its words.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox_kernel.backends.bubblewrap.backend import BubblewrapBackend
    from sandbox_kernel.backends.bubblewrap.sandbox import BubblewrapSandbox

__all__ = ["BubblewrapBackend", "BubblewrapSandbox"]

_HOMES = {"BubblewrapBackend": "backend", "BubblewrapSandbox": "sandbox"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `head_start` must come before all else."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
