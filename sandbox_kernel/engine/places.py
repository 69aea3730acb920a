"""Where the code of a session runs.

    Kept    one sandbox (or a live notebook's), for every run, one after the other
    Fresh   a sandbox for each run, from a pool or made when wanted, and destroyed after it

Rule 1: a sandbox that ran someone's code is used by its own session only, or destroyed.
Rule 2: nobody waits for a destruction but who closes the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.engine.files import Store
from sandbox_kernel.engine.results import SandboxRecord
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.engine.underway import Underway
from sandbox_kernel.errors import RequestRefused

# More than this many are not left to be destroyed later: a loop of runs would pile them up.
MAX_CLOSING = 8
MAX_RECORDS = 100


class Records:
    """The sandboxes that a session had. Several may be in use at once."""

    def __init__(self) -> None:
        self._records: dict[str, SandboxRecord] = {}

    def note_start(self, sandbox_id: str) -> None:
        """It is the session's now. Said again, it changes nothing."""
        if sandbox_id not in self._records:
            self._records[sandbox_id] = SandboxRecord(sandbox_id, datetime.now(UTC), None, 0)
            while len(self._records) > MAX_RECORDS:
                del self._records[next(iter(self._records))]

    def note_run(self, sandbox_id: str) -> None:
        self.note_start(sandbox_id)
        last = self._records[sandbox_id]
        self._records[sandbox_id] = last._replace(runs=last.runs + 1)

    def note_end(self, *others_than: str) -> None:
        """All are gone, but for those named here."""
        for sandbox_id, record in self._records.items():
            if record.ended is None and sandbox_id not in others_than:
                self._records[sandbox_id] = record._replace(ended=datetime.now(UTC))

    def all(self) -> tuple[SandboxRecord, ...]:
        return tuple(self._records.values())


class Place(Protocol):
    """Where runs happen."""

    is_kept: bool
    records: Records

    @property
    def carried(self) -> Carried | None:
        """Files that the host keeps between runs; None: they stay in the sandbox."""

    async def start(self) -> None:
        """Fail now, where it would fail at the first run."""

    def claim(self) -> AbstractAsyncContextManager[Seat]:
        """A seat for one run."""

    @property
    def seats(self) -> list[Seat]:
        """Those that are in use."""

    async def put(self, seat: Seat, name: str, content: bytes) -> None:
        """Write a file for one run; for the next ones, too, where they share a workspace."""

    def store(self) -> Store:
        """Where the session's files are between runs."""

    async def close(self) -> None: ...


class Kept:
    """One seat for all runs.

    Args:
        seat: started by `start`.
        carried: the files that outlive a run, when each begins with what the caller wrote and
            nothing else; None: the workspace stays as it is.
    """

    is_kept = True
    carried: Carried | None

    def __init__(self, seat: Seat, carried: Carried | None = None) -> None:
        self.records = Records()
        self.carried = carried
        self._seat = seat
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        await self._seat.start()
        self.records.note_start(self._seat.sandbox_id)

    @property
    def seats(self) -> list[Seat]:
        return [self._seat]

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[Seat]:
        async with self._turn:
            await self._seat.start()
            self.records.note_end(self._seat.sandbox_id)
            self.records.note_run(self._seat.sandbox_id)
            if self.carried is not None:
                for entry in await self._seat.files.list():
                    await self._seat.files.remove(entry.name)
                await self.carried.give(self._seat.files)
            try:
                yield self._seat
            finally:
                self.records.note_end(self._seat.sandbox_id)

    async def put(self, seat: Seat, name: str, content: bytes) -> None:
        await seat.files.write(name, content)

    def store(self) -> Store:
        return self._seat.files if self.carried is None else self.carried

    async def close(self) -> None:
        await self._seat.close()
        self.records.note_end()
        if self.carried is not None:
            self.carried.close()


class Fresh:
    """A seat for each run; several may be on at once.

    Args:
        make: gives a started seat that has run nobody's code.
        carried: the files that outlive a run.
        destroy: ends a seat, whenever whoever makes them finds it good; default: at once.
        on_close: called once, when no more is wanted of `make`.
    """

    is_kept = False
    carried: Carried

    def __init__(
        self,
        make: Callable[[], Awaitable[Seat]],
        carried: Carried,
        *,
        destroy: Callable[[Any], Coroutine[Any, Any, None]] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.records = Records()
        self.carried = carried
        self._make = make
        self._end = destroy or (lambda seat: seat.close())
        self._on_close = on_close
        self._making = Underway("The session was closed before its sandbox was there.")
        self._used: list[Seat] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        pass

    @property
    def seats(self) -> list[Seat]:
        return list(self._used)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[Seat]:
        came: list[Seat] = []  # also when the one who waited for it is gone
        try:
            seat = await self._making.do(self._made(came))
            self.records.note_run(seat.sandbox_id)
            await self.carried.give(seat.files)
            yield seat
        finally:
            for seat in came:
                self._used.remove(seat)
                self._destroy(seat)
            self.records.note_end(*(other.sandbox_id for other in self._used))
        while len(self._closing) > MAX_CLOSING:
            await asyncio.wait(self._closing, return_when=asyncio.FIRST_COMPLETED)

    async def _made(self, came: list[Seat]) -> Seat:
        seat = await self._make()
        came.append(seat)
        self._used.append(seat)  # before anybody can close us
        return seat

    def _destroy(self, seat: Seat) -> None:
        task = asyncio.ensure_future(self._end(seat))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def put(self, seat: Seat, name: str, content: bytes) -> None:
        if self.carried.is_shared:
            await self.carried.write(name, content)
        await seat.files.write(name, content)

    def store(self) -> Store:
        return self.carried

    async def close(self) -> None:
        await self._making.call_off()
        for seat in self.seats:
            self._destroy(seat)
        while self._closing:
            await asyncio.wait(self._closing)
        self.carried.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()


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
    except BaseException:
        await seat.close()
        raise
    return seat
