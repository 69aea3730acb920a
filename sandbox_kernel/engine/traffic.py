"""When the machine may be used for anything but somebody's run.

To make a sandbox takes a core for a fifth of a second, and to destroy one some ten
milliseconds, more with an engine. While a run is on that takes 5 ms by itself, on a machine
with two cores, either makes it several times slower (measured: 5 ms become 16 to 30).

Rule: refills and destructions wait for runs, for a while; no run waits for one of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandbox_kernel.session import SandboxSession, State

# Runs that take longer than this don't need the machine for themselves.
REFILL_PATIENCE_S = 0.5
# What runs left behind may still compute.
DESTROY_PATIENCE_S = 0.25
# One run follows another at once, in a loop; then nothing is begun in between.
PAUSE_S = 0.03
# More are not kept waiting for their end: they hold memory.
MAX_DOOMED = 8
_LOOK_AGAIN_S = 0.01


class Traffic:
    """Of all pools of one engine.

    Args:
        refills: how many sandboxes are made in advance at a time.
    """

    def __init__(self, refills: int = 0) -> None:
        self._slots = asyncio.Semaphore(refills or _most_refills())
        self._runs: dict[SandboxSession, float] = {}  # when they began, oldest first
        self._last_s = 0.0  # when one began or ended
        self._waiting = 0
        self._doomed = 0

    def note_claimed(self, session: SandboxSession) -> None:
        """Somebody's run begins."""
        self._last_s = self._runs[session] = time.monotonic()
        self._forget()

    def note_ended(self, session: SandboxSession) -> None:
        """Their run is over. Who only closes the session is understood, too."""
        if self._runs.pop(session, None) is not None:
            self._last_s = time.monotonic()

    def note_waiting(self, change: int) -> None:
        """One more, or one less, waits for a sandbox that is being made."""
        self._waiting += change

    @asynccontextmanager
    async def refill(self) -> AsyncIterator[None]:
        """Held while a sandbox is made in advance; entered when nobody minds."""
        async with self._slots:
            await self._until_quiet(REFILL_PATIENCE_S)
            yield

    async def destroy(self, session: SandboxSession) -> None:
        """Close `session`, whose run is over, when nobody minds."""
        self.note_ended(session)
        self._doomed += 1
        try:
            if self._doomed <= MAX_DOOMED:
                await self._until_quiet(DESTROY_PATIENCE_S)
        finally:
            self._doomed -= 1
            await session.close()

    async def _until_quiet(self, patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        # Nobody tells of the end of a session, and a few looks cost nothing.
        while self._is_busy() and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _is_busy(self) -> bool:
        self._forget()
        is_pausing = time.monotonic() - self._last_s > PAUSE_S
        return self._waiting > 0 or bool(self._runs) or not is_pausing

    def _forget(self) -> None:
        """Runs that are over, or were on for so long that they count no more."""
        oldest_s = time.monotonic() - REFILL_PATIENCE_S
        for session, begun_s in list(self._runs.items()):
            if begun_s < oldest_s or session.state is State.CLOSED:
                self.note_ended(session)


def _most_refills() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0))))
