"""A program's requests to a kernel, their answers, and the events between.

Each request has a number, which all that comes of it bears. Answers come in any order.

Rule 1: whoever waits for an answer gets one, or the reason why there will be none.
Rule 2: what a kernel sends for no request of ours is dropped, not guessed at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from sandbox_kernel import errors
from sandbox_kernel.errors import RequestRefused, SandboxDied, SandboxKernelError, SessionClosed
from sandbox_kernel.session.run import Sink
from sandbox_kernel.sharing import values, wire
from sandbox_kernel.sharing.places import LIVE_ONES
from sandbox_kernel.sharing.wire import Json, ProtocolError

OnCell = Callable[[int], None]


class _Asked:
    """A request that is not answered yet."""

    def __init__(self, sink: Sink | None, on_cell: OnCell | None) -> None:
        self.sink = sink
        self.on_cell = on_cell
        self.answer: asyncio.Future[tuple[Json, bytes]] = asyncio.get_running_loop().create_future()


class Conversation:
    """With one kernel, once it has greeted.

    Args:
        greeting: what it said.
    """

    def __init__(
        self, greeting: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.now: Json = {}  # the state of the notebook's session, as of the last answer
        self.end: SandboxKernelError | None = None  # why nothing can be asked any more
        self._note_now(greeting)
        self._writer = writer
        self._asked: dict[int, _Asked] = {}
        self._count = 0
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def has_cells(self) -> bool:
        """Whether code of this program's runs there, or waits for its turn."""
        return any(asked.sink is not None for asked in self._asked.values())

    # -- asking

    async def ask(
        self,
        verb: str,
        wanted: Json | None = None,
        data: bytes = b"",
        *,
        sink: Sink | None = None,
        on_cell: OnCell | None = None,
    ) -> tuple[Json, bytes]:
        """The content of the answer, and its data. Cancelled, it stops the cell it asked for.

        Args:
            sink: hears the events of a cell.
            on_cell: called with the number that the kernel gave it, when it begins.

        Raises:
            RequestRefused: it is too large.
            SandboxKernelError: whatever the kernel answered, or why it cannot be asked.
        """
        number = self._next()
        asked = self._asked[number] = _Asked(sink, on_cell)
        try:
            self._send(number, {"verb": verb, **(wanted or {})}, data)
            return await asked.answer
        except asyncio.CancelledError:
            if sink is not None:
                self.tell("interrupt", {"of": number})
            raise
        finally:
            self._asked.pop(number, None)

    def tell(self, verb: str, wanted: Json) -> None:
        """Ask and not wait for the answer. Never raises."""
        with contextlib.suppress(SandboxKernelError):
            self._send(self._next(), {"verb": verb, **wanted})

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _send(self, number: int, message: Json, data: bytes = b"") -> None:
        if self.end is not None:
            raise self.end
        try:
            self._writer.write(wire.pack({"id": number, **message}, data))
        except ProtocolError as error:
            raise RequestRefused(f"The request is too large: {error}. Use a file.") from None

    # -- hearing

    async def _read(self, reader: asyncio.StreamReader) -> None:
        end = SandboxDied(
            "The notebook's kernel went away without a word: it was killed or crashed, and the "
            f"variables are gone. {LIVE_ONES}"
        )
        try:
            while (message := await wire.read(reader)) is not None:
                self._take(*message)
        except ProtocolError as error:
            end = SandboxDied(f"What the notebook's kernel sent is no message of ours: {error}.")
        finally:
            self._lose(end)
            self._writer.close()

    def _take(self, message: Json, data: bytes) -> None:
        kind = message.get("kind")
        if kind == "closed":
            self._lose(SessionClosed(f"{message.get('text')} {LIVE_ONES}"))
            return
        self._note_now(message)
        asked = self._asked.get(message.get("id", 0))
        if asked is None or asked.answer.done():
            return
        if kind == "event" and asked.sink is not None:
            asked.sink(values.from_json(message.get("event"), data))
        elif kind == "begun" and asked.on_cell is not None:
            asked.on_cell(int(message.get("cell", 0)))
        elif kind == "answer":
            content = message.get("content")
            asked.answer.set_result((content if isinstance(content, dict) else {}, data))
        elif kind == "error":
            asked.answer.set_exception(_error(message))

    def _note_now(self, message: Json) -> None:
        now = message.get("now")
        if isinstance(now, dict):
            self.now = now

    # -- its end

    async def close(self) -> None:
        """Leave. Never raises."""
        self._lose(SessionClosed("This program has left the notebook's session."))
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._writer.wait_closed()

    def _lose(self, error: SandboxKernelError) -> None:
        """Whoever waits is told, and whoever comes; the first reason stays."""
        if self.end is None:
            self.end = error
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(self.end)


def _error(message: Json) -> SandboxKernelError:
    """The kernel's error, of its own kind where this package has that."""
    kind = getattr(errors, str(message.get("name")), None)
    is_ours = isinstance(kind, type) and issubclass(kind, SandboxKernelError)
    return (kind if is_ours and kind is not None else RequestRefused)(str(message.get("text")))
