"""Fixtures of all tests, and the order in which folders and slow files run.

The unit lane is quick and comes first; what starts kernels, clients and browsers
follows, so that a broken function is reported before the slow lanes begin.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import docker_engine

if TYPE_CHECKING:
    from tests.support.kernels import Kernel

HERE = Path(__file__).parent
# Anything not listed is a unit test and runs first.
LATE = [
    *("guest", "guest_runners", "guest_bridge", "session", "kernel", "backends", "engine"),
    *("test_sync.py", "languages", "dependencies", "ai", "cli", "conformance", "clients"),
    *("sharing", "test_notebooks.py", "test_readme.py", "escape", "benchmarks", "browser"),
]

# A busy machine is no defect of an example that took long. The examples are the same each time,
# so that what passes here passes everywhere; `--hypothesis-profile=search` looks for others.
settings.register_profile(
    "search", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile("same")


def pytest_configure() -> None:
    """What the machine's owner set for their own kernels is not what is tested here."""
    # Shells start what runs in the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    docker_engine.keep_requirement()
    for name in [name for name in os.environ if name.startswith("SANDBOX_KERNEL_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_lane)


def _lane(item: pytest.Item) -> int:
    parts = item.path.relative_to(HERE).parts if item.path.is_relative_to(HERE) else ()
    return 1 + LATE.index(parts[0]) if parts and parts[0] in LATE else 0


@pytest.fixture(scope="session")
def kernel_name() -> str:
    """The kernelspec under test."""
    from tests.support.kernels import KERNEL_NAME

    return KERNEL_NAME


@pytest.fixture(scope="module")
def kernel_backend() -> str:
    """What isolates the kernels under test; `conformance` runs on several."""
    return "auto"


@pytest.fixture(scope="module")
def kernel_of_the_module(kernel_name: str, kernel_backend: str) -> Iterator[Replaceable]:
    with ExitStack() as stack:
        yield Replaceable(kernel_name, kernel_backend, stack)


@pytest.fixture
def shared_kernel(kernel_of_the_module: Replaceable) -> Kernel:
    """A kernel for the module's tests that leave it as they found it."""
    return kernel_of_the_module.get()


class Replaceable:
    """A kernel that is replaced when a failed test left it stuck: one failure stays one."""

    def __init__(self, name: str, backend: str, stack: ExitStack) -> None:
        self._name = name
        self._backend = backend
        self._stack = stack
        self._kernel: Kernel | None = None

    def get(self) -> Kernel:
        from tests.support.kernels import running_kernel

        if self._kernel is None or not self._kernel.is_responsive():
            self._stack.close()
            started = running_kernel(self._name, backend=self._backend)
            self._kernel = self._stack.enter_context(started)
        return self._kernel


@pytest.fixture
def start_kernel(kernel_backend: str) -> Iterator[Callable[..., Kernel]]:
    """Start kernels for one test: `start_kernel(name, env=…, transport=…)`."""
    from tests.support.kernels import running_kernel

    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            running_kernel(*args, backend=kernel_backend, **options)
        )


@pytest.fixture
def kernel(start_kernel: Callable[..., Kernel]) -> Kernel:
    """A fresh kernel that the test may break."""
    return start_kernel()
