"""Waiting on the event loop until a descriptor can be read or written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


async def until_ready(
    fd: int, *, is_writer: bool, waiting: set[asyncio.Future[None]] | None = None
) -> None:
    """Return once `fd` is ready, or when somebody wakes the future that stands in `waiting`."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add: Any = loop.add_writer if is_writer else loop.add_reader
    remove: Any = loop.remove_writer if is_writer else loop.remove_reader
    if waiting is not None:
        waiting.add(future)
    add(fd, wake, future)
    try:
        await future
    finally:
        remove(fd)
        if waiting is not None:
            waiting.discard(future)


def wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Readiness:
    """Waits again and again until one descriptor can be read.

    It stays registered between two waits: to register costs more than a small message.
    """

    def __init__(self, fd: int) -> None:
        from asyncio import get_running_loop

        self._fd = fd
        self._loop = get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._is_registered = False

    async def wait(self) -> None:
        """Return when there is something to read, or after `release`."""
        self._future = self._loop.create_future()
        if not self._is_registered:
            self._is_registered = True
            self._loop.add_reader(self._fd, self._on_readable)
        try:
            await self._future
        finally:
            self._future = None

    def release(self) -> bool:
        """End a wait that is going on; False if there is none."""
        if self._future is None:
            return False
        wake(self._future)
        return True

    def stop(self) -> None:
        if self._is_registered:
            self._is_registered = False
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        if self._future is None:
            self.stop()  # nobody waits: the loop would spin
        else:
            wake(self._future)
