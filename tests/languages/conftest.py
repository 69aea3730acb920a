"""Sessions of every language that has a runner, on every backend, one for all of a module's
tests: what a test leaves behind is its own variables, or a fresh runner."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox_kernel.availability import find_problem
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.limits import Limits
from tests.support import docker_engine
from tests.support.sessions import BACKENDS, Driver
from tests.support.snippets import SNIPPETS, Snippets
from tests.support.waiting import PATIENCE_S

POLYGLOT = "sandbox-kernel/polyglot"


@pytest.fixture(scope="module", params=list(SNIPPETS))
def language_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=BACKENDS)
def language_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def snippets(language_name: str) -> Snippets:
    return SNIPPETS[language_name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(language_name: str, language_backend: str) -> AsyncIterator[Driver]:
    """A session of the language; without what it needs the tests are skipped and say so."""
    image = None
    if language_backend == "docker":
        docker_engine.require()
        docker_engine.require_image(POLYGLOT)
        image = POLYGLOT
    elif reason := find_problem(language_name):
        pytest.skip(f"{language_name}: {reason}")
    limits = Limits(interrupt_grace_s=PATIENCE_S)
    spec = SandboxSpec(language=language_name, limits=limits, image=image)
    driver = Driver(language_backend, spec, "safe")
    try:
        await driver.session.start()
        yield driver
    finally:
        await driver.session.close()
    if language_backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())
