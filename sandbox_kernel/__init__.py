"""A Jupyter kernel whose cells run in a sandbox.

Importing this package imports nothing, not even `typing`: names below load their module
when first used, and a kernel's guest is on its way before the rest of the kernel.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox_kernel.errors import SandboxKernelError
    from sandbox_kernel.limits import Limits
    from sandbox_kernel.session import SandboxSession

_HOMES = {
    "Limits": "sandbox_kernel.limits",
    "SandboxKernelError": "sandbox_kernel.errors",
    "SandboxSession": "sandbox_kernel.session",
}

__all__ = ["Limits", "SandboxKernelError", "SandboxSession", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
