"""The runner's end of its socket: frames out whole, requests in with their descriptors.

Rule 1: a frame is never cut short. User code's signal handlers raise wherever they like,
also between the two halves of a long write. So a frame is first copied into a C buffer,
in one step, and the buffer remembers how far it got.
Rule 2: a process that user code forks must not speak on our socket.
"""

import os
import select
import socket
import struct
import threading
from _thread import get_ident
from collections import deque
from contextlib import suppress
from io import BufferedWriter, FileIO
from json import loads
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple, Union

from ...framing import HEADER, MAX_FRAME_BYTES, REQUEST_KINDS, Decoder, Frame
from .interrupts import Interrupts
from .jsonable import dump_json

_CHUNK_BYTES = 256 * 1024
_MAX_DESCRIPTORS = 64


class FrameTooLarge(ValueError):
    """What was to be sent is over the limit of one frame."""

    def __init__(self, size: int) -> None:
        super().__init__("%d bytes are over the limit of %d" % (size, MAX_FRAME_BYTES))
        self.size = size
        self.limit = MAX_FRAME_BYTES


class Request(NamedTuple):
    """One frame from the supervisor; `descriptors` are for standard output and error."""

    frame: Frame
    descriptors: Tuple[int, ...]


def encode(
    kind: int, cell: int, meta: Optional[Dict[str, Any]], data: Union[bytes, memoryview]
) -> bytes:
    """One frame as bytes, whatever objects `meta` holds. Raises `FrameTooLarge`."""
    encoded = dump_json(meta) if meta else b""
    length = len(encoded) + len(data)
    if length > MAX_FRAME_BYTES:
        raise FrameTooLarge(length)
    return b"".join((HEADER.pack(length, kind, cell, len(encoded)), encoded, data))


class Channel:
    """Frames to and from the supervisor. `send` may be called from any thread."""

    def __init__(self, descriptor: int, interrupts: Interrupts) -> None:
        self.descriptor = descriptor
        self.is_ours = True
        self._interrupts = interrupts
        self._socket = socket.socket(fileno=descriptor)
        raw = FileIO(descriptor, "wb", closefd=False)
        self._writer = BufferedWriter(raw, MAX_FRAME_BYTES + HEADER.size)
        self._lock = threading.Lock()
        self._sender = 0
        self._outgoing: Deque[bytes] = deque()
        self._decoder = Decoder(REQUEST_KINDS)
        self._incoming: Deque[Frame] = deque()
        self._descriptors: Deque[int] = deque()

    def send(
        self,
        kind: int,
        cell: int,
        meta: Optional[Dict[str, Any]] = None,
        data: Union[bytes, memoryview] = b"",
    ) -> None:
        """Send one frame, waiting while the supervisor doesn't read. Raises `FrameTooLarge`."""
        frame = encode(kind, cell, meta, data)
        with self._interrupts:
            self._outgoing.append(frame)
            # A finalizer or a signal handler may come here from within the loop below.
            if self._sender == get_ident():
                return
            with self._lock:
                self._sender = get_ident()
                try:
                    self._send_all()
                finally:
                    self._sender = 0

    def _send_all(self) -> None:
        while self._outgoing:
            frame = self._outgoing.popleft()
            if not self.is_ours:
                return
            interruption: Optional[BaseException] = None
            self._writer.write(frame)
            while True:
                try:
                    self._writer.flush()
                    break
                except OSError:
                    os._exit(0)  # the supervisor is gone, and so is everything else soon
                except BaseException as error:  # a signal handler's: the rest first
                    interruption = error
            if interruption is not None:
                raise interruption

    def receive(self) -> Optional[Request]:
        """The next request; waits. None when the supervisor is gone."""
        while not self._incoming:
            if not self._read():
                return None
        frame = self._incoming.popleft()
        taken: List[int] = []
        # Only EXECUTE brings descriptors, two of them, so they come in the frames' order.
        if frame.kind == 2:
            while self._descriptors and len(taken) < 2:
                taken.append(self._descriptors.popleft())
        return Request(frame, tuple(taken))

    @property
    def has_request(self) -> bool:
        """Whether `receive` returns at once."""
        return bool(self._incoming)

    @property
    def is_readable(self) -> bool:
        """Whether a request came that was not received yet, or the supervisor is gone."""
        return bool(self._incoming or select.select([self.descriptor], [], [], 0)[0])

    def _read(self) -> bool:
        try:
            chunk, ancillary, _flags, _address = self._socket.recvmsg(
                _CHUNK_BYTES,
                socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4),
                getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000),
            )
        except OSError:
            return False
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(content) // 4
                self._descriptors.extend(struct.unpack("%di" % count, content[: count * 4]))
        self._incoming.extend(self._decoder.feed(chunk))
        return bool(chunk)

    def before_fork(self) -> None:
        """No frame is half sent while the process is copied."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """The twin of `before_fork`."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Silence, and let go: the supervisor waits for the last copy to close."""
        self._lock = threading.Lock()
        self._sender = 0
        self._outgoing.clear()
        if self.is_ours:
            self.is_ours = False
            self._socket.detach()
            with suppress(OSError):
                os.close(self.descriptor)


def read_json(frame: Frame) -> Dict[str, Any]:
    """The frame's meta; {} when it is no JSON object (the host never sends that)."""
    try:
        value = loads(frame.meta) if frame.meta else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
