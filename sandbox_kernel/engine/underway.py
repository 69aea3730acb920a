"""Work that was begun for callers, and is called off when what it belongs to is closed.

Rule: whoever closes waits until all of it has cleaned up, so nothing comes up afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sandbox_kernel.errors import SessionClosed

T = TypeVar("T")


class Underway:
    """What somebody waits for now.

    Args:
        told: what those hear whose work was called off.
    """

    def __init__(self, told: str) -> None:
        self._told = told
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of `work`. Cancelled, it waits until `work` has cleaned up.

        Raises:
            SessionClosed: it was called off, before or meanwhile.
        """
        if self._is_over:
            work.close()
            raise SessionClosed(self._told)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if self._is_over and ours is not None and not ours.cancelling():
                raise SessionClosed(self._told) from None
            raise

    async def call_off(self) -> None:
        """End all of it, and what is tried from now on. Safe to call twice."""
        self._is_over = True
        tasks = set(self._tasks)
        for task in tasks:
            if not task.cancelling():  # else it is cleaning up already
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)
