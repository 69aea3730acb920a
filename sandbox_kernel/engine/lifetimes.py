"""Ends sessions that nobody uses, and those that are too old.

A session that runs something is not idle, and ends by its age only when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol


class Mortal(Protocol):
    """What of a `Session` counts here."""

    idle_timeout_s: float | None
    lifetime_s: float | None
    created: datetime
    last_used: datetime

    @property
    def is_busy(self) -> bool: ...

    async def close(self, *, reason: str = "") -> object: ...


class Reaper:
    """Looks after the sessions that `living` gives, from `start` on."""

    def __init__(self, living: Callable[[], Iterable[Mortal]]) -> None:
        self._living = living
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is another session, or one that could end sooner."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._watch())
        self._changed.set()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        while True:
            self._changed.clear()
            next_s = await self._end_those_due()
            try:
                async with asyncio.timeout(next_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _end_those_due(self) -> float | None:
        """Seconds until there is something to do again; None: not before somebody wakes us."""
        now = datetime.now(UTC)
        due, waits = [], []
        for session in self._living():
            reason, wait_s = verdict(session, now)
            if reason:
                due.append(session.close(reason=reason))
            elif wait_s is not None:
                waits.append(wait_s)
        await asyncio.gather(*due, return_exceptions=True)
        return min(waits) + 0.01 if waits else None


def verdict(session: Mortal, now: datetime) -> tuple[str, float | None]:
    """Why a session has to end now ("" if it has not), and in how many seconds to look again."""
    waits: list[float] = []
    if session.lifetime_s is not None:
        left_s = session.lifetime_s - (now - session.created).total_seconds()
        if left_s <= 0 and not session.is_busy:
            return f"It was ended at its age of {session.lifetime_s:g} s (lifetime_s).", None
        # A busy one is looked at again soon: when it stops, it is due.
        waits.append(max(left_s, 0.5))
    if session.idle_timeout_s is not None:
        left_s = session.idle_timeout_s - (now - session.last_used).total_seconds()
        if left_s <= 0 and not session.is_busy:
            return f"It was unused for {session.idle_timeout_s:g} s (idle_timeout_s).", None
        waits.append(max(left_s, 0.5) if not session.is_busy else session.idle_timeout_s)
    return "", min(waits, default=None)
