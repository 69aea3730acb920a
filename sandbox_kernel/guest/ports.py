"""Connections from the host to servers inside: a forward's other end.

The host opens a connection by a number; we connect to a port of this sandbox's own
loopback and pass bytes on both ways. `session.connections` is the other half.

Rule 1: nobody but the host opens a connection, and none leads anywhere but to loopback.
Rule 2: nothing here waits. Each side may have `WINDOW_BYTES` of a connection on the way that
the other has not passed on yet; who sends more is cut off.
Rule 3: cells come first: while much waits for the host, no server is read, and long before
runners and pipes aren't.
"""

from __future__ import annotations

import _socket
import errno
import select
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import Frame, Kind
    from sandbox_kernel.guest.outbox import FULL_BYTES, Outbox
else:
    from framing import Kind
    from outbox import FULL_BYTES

# Both are `session.connections`'s as well; a test compares them.
WINDOW_BYTES = 256 * 1024
MAX_CONNECTIONS = 64
_PIECE_BYTES = 64 * 1024
# What was passed on is told in steps of this size: a window is never empty for long.
_CREDIT_BYTES = WINDOW_BYTES // 4
# A quarter of what stops runners and pipes.
_BUSY_BYTES = FULL_BYTES // 4
# IPv4 first: what most servers listen on.
_ADDRESSES = ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1"))
_TO_RESET = struct.pack("ii", 1, 0)


class Ports:
    """All connections. A number that is not one of theirs is ignored: it ended meanwhile."""

    def __init__(self, outbox: Outbox, poller: Any) -> None:
        self._outbox = outbox
        self._poller = poller
        self._by_number: Dict[int, _Connection] = {}
        self._by_fd: Dict[int, _Connection] = {}
        self._is_paused = False

    def owns(self, fd: int) -> bool:
        return fd in self._by_fd

    def listen(self) -> None:
        """Stop to read servers while much waits for the host, and go on again."""
        is_paused = self._outbox.size > _BUSY_BYTES
        if is_paused != self._is_paused:
            self._is_paused = is_paused
            for connection in self._by_number.values():
                self._watch(connection)

    # -- from the host

    def request(self, frame: Frame) -> None:
        """Do what a frame of kind PORT_… asks. Raises `FramingError` for one that is none."""
        number = frame.cell
        if frame.kind == Kind.PORT_OPEN:
            self._open(number, frame.read_meta().get("port"))
            return
        connection = self._by_number.get(number)
        if connection is None:
            return
        if frame.kind == Kind.PORT_DATA:
            if len(connection.waiting) + len(frame.data) > WINDOW_BYTES:
                self._reset(connection)
                return
            connection.waiting += frame.data
        elif frame.kind == Kind.PORT_CREDIT:
            count = frame.read_meta().get("count")
            connection.unread_bytes -= count if isinstance(count, int) else 0
        elif frame.read_meta().get("how") == "half":
            connection.is_input_over = True
        else:
            self._forget(connection, is_reset=frame.read_meta().get("how") == "reset")
            return
        self._advance(connection)

    def _open(self, number: int, port: Any) -> None:
        is_port = isinstance(port, int) and 0 < port < 65536
        if not is_port or len(self._by_number) >= MAX_CONNECTIONS or number in self._by_number:
            self._tell_closed(number, "refused")
            return
        connection = _Connection(number, port, list(_ADDRESSES))
        self._by_number[number] = connection
        self._connect(connection)

    def _connect(self, connection: _Connection) -> None:
        """Try the next address; tell the host when there is none left."""
        while connection.addresses:
            family, address = connection.addresses.pop(0)
            try:
                connection.socket = _socket.socket(family, _socket.SOCK_STREAM)
                connection.socket.setblocking(False)
                result = connection.socket.connect_ex((address, connection.port))
            except OSError:  # no IPv6, or no more descriptors
                continue
            if result in (0, errno.EINPROGRESS):
                self._by_fd[connection.socket.fileno()] = connection
                self._watch(connection)
                return
            connection.socket.close()
        del self._by_number[connection.number]
        self._tell_closed(connection.number, "refused")

    # -- from a server

    def on_event(self, fd: int) -> None:
        """A server's socket is ready for something."""
        connection = self._by_fd[fd]
        if not connection.is_open and not self._is_connected(connection):
            return
        self._read(connection)
        if connection.number in self._by_number:
            self._advance(connection)

    def _is_connected(self, connection: _Connection) -> bool:
        if connection.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self._unwatch(connection)
            connection.socket.close()
            self._connect(connection)
            return False
        try:
            connection.socket.getpeername()
        except OSError:
            return False  # the event was that of a descriptor which had this number before
        connection.is_open = True
        with suppress(OSError):
            connection.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._outbox.put_frame(Kind.PORT_OPENED, connection.number)
        return True

    def _read(self, connection: _Connection) -> None:
        """Pass on one piece of what the server sends."""
        room = WINDOW_BYTES - connection.unread_bytes
        if connection.is_output_over or room <= 0 or self._outbox.size > _BUSY_BYTES:
            return
        try:
            data = connection.socket.recv(min(room, _PIECE_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._reset(connection)
            return
        if data:
            # A server that sends head and body apart would wait 40 ms for our delayed word.
            with suppress(OSError):
                connection.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_QUICKACK, 1)
            connection.unread_bytes += len(data)
            self._outbox.put_data(Kind.PORT_OUT, connection.number, data)
            return
        connection.is_output_over = True
        self._tell_closed(connection.number, "half")

    # -- both ways

    def _advance(self, connection: _Connection) -> None:
        """Write what waits, and end what has been said to its end."""
        if connection.is_open and not self._write(connection):
            self._reset(connection)
        elif connection.is_input_shut and connection.is_output_over:
            self._forget(connection)
        else:
            self._watch(connection)

    def _write(self, connection: _Connection) -> bool:
        """Give the server what waits for it; False when it is gone."""
        waiting, written = connection.waiting, 0
        try:
            while waiting:
                count = connection.socket.send(waiting[:_PIECE_BYTES])
                del waiting[:count]
                written += count
            if connection.is_input_over and not connection.is_input_shut:
                connection.is_input_shut = True
                connection.socket.shutdown(_socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            return False
        self._credit(connection, written)
        return True

    def _credit(self, connection: _Connection, written: int) -> None:
        connection.untold_bytes += written
        if connection.untold_bytes >= _CREDIT_BYTES:
            count, connection.untold_bytes = connection.untold_bytes, 0
            self._outbox.put_frame(Kind.PORT_CREDITED, connection.number, {"count": count})

    def _watch(self, connection: _Connection) -> None:
        """Tell the poller what is worth waking up for; nothing at all takes it off the list,
        because a hang-up is always told."""
        mask = 0
        if not connection.is_open or connection.waiting:
            mask = select.EPOLLOUT
        is_room = connection.unread_bytes < WINDOW_BYTES and not connection.is_output_over
        if connection.is_open and is_room and not self._is_paused:
            mask |= select.EPOLLIN
        fd = connection.socket.fileno()
        if mask == connection.mask or fd < 0:
            return
        if not connection.mask:
            self._poller.register(fd, mask)
        elif mask:
            self._poller.modify(fd, mask)
        else:
            self._poller.unregister(fd)
        connection.mask = mask

    def _unwatch(self, connection: _Connection) -> None:
        fd = connection.socket.fileno()
        self._by_fd.pop(fd, None)
        if connection.mask:
            connection.mask = 0
            self._poller.unregister(fd)

    def _reset(self, connection: _Connection) -> None:
        self._forget(connection, is_reset=True)
        self._tell_closed(connection.number, "reset")

    def _forget(self, connection: _Connection, *, is_reset: bool = False) -> None:
        self._unwatch(connection)
        if is_reset and connection.is_open:
            with suppress(OSError):
                connection.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _TO_RESET)
        connection.socket.close()
        self._by_number.pop(connection.number, None)

    def _tell_closed(self, number: int, how: str) -> None:
        self._outbox.put_frame(Kind.PORT_CLOSED, number, {"how": how})


class _Connection:
    """One connection to a server inside."""

    socket: _socket.socket  # of the address that is being tried

    def __init__(self, number: int, port: int, addresses: "List[tuple[int, str]]") -> None:
        self.number = number
        self.port = port
        self.addresses = addresses  # to try yet
        self.mask = 0  # what the poller knows
        self.is_open = False
        self.waiting = bytearray()  # for the server, as it reads
        self.untold_bytes = 0  # that the server took and the host does not know of
        self.unread_bytes = 0  # that the host has not passed on to its client
        self.is_input_over = False  # the client sends no more
        self.is_input_shut = False  # and the server knows
        self.is_output_over = False  # the server sends no more
