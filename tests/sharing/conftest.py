"""A notebook's kernel, driven by a person's client, and a program that shares its session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sandbox_kernel import events
from sandbox_kernel.session import Outcome
from sandbox_kernel.sharing.client import SharedSeat, connect
from sandbox_kernel.sharing.listing import SharedSession, list_shared
from tests.support.kernels import Kernel
from tests.support.waiting import DEADLINE_S, until


class Ran(NamedTuple):
    outcome: Outcome
    events: list[Any]

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, events.TextWritten))

    @property
    def failure(self) -> str:
        assert self.outcome.error is not None, self
        return self.outcome.error.name


class Program:
    """A program with an event loop in a thread of its own, so that a test may wait for both."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._seats: list[SharedSeat] = []

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(DEADLINE_S)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def connect(self, session_id: str, **options: Any) -> SharedSeat:
        seat: SharedSeat = self.do(connect(session_id, **options))
        self._seats.append(seat)
        return seat

    def run(self, seat: SharedSeat, code: str, **options: Any) -> Ran:
        return self.begin_run(seat, code, **options).result(DEADLINE_S)

    def begin_run(
        self,
        seat: SharedSeat,
        code: str,
        on_event: Callable[[Any], None] = lambda _event: None,
        **options: Any,
    ) -> Future[Ran]:
        heard: list[Any] = []

        def hear(event: Any) -> None:
            heard.append(event)
            on_event(event)

        async def work() -> Ran:
            return Ran(await seat.execute(code, on_event=hear, **options), heard)

        return self.begin(work())

    def stop(self) -> None:
        for seat in self._seats:
            self.do(seat.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A login's private directory, for kernels and programs alike. Its path is longer than
    a socket's address may be."""
    path = tmp_path_factory.mktemp("runtime") / ("long" * 30)
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def _variables(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))


@pytest.fixture(scope="module")
def notebook(
    runtime: Path, kernel_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernel]:
    """A kernel for the module's tests that leave it as they found it."""
    from tests.support.kernels import running_kernel

    home = tmp_path_factory.mktemp("home")
    variables = {"XDG_RUNTIME_DIR": str(runtime), "JPY_SESSION_NAME": "/home/ann/analysis.ipynb"}
    with running_kernel(kernel_name, env=variables, cwd=home) as kernel:
        yield kernel


def shared(kernel: Kernel) -> SharedSession:
    """The session of `kernel`, as a program finds it."""

    def look() -> list[SharedSession]:
        return [one for one in asyncio.run(list_shared()) if one.pid == kernel.pid]

    return until(look, "the kernel's session")[0]


@pytest.fixture
def seat(notebook: Kernel, program: Program) -> SharedSeat:
    """A program's seat in the session of `notebook`."""
    return program.connect(shared(notebook).id)
