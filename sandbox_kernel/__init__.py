"""A Jupyter kernel whose cells run in a sandbox.

Importing this package imports nothing, not even `typing`: names below load their module
when first used, and a kernel's guest is on its way before the rest of the kernel.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox_kernel.engine import Engine, Result, Session, Strategy
    from sandbox_kernel.errors import SandboxKernelError
    from sandbox_kernel.limits import Limits

_HOMES = {
    "Engine": "sandbox_kernel.engine",
    "Limits": "sandbox_kernel.limits",
    "Result": "sandbox_kernel.engine",
    "SandboxKernelError": "sandbox_kernel.errors",
    "Session": "sandbox_kernel.engine",
    "Strategy": "sandbox_kernel.engine",
}

__all__ = [
    "Engine",
    "Limits",
    "Result",
    "SandboxKernelError",
    "Session",
    "Strategy",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
