"""Ends sessions that nobody uses, and those that are too old.

A session that runs something is not idle, and ends by its age only when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

# A session that is due and busy is looked at again: when it stops, it ends.
LOOK_AGAIN_S = 0.5


class Mortal(Protocol):
    """What of a `Session` counts here."""

    idle_timeout_s: float | None
    lifetime_s: float | None

    @property
    def age_s(self) -> float: ...

    @property
    def idle_s(self) -> float: ...

    @property
    def is_busy(self) -> bool: ...

    @property
    def is_closed(self) -> bool: ...

    def begin_to_close(self, *, reason: str = "") -> asyncio.Future[Any]: ...


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
            next_s = self._end_those_due()
            try:
                async with asyncio.timeout(next_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _end_those_due(self) -> float | None:
        """Seconds until there is something to do again; None: not before somebody wakes us."""
        waits = []
        for session in list(self._living()):
            reason, wait_s = verdict(session)
            if reason:
                # At once: until it is closed, somebody could begin to use it. Nobody waits
                # for one that takes its time, and the engine's own end does.
                session.begin_to_close(reason=reason)
            elif wait_s is not None:
                waits.append(wait_s)
        return min(waits) + 0.01 if waits else None


def verdict(session: Mortal) -> tuple[str, float | None]:
    """Why a session has to end now ("" if it has not), and in how many seconds to look again."""
    if session.is_closed:
        return "", None
    waits: list[float] = []
    if session.lifetime_s is not None:
        left_s = session.lifetime_s - session.age_s
        if left_s <= 0 and not session.is_busy:
            return f"It was ended at its age of {session.lifetime_s:g} s (lifetime_s).", None
        waits.append(left_s if left_s > 0 else LOOK_AGAIN_S)
    if session.idle_timeout_s is not None:
        left_s = session.idle_timeout_s - session.idle_s
        if left_s <= 0 and not session.is_busy:
            return f"It was unused for {session.idle_timeout_s:g} s (idle_timeout_s).", None
        waits.append(left_s if left_s > 0 else LOOK_AGAIN_S)
    return "", min(waits, default=None)
