"""Engines for tests: on every backend, and nothing of them is left when the test is over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from sandbox_kernel.backends.bubblewrap import cgroups
from sandbox_kernel.engine import Engine
from tests.support import docker_engine
from tests.support.waiting import until

OpenEngine = Callable[..., Engine]


def left_of(pid: int) -> list[str]:
    """Containers, control groups and processes of sandboxes that `pid` made and has not ended."""
    containers = [] if docker_engine.problem() else docker_engine.containers_of(pid)
    return [*containers, *_groups_of(pid), *_children_of(pid)]


def _groups_of(pid: int) -> list[str]:
    directories = cgroups.parent_directories(cgroups.find_parents()).values()
    return [
        f"{directory}/{name}"
        for directory in directories
        if os.path.isdir(directory)
        for name in os.listdir(directory)
        if name.startswith(f"{pid}-")
    ]


def _children_of(pid: int) -> list[str]:
    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
    return [f"process {child.pid}" for child in children]


async def assert_nothing_left_but(before: set[str]) -> None:
    """Whatever was made since is gone, as soon as the engine has removed its containers."""
    mine = os.getpid()
    await asyncio.to_thread(
        until, lambda: set(left_of(mine)) <= before, f"the end of what {mine} made, but {before}"
    )


@pytest.fixture
async def open_engine(backend: str) -> AsyncIterator[OpenEngine]:
    """`open_engine(max_sessions=2)` gives an `Engine` on the backend under test."""
    before = set(left_of(os.getpid()))
    engines: list[Engine] = []

    def open_it(**options: Any) -> Engine:
        engines.append(Engine(backend, **options))
        return engines[-1]

    yield open_it
    for engine in engines:
        await engine.close()
    await assert_nothing_left_but(before)


@pytest.fixture
def engine(open_engine: OpenEngine) -> Engine:
    """One with the defaults."""
    return open_engine()


@pytest.fixture
def local_engine() -> Engine:
    """For what is decided without a sandbox. It must not make any."""
    return Engine("bubblewrap")


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """What is done in it leaves nothing behind, once it has ended by itself."""
    before = set(left_of(os.getpid()))
    yield
    await assert_nothing_left_but(before)


def wait_until_nothing_left_of(pid: int) -> None:
    until(lambda: not left_of(pid), f"the end of what {pid} made")
