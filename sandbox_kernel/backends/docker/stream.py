"""The hijacked connection: bytes to PID 1's stdin, and its stdout and stderr, told apart.

Rule 1: nothing blocks once `Stream` is made, and nothing is read ahead of who asks: a guest
that floods its stream stops at a full pipe.
Rule 2: the eight bytes before each piece are the engine's; a guest cannot write them.

Works on whatever the SDK gives: a socket (unix, tcp), a TLS socket, or the two pipes of an
`ssh` process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from sandbox_kernel.backends.waiting import Readiness, until_ready, wake
from sandbox_kernel.errors import BackendUnavailable

READ_BYTES = 256 * 1024
STDOUT, STDERR = 1, 2
_HEADER_BYTES = 8


class Stream:
    """Our end of one attached container.

    Args:
        raw: what `APIClient.attach_socket` returned.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        process = getattr(raw, "proc", None)
        inner = getattr(raw, "_sock", raw)
        self._tls = inner if isinstance(inner, ssl.SSLSocket) else None
        self._owner: Any = inner
        if process is not None:  # ssh: two pipes
            self._in, self._out = process.stdout.fileno(), process.stdin.fileno()
        else:
            self._in = self._out = inner.fileno()
            inner.settimeout(0)
        for fd in {self._in, self._out}:
            os.set_blocking(fd, False)
        self._readiness: Readiness | None = None
        self._writers: set[asyncio.Future[None]] = set()
        self._is_closed = False

    def _read(self) -> bytes:
        if self._tls is None:
            return os.read(self._in, READ_BYTES)
        try:
            return self._tls.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def _write(self, data: memoryview) -> int:
        if self._tls is None:
            return os.write(self._out, data)
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    async def read(self) -> bytes:
        """The next bytes; b"" at the end, whatever ended it."""
        if self._readiness is None:
            self._readiness = Readiness(self._in)
        while not self._is_closed:
            try:
                return self._read()
            except BlockingIOError:
                await self._readiness.wait()
            except OSError:
                break
        return b""

    async def write(self, data: bytes) -> None:
        """Write all of it, waiting while the guest doesn't read.

        Raises:
            OSError: there is no other end any more.
        """
        view = memoryview(data)
        while view:
            if self._is_closed:
                raise BrokenPipeError
            try:
                view = view[self._write(view) :]
            except BlockingIOError:
                await until_ready(self._out, is_writer=True, waiting=self._writers)

    def read_by(self, deadline_s: float) -> bytes:
        """As `read`, in a thread; `deadline_s` on the monotonic clock.

        Raises:
            BackendUnavailable: nothing came by then.
        """
        while True:
            try:
                return self._read()
            except BlockingIOError:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not select.select([self._in], [], [], left_s)[0]:
                    raise BackendUnavailable("The container started, but said nothing.") from None
            except OSError:
                return b""

    def write_now(self, data: bytes) -> None:
        """Write all of it, in a thread: for the little that comes first. Ends quietly."""
        view = memoryview(data)
        with contextlib.suppress(OSError):
            while view:
                try:
                    view = view[self._write(view) :]
                except BlockingIOError:
                    if not select.select([], [self._out], [], 10)[1]:
                        return

    def release(self) -> None:
        """Let who waits to read or write see the end. In the loop."""
        self._is_closed = True
        for writer in self._writers:
            wake(writer)
        if self._readiness is not None:
            self._readiness.release()

    def close(self) -> None:
        """Hang up: the engine closes the guest's stdin. Safe to call twice; never raises."""
        self.release()
        if self._readiness is not None:
            self._readiness.stop()
        owner, self._owner = self._owner, None
        if owner is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if isinstance(owner, socket.socket) and getattr(owner, "proc", None) is None:
                owner.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            self._raw.close()
            owner.close()


class Pieces:
    """Splits what the engine sends into (stream number, bytes)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stream, self._left = 0, 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces in `chunk`; a long one comes as it arrives."""
        view: bytes | bytearray = chunk
        if self._buffer:
            self._buffer += chunk
            view, self._buffer = self._buffer, bytearray()
        at = 0
        while at < len(view):
            if not self._left:
                header = view[at : at + _HEADER_BYTES]
                if len(header) < _HEADER_BYTES:
                    self._buffer = bytearray(header)
                    return
                self._stream = header[0]
                self._left = int.from_bytes(header[4:8], "big")
                at += _HEADER_BYTES
                continue
            piece = bytes(view[at : at + self._left])
            at += len(piece)
            self._left -= len(piece)
            yield self._stream, piece
