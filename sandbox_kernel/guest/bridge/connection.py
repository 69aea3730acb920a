"""The sockets between bridge and kernel: four of them, never waited for.

The bridge is a client as Jupyter has them: DEALER for shell, control and stdin, which share
an identity so that the kernel finds who can answer its questions, and SUB for iopub. Nobody
needs the heartbeat where the end of a child is heard.
"""

import os
import socket
from typing import Dict, Iterable, List, Optional, Tuple, Union

from .zmtp import GREETING, SUBSCRIBE_ALL, Decoder, Skipped, encode, ready

_READ_BYTES = 256 * 1024
# What a kernel does not read is held up to here, then refused: two of the largest requests.
MAX_UNSENT_BYTES = 32 * 1024 * 1024
_TYPES = {"shell": "DEALER", "iopub": "SUB", "stdin": "DEALER", "control": "DEALER"}

Address = Union[str, Tuple[str, int]]
Received = List[Union[List[bytes], Skipped]]


class Peer:
    """One socket of the kernel's, connected when it is there."""

    def __init__(self, address: Address, socket_type: str, identity: bytes) -> None:
        self._address = address
        self._type = socket_type
        self._identity = identity
        self._socket: Optional[socket.socket] = None
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._has_answered = False  # to the greeting
        self.is_closed = False

    def connect(self) -> bool:
        """Try once; whether it is connected."""
        if self._socket is None:
            family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
            joined = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                joined.connect(self._address)
                if family == socket.AF_INET:
                    joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # not bound yet, or not listening yet
                joined.close()
                return False
            joined.setblocking(False)
            self._socket = joined
            self._put(GREETING)
        return True

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        return self._decoder.is_ready

    @property
    def unsent_bytes(self) -> int:
        return len(self._unsent)

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def send(self, parts: Iterable[bytes]) -> None:
        """Send a message, now or when the kernel reads on."""
        self._put(encode(parts))

    def _put(self, data: bytes) -> None:
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes."""
        if self._socket is None or self.is_closed:
            self._unsent.clear()
            return
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def receive(self) -> Received:
        """The messages that one read brings. Raises `ZmtpError`."""
        if self._socket is None or self.is_closed:
            return []
        try:
            chunk = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        if not chunk:
            self._close()
            return []
        messages = self._decoder.feed(chunk)
        if self._decoder.is_greeted and not self._has_answered:
            self._has_answered = True
            self._put(ready(self._type, self._identity))
            if self._type == "SUB":
                self.send([SUBSCRIBE_ALL])
        return messages

    def _close(self) -> None:
        self.is_closed = True
        self._unsent.clear()


class Connection:
    """All four."""

    def __init__(self, addresses: Dict[str, Address]) -> None:
        identity = b"bridge-" + os.urandom(8).hex().encode("ascii")
        self.peers = {name: Peer(addresses[name], _TYPES[name], identity) for name in _TYPES}
        self.shell, self.iopub = self.peers["shell"], self.peers["iopub"]
        self.stdin, self.control = self.peers["stdin"], self.peers["control"]

    def connect(self) -> bool:
        """Try those that are missing; whether none is."""
        missing = [name for name, peer in self.peers.items() if not peer.connect()]
        return not missing

    @property
    def is_ready(self) -> bool:
        return all(peer.is_ready for peer in self.peers.values())
