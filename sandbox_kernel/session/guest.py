"""One live sandbox as a session sees it: send a request, get its answer, hear events.

Rule 1: a number (`cell`) is given to every request and never used twice in a session,
so an answer from an earlier life can't be taken for a later one's.
Rule 2: when the sandbox goes, everybody who waits is told, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sandbox_kernel import events
from sandbox_kernel.backends.base import Death, Sandbox
from sandbox_kernel.errors import GuestProtocolError, RequestRefused, SandboxDied
from sandbox_kernel.frames import EventDecoder
from sandbox_kernel.guest.framing import FramingError, pack

Listener = Callable[[list[events.Event]], None]


class Guest:
    """The stream to one sandbox. `begin` starts reading; needs a running loop from then on."""

    def __init__(self, sandbox: Sandbox, listener: Listener) -> None:
        self.sandbox = sandbox
        self.death: Death | None = None
        self.info: dict[str, Any] | None = None
        self.runners: set[str] = set()  # those that were added to the main one
        self.memory_kills_told = 0  # those that a cell's end was explained with already
        self._listener = listener
        self._waiting: dict[int, asyncio.Future[events.Event]] = {}
        self._asked: dict[int, str] = {}  # which runner the answer is awaited of
        self._sending = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Start to read what the sandbox says. Safe to call twice."""
        if self._pump is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._pump = asyncio.create_task(self._read_until_gone())

    @property
    def is_ready(self) -> bool:
        """A runner has come up, and the sandbox is not known to be gone."""
        return self.info is not None and self.death is None

    async def ready(self) -> None:
        """Wait for the first runner.

        Raises:
            SandboxDied: it went away before, or its runner could not be started.
        """
        assert self._ready is not None, "begin() comes first"
        await asyncio.shield(self._ready)

    async def send(
        self, kind: int, cell: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> None:
        """Send one frame whole, waiting while the guest doesn't read.

        Whoever is cancelled meanwhile does not leave half a frame behind.

        Raises:
            RequestRefused: it is too large for one frame.
            SandboxDied: there is nobody to read it.
        """
        try:
            frame = pack(kind, cell, meta, data)
        except FramingError as error:
            raise RequestRefused(f"The request is too large: {error}. Use a file.") from None
        await asyncio.shield(asyncio.ensure_future(self._send_whole(frame)))

    async def _send_whole(self, frame: bytes) -> None:
        async with self._sending:
            await self.sandbox.send(frame)

    async def ask(
        self, kind: int, cell: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> events.Answered | events.Replied:
        """Send a request and wait for what answers it.

        Raises:
            RequestRefused: the guest says no, or says something else.
            SandboxDied: it went away before it answered.
        """
        if self.death is not None:
            raise SandboxDied(self.death.detail)
        answer: asyncio.Future[events.Event] = asyncio.get_running_loop().create_future()
        self._waiting[cell] = answer
        self._asked[cell] = str(meta.get("runner", "")) if meta else ""
        try:
            await self.send(kind, cell, meta, data)
            event = await answer
        finally:
            self._waiting.pop(cell, None)
            self._asked.pop(cell, None)
        if isinstance(event, events.Answered | events.Replied):
            return event
        assert isinstance(event, events.Refused)
        raise RequestRefused(_plain(event.reason))

    @property
    def unanswered(self) -> dict[int, str]:
        """The numbers of the requests that somebody waits for, and whose answer it is."""
        return dict(self._asked)

    async def close(self) -> None:
        """Destroy the sandbox. Never raises."""
        if self._pump is not None:
            self._pump.cancel()
        await self.sandbox.close()
        # Who reads no more hears of no death.
        self._tell_all(SandboxDied("The sandbox was closed."))

    async def _read_until_gone(self) -> None:
        try:
            lie = await self._read()
        except asyncio.CancelledError:
            raise
        except BaseException:
            # A defect of ours; whoever waits must not wait for ever, and the log says more.
            self.sandbox.kill()
            self._end(Death("failed", "The host failed at reading what the sandbox sent."))
            raise
        death = await self.sandbox.death()
        self._end(Death("protocol", lie) if lie else death)

    async def _read(self) -> str:
        """Read until the stream ends; what was wrong with it, or ""."""
        decoder = EventDecoder()
        try:
            async for chunk in self.sandbox.receive():
                self._take(decoder.feed(chunk))
        except GuestProtocolError as error:
            self.sandbox.kill()
            return str(error)
        return ""

    def _end(self, death: Death) -> None:
        self.death = death
        self._tell_all(SandboxDied(death.detail))
        self._listener([])

    def _take(self, batch: list[events.Event]) -> None:
        heard = [event for event in batch if not self._is_answer(event)]
        if heard:
            self._listener(heard)

    def _is_answer(self, event: events.Event) -> bool:
        """Hand `event` to the one who waits for it; everything else is for the listener."""
        if isinstance(event, events.RunnerReady) and not event.runner:
            self._note_ready(event)
        elif isinstance(event, events.RunnerExited) and self._is_hopeless(event):
            self._fail_ready(SandboxDied(_plain(event.detail) or "The sandbox has no runner."))
        if not isinstance(event, events.Answered | events.Replied | events.Refused):
            return False
        waiting = self._waiting.get(event.cell)
        if waiting is None:
            return False
        if not waiting.done():
            waiting.set_result(event)
        return True

    def _is_hopeless(self, event: events.RunnerExited) -> bool:
        return event.cause == "missing" and not event.runner

    def _note_ready(self, event: events.RunnerReady) -> None:
        self.info = event.info
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _fail_ready(self, error: SandboxDied) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # nobody may be waiting, and that is no news

    def _tell_all(self, error: SandboxDied) -> None:
        self._fail_ready(error)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _plain(words: str) -> str:
    """The guest's words for an exception of ours, which may be printed as it is."""
    from sandbox_kernel.outputs.plain import seen  # compiles patterns; most guests say nothing

    return seen(words)
