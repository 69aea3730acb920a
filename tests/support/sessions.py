"""Sessions for tests: real sandboxes on every backend, closed whatever happens.

A test that takes `open_session` runs on each of `BACKENDS`. Where a backend cannot have the
problem that it is about, or meets it in another way, the test asks `backend` and says so.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

import pytest

from sandbox_kernel import backends, events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import Outcome, SandboxSession, run
from sandbox_kernel.session.tools import Toolbox
from tests.support import docker_engine
from tests.support.waiting import DEADLINE_S, PATIENCE_S

BACKENDS = ("bubblewrap", "docker")


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

    def __init__(
        self,
        backend: str,
        spec: SandboxSpec,
        policy: str,
        *,
        tools: Toolbox | None = None,
        allow_forward: bool = False,
    ) -> None:
        self.late: list[events.Event] = []
        self._news = asyncio.Event()
        self.session = SandboxSession(
            backends.get(backend),
            spec,
            policy=policy,
            on_event=self._hear,
            tools=tools,
            allow_forward=allow_forward,
        )

    @property
    def sandbox(self) -> Any:
        """The sandbox that the session has now: a `Sandbox` of the backend's own class."""
        assert self.session._guest is not None
        return self.session._guest.sandbox

    def _hear(self, event: events.Event) -> None:
        self.late.append(event)
        self._news.set()

    async def heard(self, kind: type, count: int = 1) -> None:
        """Wait until `count` events of `kind` have come on the side."""
        await self._until(lambda: sum(isinstance(event, kind) for event in self.late) >= count)

    async def heard_lines(self, *lines: str) -> None:
        """Wait until each of `lines` has been written on the side, in whatever pieces."""
        await self._until(lambda: set(lines) <= set(self._late_text().splitlines()))

    def _late_text(self) -> str:
        return "".join(event.text for event in self.late if isinstance(event, events.TextWritten))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
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


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test; without what it needs the test is skipped, or fails."""
    name = str(request.param)
    if name == "docker":
        docker_engine.require()
    elif reason := _problem(name):
        # Root can always make namespaces: there a missing backend is a defect of ours.
        (pytest.fail if os.geteuid() == 0 else pytest.skip)(f"{name}: {reason}")
    return name


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose limits the test leaves to the settings wait long before they kill."""
    monkeypatch.setenv("SANDBOX_KERNEL_INTERRUPT_GRACE", f"{PATIENCE_S:g}s")
    monkeypatch.setattr(run, "KILL_TIMEOUT_S", PATIENCE_S)


@cache
def _problem(name: str) -> str:
    check = backends.get(name).check()
    return "" if check.is_usable else check.reason


Open = Callable[..., Awaitable[Driver]]


@pytest.fixture
async def open_session(backend: str) -> AsyncIterator[Open]:
    """`await open_session(policy="safe", image=None, **limits)` gives a `Driver`."""
    drivers: list[Driver] = []

    async def open_it(
        policy: str = "safe",
        image: str | None = None,
        language: str = "python",
        tools: Toolbox | None = None,
        allow_forward: bool = False,
        **limits: Any,
    ) -> Driver:
        limits.setdefault("interrupt_grace_s", PATIENCE_S)
        spec = SandboxSpec(language=language, limits=Limits(**limits), image=image)
        driver = Driver(backend, spec, policy, tools=tools, allow_forward=allow_forward)
        drivers.append(driver)
        await driver.session.start()
        return driver

    yield open_it
    for driver in drivers:
        await driver.session.close()
    if backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())
