"""What goes to the supervisor: in order, joined where it is text, and never too fast.

Rule 1: neighbouring text of one cell and stream is one frame.
Rule 2: while the supervisor does not read, or much came at once, the kernel is stopped. A
kernel drops what it publishes when a thousand messages wait, without a word to anybody.
"""

import select
from contextlib import contextmanager
from typing import Iterator, List

from ..framing import Kind
from ..runners.python.channel import Channel, FrameTooLarge
from .kernel_process import KernelProcess
from .wire import Json

_MIB = 1024 * 1024
_FRAME_BYTES = 1 * _MIB
# More messages than that in one read: the kernel is as fast as we are, or faster.
_MANY = 50
# What a socket takes without waiting, by a wide margin.
_LARGE_BYTES = 32 * 1024


class Outlet:
    """Sends frames, for one kernel."""

    def __init__(self, channel: Channel, kernel: KernelProcess) -> None:
        self._channel, self._kernel = channel, kernel
        self._text: List[bytes] = []
        self._text_bytes = 0
        self._cell = self._kind = 0
        self._is_batch = False  # many messages are being passed on
        self._poll = select.poll()
        self._poll.register(channel.descriptor, select.POLLOUT)
        self.has_error = False  # whether an ERROR was sent since it was reset

    @contextmanager
    def keeping_up(self, count: int) -> Iterator[None]:
        """While `count` messages are passed on; the kernel goes on at the end of it."""
        if count <= _MANY:
            yield
            return
        self._is_batch = True
        self._kernel.pause()
        try:
            yield
            self.flush()
        finally:
            self._is_batch = False
            self._kernel.resume()

    def text(self, cell: int, kind: int, content: bytes) -> None:
        """Text of a stream; sent with what follows it, or by `flush`."""
        if cell != self._cell or kind != self._kind or self._text_bytes > _FRAME_BYTES:
            self.flush()
        self._cell, self._kind = cell, kind
        self._text.append(content)
        self._text_bytes += len(content)

    def note(self, cell: int, text: str) -> None:
        """A line of ours, on standard error."""
        self.text(cell, Kind.STDERR, ("[sandbox] %s\n" % text).encode("utf-8"))

    def flush(self) -> None:
        """Send the text that waits."""
        content = b"".join(self._text)
        self._text.clear()
        self._text_bytes = 0
        for start in range(0, len(content), _FRAME_BYTES):
            piece = memoryview(content)[start : start + _FRAME_BYTES]
            self._put(self._kind, self._cell, None, piece)

    def send(self, cell: int, kind: int, meta: Json, data: bytes) -> None:
        """Anything else that a cell shows."""
        self.flush()
        if kind == Kind.ERROR:
            self.has_error = True
        try:
            self._put(kind, cell, meta, data)
        except FrameTooLarge as error:
            self.refuse(cell, error.size)

    def refuse(self, cell: int, size: int) -> None:
        """Say that something was too large to be shown."""
        self.note(
            cell,
            "An output of %.1f MiB was not shown: it is over the limit for one output. "
            "Show a smaller part of it, or write it to a file." % (size / _MIB),
        )

    def reply(self, cell: int, content: Json) -> None:
        """The REPLY of a request."""
        self.flush()
        try:
            self._put(Kind.REPLY, cell, content, b"")
        except FrameTooLarge:
            self._put(Kind.REPLY, cell, {"status": content.get("status")}, b"")

    def _put(self, kind: int, cell: int, meta: "Json | None", data: "bytes | memoryview") -> None:
        is_slow = len(data) > _LARGE_BYTES or not self._poll.poll(0)
        if is_slow:
            self._kernel.pause()
        try:
            self._channel.send(kind, cell, meta, data)
        finally:
            if is_slow and not self._is_batch:
                self._kernel.resume()
