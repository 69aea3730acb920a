"""Between a runner's socket and the host: looks at headers, passes bytes on as they are.

Rule 1: a runner is hostile. Its frame is judged by its header before it is passed on,
only whole frames are, and half a frame is never waited for.
Rule 2: nothing is sent that could block. What a runner doesn't read is held, up to
`MAX_UNREAD_BYTES`, then refused.
"""

from __future__ import annotations

import _socket
import os
import struct
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import HEADER, MAX_FRAME_BYTES, RUNNER_KINDS
else:
    from framing import HEADER, MAX_FRAME_BYTES, RUNNER_KINDS

# Two of the largest requests.
MAX_UNREAD_BYTES = 2 * MAX_FRAME_BYTES
# The kernel hands out what is in the socket, at most this; larger frames grow the buffer.
_BUFFER_BYTES = 512 * 1024
_SPARE_BYTES = 64 * 1024

# What becomes of a frame.
DROP, PASS, TAKE, LAST = range(4)


class RunnerLied(Exception):
    """The runner sent bytes that are no frames of a runner's. It cannot be trusted further."""


class Receiver:
    """Cuts what a runner sends into frames and passes on those that `judge` lets through.

    Args:
        judge: called with (kind, cell, data length) of each whole frame, says what becomes
            of it: PASS, DROP, TAKE (give it to `take` instead) or LAST (pass it, `take` it, stop).
        put: takes a view of passed frames; it is valid during the call only.
        take: takes (kind, cell, content) of a frame that is neither passed nor dropped.
    """

    def __init__(
        self,
        socket: _socket.socket,
        judge: Callable[[int, int, int], int],
        put: Callable[[memoryview], None],
        take: Callable[[int, int, bytes], None],
    ) -> None:
        self._socket = socket
        self._judge = judge
        self._put = put
        self._take = take
        self._buffer = bytearray(_BUFFER_BYTES)
        self._start = 0  # of what is not yet judged
        self._end = 0

    def receive(self) -> Optional[int]:
        """Read once: how many bytes, 0 at the end of the stream, None for nothing now."""
        self._make_room()
        try:
            with memoryview(self._buffer) as view:
                count = self._socket.recv_into(view[self._end :])
        except BlockingIOError:
            return None
        except OSError:  # reset: the runner died with our bytes unread
            return 0
        self._end += count
        return count

    def relay(self) -> bool:
        """Judge all whole frames; whether there may be more (a LAST one stopped it).

        Raises:
            RunnerLied: a header that no runner sends.
        """
        position = run = self._start
        is_stopped = False
        try:
            with memoryview(self._buffer) as view:
                while not is_stopped:
                    header = self._read_header(position)
                    if header is None:
                        break
                    stop, kind, cell, length = header
                    verdict = self._judge(kind, cell, length)
                    if verdict == PASS:
                        position = stop
                        continue
                    is_stopped = verdict == LAST
                    self._pass_on(view, run, stop if is_stopped else position)
                    if verdict in (TAKE, LAST):
                        self._take(kind, cell, bytes(view[stop - length : stop]))
                    position = run = stop
                self._pass_on(view, run, position)
        finally:
            self._start = position
        return is_stopped

    def _read_header(self, position: int) -> Optional[Tuple[int, int, int, int]]:
        """(end of the frame, kind, cell, length of its body) of a whole frame, else None."""
        held = self._end - position
        if held < HEADER.size:
            return None
        length, kind, cell, meta_length = HEADER.unpack_from(self._buffer, position)
        if kind not in RUNNER_KINDS:
            raise RunnerLied("It sent a frame of kind %d, which is not a runner's." % kind)
        if length > MAX_FRAME_BYTES or meta_length > length:
            raise RunnerLied("It sent a frame that claims %d bytes." % length)
        stop = position + HEADER.size + length
        return None if stop > self._end else (stop, kind, cell, length)

    def _pass_on(self, view: memoryview, start: int, stop: int) -> None:
        if stop > start:
            with view[start:stop] as frames:
                self._put(frames)

    def _make_room(self) -> None:
        """Move what is left to the front, and grow for a frame that doesn't fit."""
        held = self._end - self._start
        if self._start and (held == 0 or len(self._buffer) - self._end < _SPARE_BYTES):
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        if len(self._buffer) - self._end < _SPARE_BYTES:
            self._buffer.extend(bytes(len(self._buffer)))
        elif held == 0 and len(self._buffer) > _BUFFER_BYTES:
            self._buffer = bytearray(_BUFFER_BYTES)


class Sender:
    """What waits to go to a runner over one socket, with descriptors attached to some."""

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket
        self._waiting: Deque[Tuple[memoryview, Sequence[int]]] = deque()
        self.size = 0

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Queue and try; `fds` travel on the first byte of `data` and are closed then."""
        self._waiting.append((memoryview(data), fds))
        self.size += len(data)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes. A dead runner's share is thrown away."""
        while self._waiting:
            data, fds = self._waiting[0]
            try:
                sent = self._socket.sendmsg([data], _rights(fds))
            except BlockingIOError:
                return
            except OSError:
                self.clear()
                return
            _close_all(fds)
            self.size -= sent
            self._waiting.popleft()
            if sent < len(data):
                self._waiting.appendleft((data[sent:], ()))

    def clear(self) -> None:
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()
        self.size = 0


def _rights(fds: Sequence[int]) -> "list[tuple[int, int, bytes]]":
    if not fds:
        return []
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("%di" % len(fds), *fds))]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
