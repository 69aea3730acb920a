"""Sessions for tests: real sandboxes, closed whatever happens."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sandbox_kernel import backends, events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import Outcome, Session


class Cell:
    """What one cell showed, and how it ended."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self.outcome: Outcome | None = None

    def text(self, stream: str = "stdout") -> str:
        return "".join(
            event.text
            for event in self.events
            if isinstance(event, events.TextWritten) and event.stream == stream
        )

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def error(self) -> events.CellFailed:
        assert self.outcome is not None
        assert self.outcome.error is not None, self.events
        return self.outcome.error


class Driver:
    """A session and what it said on the side."""

    def __init__(self, backend: str, limits: Limits, policy: str) -> None:
        self.late: list[events.Event] = []
        self._news = asyncio.Event()
        self.session = Session(
            backends.get(backend),
            SandboxSpec(limits=limits),
            policy=policy,
            on_event=self._hear,
        )

    def _hear(self, event: events.Event) -> None:
        self.late.append(event)
        self._news.set()

    async def heard(self, kind: type, count: int = 1) -> None:
        """Wait until `count` events of `kind` have come on the side."""
        async with asyncio.timeout(30):
            while sum(isinstance(event, kind) for event in self.late) < count:
                self._news.clear()
                await self._news.wait()

    async def run(self, code: str, on_event: Any = None, **options: Any) -> Cell:
        cell = Cell()

        def hear(event: events.Event) -> None:
            cell.events.append(event)
            if on_event is not None:
                on_event(event)

        cell.outcome = await self.session.execute(code, on_event=hear, **options)
        return cell


@pytest.fixture(params=["bubblewrap"])
def backend(request: pytest.FixtureRequest) -> str:
    check = backends.get(request.param).check()
    if not check.is_usable:
        # Root can always make namespaces: there a missing backend is a defect of ours.
        give_up = pytest.fail if os.geteuid() == 0 else pytest.skip
        give_up(f"{request.param}: {check.reason}")
    return str(request.param)


Open = Callable[..., Awaitable[Driver]]


@pytest.fixture
async def open_session(backend: str) -> AsyncIterator[Open]:
    """`await open_session(policy="safe", **limits)` gives a `Driver`."""
    drivers: list[Driver] = []

    async def open_it(policy: str = "safe", **limits: Any) -> Driver:
        driver = Driver(backend, Limits(**limits), policy)
        drivers.append(driver)
        await driver.session.start()
        return driver

    yield open_it
    for driver in drivers:
        await driver.session.close()
