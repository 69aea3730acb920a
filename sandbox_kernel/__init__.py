"""A Jupyter kernel whose cells run in a sandbox.

Importing this package is cheap: names below load their module when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sandbox_kernel.errors import SandboxKernelError
    from sandbox_kernel.limits import Limits
    from sandbox_kernel.session import Session

_HOMES = {
    "Limits": "sandbox_kernel.limits",
    "SandboxKernelError": "sandbox_kernel.errors",
    "Session": "sandbox_kernel.session",
}

__all__ = ["Limits", "SandboxKernelError", "Session", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
