"""How many sessions there may be at once, and who comes next.

Rule 1: a place that becomes free goes to who waits longest; who comes later waits behind.
Rule 2: who gives up waiting takes no place along, however late the place came.
"""

from __future__ import annotations

import asyncio
from collections import deque

from sandbox_kernel.engine.choices import check_count
from sandbox_kernel.errors import SessionClosed, SessionLimitReached, SettingsError

CLOSED = "The engine is closed. Make another one."


class Admission:
    """Places for sessions.

    Args:
        most: how many; None: no limit.
        when_full: "refuse" or "wait".
        wait_timeout_s: how long; None: for ever.

    Raises:
        SettingsError: names what cannot be.
    """

    def __init__(
        self, most: int | None, *, when_full: str = "refuse", wait_timeout_s: float | None = None
    ) -> None:
        if when_full not in ("refuse", "wait"):
            raise SettingsError(f"when_full is {when_full!r}; choose refuse or wait.")
        if most is not None:
            check_count("max_sessions", most, 1)
        self._most = most
        self._is_patient = when_full == "wait"
        self._wait_timeout_s = wait_timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()  # who came first first
        self._is_closed = False
        self.taken = 0

    async def take(self) -> None:
        """Have a place, which `free` gives back.

        Raises:
            SessionClosed: there are none any more.
            SessionLimitReached: there is none now, or none became free in time.
        """
        if self._is_closed:
            raise SessionClosed(CLOSED)
        if self._most is None or self.taken < self._most:
            self.taken += 1
        elif self._is_patient:
            await self._wait(self._most)
        else:
            raise SessionLimitReached(
                f"There are {self._most} sessions, as many as there may be (max_sessions). Close "
                'one, or make the engine with when_full="wait".'
            )

    def free(self) -> None:
        """Hand a place to who waits longest, or count one less."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(None)
                return
        self.taken -= 1

    def close(self) -> None:
        """Nobody gets a place any more. Safe to call twice."""
        self._is_closed = True
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_exception(SessionClosed(CLOSED))

    async def _wait(self, most: int) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            async with asyncio.timeout(self._wait_timeout_s):
                await given
        except BaseException as error:
            if given in self._waiting:
                self._waiting.remove(given)
            if given.done() and not given.cancelled() and given.exception() is None:
                self.free()  # it came too late
            if not isinstance(error, TimeoutError):
                raise
            raise SessionLimitReached(
                f"No place for a session became free within {self._wait_timeout_s:g} s "
                f"(wait_timeout_s); there may be {most} (max_sessions). Close one, or wait longer."
            ) from None
