"""Sessions in which several languages run beside Python, for tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandbox_kernel.availability import find_problem
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.limits import Limits
from tests.support import docker_engine
from tests.support.sessions import Driver, Open

POLYGLOT = "sandbox-kernel/polyglot"


def require_languages(backend: str, *languages: str) -> None:
    """Skip, and say why, where one of `languages` cannot run."""
    if backend == "docker":
        docker_engine.require_image(POLYGLOT)
        return
    for language in languages:
        if reason := find_problem(language):
            pytest.skip(f"{language}: {reason}")


@pytest.fixture
async def open_polyglot(backend: str) -> AsyncIterator[Open]:
    """`await open_polyglot(policy="safe", **limits)`; run with `runner=` a language's name."""
    drivers: list[Driver] = []

    async def open_it(policy: str = "safe", image: str | None = None, **limits: Any) -> Driver:
        image = POLYGLOT if backend == "docker" else image
        driver = Driver(backend, SandboxSpec(limits=Limits(**limits), image=image), policy)
        drivers.append(driver)
        await driver.session.start()
        return driver

    yield open_it
    for driver in drivers:
        await driver.session.close()
    if backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())
