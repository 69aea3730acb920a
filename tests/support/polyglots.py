"""Sessions in which several languages run beside Python, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandbox_kernel.availability import find_problem
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.limits import Limits
from tests.support import docker_engine
from tests.support.sessions import Driver

POLYGLOT = "sandbox-kernel/polyglot"


def require_languages(backend: str, *languages: str) -> None:
    """Skip, and say why, where one of `languages` cannot run."""
    if backend == "docker":
        docker_engine.require()
        docker_engine.require_image(POLYGLOT)
        return
    for language in languages:
        if reason := find_problem(language):
            pytest.skip(f"{language}: {reason}")


@asynccontextmanager
async def polyglot(backend: str, policy: str = "safe", **limits: Any) -> AsyncIterator[Driver]:
    """A session of Python; run with `runner=` another language's name."""
    image = POLYGLOT if backend == "docker" else None
    driver = Driver(backend, SandboxSpec(limits=Limits(**limits), image=image), policy)
    try:
        await driver.session.start()
        yield driver
    finally:
        await driver.session.close()
