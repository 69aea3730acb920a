"""Where the code of a session runs.

    Kept    one sandbox (or a live notebook's), for every run, one after the other
    Fresh   a sandbox for each run, from a pool or made when wanted, and destroyed after it

Rule 1: a sandbox that ran someone's code is used by its own session only, or destroyed.
Rule 2: nobody waits for a destruction but who closes the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.engine.files import Store
from sandbox_kernel.engine.results import SandboxRecord
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.errors import RequestRefused, SandboxKernelError

# More than this many are not left to be destroyed later: a loop of runs would pile them up.
MAX_CLOSING = 8
MAX_RECORDS = 100


class Records:
    """The sandboxes that a session had."""

    def __init__(self) -> None:
        self._records: list[SandboxRecord] = []

    def note_run(self, sandbox_id: str) -> None:
        now = datetime.now(UTC)
        if not self._records or self._records[-1].id != sandbox_id:
            self.note_end()
            self._records.append(SandboxRecord(sandbox_id, now, None, 0))
            del self._records[:-MAX_RECORDS]
        last = self._records[-1]
        self._records[-1] = last._replace(runs=last.runs + 1)

    def note_end(self) -> None:
        if self._records and self._records[-1].ended is None:
            self._records[-1] = self._records[-1]._replace(ended=datetime.now(UTC))

    def all(self) -> tuple[SandboxRecord, ...]:
        return tuple(self._records)


class Place(Protocol):
    """Where runs happen."""

    is_kept: bool
    records: Records

    async def start(self) -> None:
        """Fail now, where it would fail at the first run."""

    def claim(self) -> AbstractAsyncContextManager[Seat]:
        """A seat for one run."""

    @property
    def seats(self) -> list[Seat]:
        """Those that are in use."""

    def store(self) -> Store:
        """Where the session's files are between runs."""

    async def close(self) -> None: ...


class Kept:
    """One seat for all runs.

    Args:
        seat: started by `start`.
        is_wiped: whether each run begins with an empty workspace.
    """

    is_kept = True

    def __init__(self, seat: Seat, *, is_wiped: bool = False) -> None:
        self.records = Records()
        self._seat = seat
        self._is_wiped = is_wiped
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        await self._seat.start()

    @property
    def seats(self) -> list[Seat]:
        return [self._seat]

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[Seat]:
        async with self._turn:
            await self._seat.start()
            self.records.note_run(self._seat.sandbox_id)
            if self._is_wiped:
                for entry in await self._seat.files.list():
                    await self._seat.files.remove(entry.name)
            yield self._seat

    def store(self) -> Store:
        return self._seat.files

    async def close(self) -> None:
        await self._seat.close()
        self.records.note_end()


class Fresh:
    """A seat for each run; several may be on at once.

    Args:
        make: gives a started seat that has run nobody's code.
        carried: the files that outlive a run.
    """

    is_kept = False

    def __init__(self, make: Callable[[], Awaitable[Seat]], carried: Carried) -> None:
        self.records = Records()
        self.carried = carried
        self._make = make
        self._used: list[Seat] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        pass

    @property
    def seats(self) -> list[Seat]:
        return list(self._used)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[Seat]:
        seat = await self._make()
        self._used.append(seat)
        self.records.note_run(seat.sandbox_id)
        try:
            await self.carried.give(seat.files)
            yield seat
        finally:
            self._used.remove(seat)
            self.records.note_end()
            self._destroy(seat)
        while len(self._closing) > MAX_CLOSING:
            await asyncio.wait(self._closing, return_when=asyncio.FIRST_COMPLETED)

    def _destroy(self, seat: Seat) -> None:
        task = asyncio.ensure_future(seat.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def store(self) -> Store:
        return self.carried

    async def close(self) -> None:
        for seat in self.seats:
            await seat.close()
        if self._closing:
            await asyncio.wait(self._closing)
        self.carried.close()


async def stop_all(place: Place) -> None:
    """Interrupt whatever runs there."""
    for seat in place.seats:
        await seat.interrupt()


def require_kept(place: Place, what: str) -> Seat:
    """The one seat of a place that has one.

    Raises:
        RequestRefused: each run has a sandbox of its own there.
    """
    if not place.is_kept:
        raise RequestRefused(
            f"{what} needs a sandbox that stays: each run of this session has one of its own. "
            "Create the session with Strategy.PER_SESSION."
        )
    return place.seats[0]


async def start_fresh(seat: Seat) -> Seat:
    """`seat`, started; closed when it cannot be."""
    try:
        await seat.start()
    except (SandboxKernelError, asyncio.CancelledError):
        await seat.close()
        raise
    return seat
