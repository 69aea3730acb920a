"""Sessions of the languages that run behind the bridge, for their tests.

Backends with images use the image of all languages; where it does not have the kernel, the
test is skipped and says so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandbox_kernel import events, languages
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.languages import Language
from sandbox_kernel.limits import Limits
from tests.support import docker_engine
from tests.support.sessions import Cell, Driver
from tests.support.waiting import PATIENCE_S

POLYGLOT = "sandbox-kernel/polyglot"


@asynccontextmanager
async def bridged_session(language: Language, backend: str, **limits: Any) -> AsyncIterator[Driver]:
    """A session of a language that need not be registered otherwise."""
    image = None
    if backend == "docker":
        docker_engine.require()
        docker_engine.require_image(POLYGLOT)
        image = POLYGLOT
    limits.setdefault("interrupt_grace_s", PATIENCE_S)
    before = dict(languages._registered)
    languages.register(language)
    driver = Driver(
        backend, SandboxSpec(language=language.name, limits=Limits(**limits), image=image), "safe"
    )
    try:
        await driver.session.start()
        info = driver.session._guest.info if driver.session._guest else None
        if info and info.get("implementation") == "missing":
            pytest.skip(f"{backend}: {info.get('banner')}")
        yield driver
    finally:
        languages._registered.clear()
        languages._registered.update(before)
        await driver.session.close()
    if backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())


async def interrupted(driver: Driver, code: str, *, presses: int = 1) -> Cell:
    """Run a cell that prints "up", and interrupt it then; again after a while, if it goes on."""
    is_up = asyncio.Event()

    def hear(event: events.Event) -> None:
        if isinstance(event, events.TextWritten) and "up" in event.text:
            is_up.set()

    async with asyncio.timeout(60):
        running = asyncio.create_task(driver.run(code, on_event=hear))
        await is_up.wait()
        for _ in range(presses):
            await driver.session.interrupt()
            await asyncio.wait([running], timeout=5 if presses > 1 else None)
        return await running
