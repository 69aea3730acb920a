"""A kernel whose sandbox is scripted: the real server process, real sockets, a real client."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from tests.support.kernels import Kernel, running_kernel

PROGRAM = Path(__file__).parent / "scripted_kernel.py"


@pytest.fixture(scope="session")
def scripted_specs(tmp_path_factory: pytest.TempPathFactory) -> KernelSpecManager:
    """A kernelspec manager that knows the kernel `scripted` only."""
    specs = tmp_path_factory.mktemp("kernels")
    (specs / "scripted").mkdir()
    spec = {
        "argv": [sys.executable, "-P", str(PROGRAM), "-f", "{connection_file}"],
        "display_name": "scripted",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"supported_encryption": ["curve"]},
    }
    (specs / "scripted" / "kernel.json").write_text(json.dumps(spec))
    return KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False)


@pytest.fixture
def start_scripted(start_kernel: Callable[..., Kernel], scripted_specs: KernelSpecManager) -> Any:
    """Start a scripted kernel of one's own: `start_scripted(transport=…, env=…)`."""
    return lambda **options: start_kernel("scripted", kernel_spec_manager=scripted_specs, **options)


@pytest.fixture
def scripted(start_scripted: Callable[..., Kernel]) -> Kernel:
    """A fresh scripted kernel, for tests that break it or count on its first number."""
    return start_scripted()


@pytest.fixture(scope="module")
def served(scripted_specs: KernelSpecManager) -> Any:
    """One scripted kernel for the module's tests that leave it as they found it."""
    with running_kernel("scripted", kernel_spec_manager=scripted_specs) as kernel:
        yield kernel
