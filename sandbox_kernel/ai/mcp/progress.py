"""What runs, as progress notifications: the newest output, not too often.

Rule 1: what a client does not read in time is not kept for it: the result has it all.
Rule 2: output is cleaned as a model's is; a client may show it anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from sandbox_kernel.ai.bounds import clean

# Four a second look live, and are no load.
INTERVAL_S = 0.25
# Clients give up on a request that is silent for a minute, some after ten seconds.
HEARTBEAT_S = 5.0
MAX_CHARS = 1_000

# Seconds since it began, and a text.
Report = Callable[[float, str], Awaitable[None]]


class Progress:
    """An async context around a run. `hear` takes its output.

    Args:
        report: tells the client; None when it did not ask.
    """

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._pending = ""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hear(self, text: str) -> None:
        if self._task is not None:
            # What is dropped here would be cut off below; a line that has begun stays whole.
            self._pending = (self._pending + text)[-4 * MAX_CHARS :]
            self._news.set()

    async def __aenter__(self) -> Progress:
        if self._report is not None:
            self._task = asyncio.ensure_future(self._tell(self._report))
        return self

    async def __aexit__(self, *_: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # the client went away; the run goes on without it

    async def _tell(self, report: Report) -> None:
        began_s = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
            self._news.clear()
            text, self._pending = self._pending, ""
            elapsed_s = time.monotonic() - began_s
            await report(elapsed_s, newest(text) or f"Running for {elapsed_s:.0f} s.")
            await asyncio.sleep(INTERVAL_S)


def newest(text: str) -> str:
    """The end of `text` that fits a notification."""
    return clean(text).strip("\n")[-MAX_CHARS:]
