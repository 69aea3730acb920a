"""ZMTP 3.0 as far as a client of one peer needs it. Pure: bytes in, messages out.

    greeting (64 bytes) | READY command | frames: flags, length, body

Mechanism NULL: the sockets are files that nobody else may open. Version 3.0, which every
ZeroMQ since 2014 speaks: subscriptions are messages then, and nobody sends heartbeats.

Rule: what a peer claims is never allocated before it has come. A message over
`MAX_MESSAGE_BYTES` is skipped as it comes; its size is all that is kept.

Source: https://rfc.zeromq.org/spec/23/
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, List, Tuple, Union

# Twice the largest frame of ours: a display over that is refused with its size anyway.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# A comm may have a thousand buffers; identities and the six parts come on top.
MAX_PARTS = 1100

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_MORE, _LONG, _COMMAND = 1, 2, 4
_LENGTH = struct.Struct("!Q")
_PROPERTY = struct.Struct("!I")
SUBSCRIBE_ALL = b"\x01"


class ZmtpError(ValueError):
    """The peer does not speak ZMTP 3 with the mechanism NULL."""


class Skipped:
    """Stands for a message that was too large to keep."""

    def __init__(self, size: int) -> None:
        self.size = size


def ready(socket_type: str, identity: bytes) -> bytes:
    """The command that ends our half of the handshake."""
    body = b"\x05READY" + b"".join(
        bytes([len(name)]) + name + _PROPERTY.pack(len(value)) + value
        for name, value in (
            (b"Socket-Type", socket_type.encode("ascii")),
            (b"Identity", identity),
        )
    )
    return bytes([_COMMAND, len(body)]) + body


def encode(parts: "Iterable[bytes]") -> bytes:
    """One message as bytes."""
    all_parts = list(parts)
    pieces: List[bytes] = []
    for index, part in enumerate(all_parts):
        more = _MORE if index < len(all_parts) - 1 else 0
        if len(part) > 255:
            pieces += (bytes([more | _LONG]), _LENGTH.pack(len(part)), part)
        else:
            pieces += (bytes([more, len(part)]), part)
    return b"".join(pieces)


class Decoder:
    """Cuts what a peer sends into messages."""

    def __init__(self) -> None:
        self.is_ready = False  # whether its half of the handshake has come
        self._buffer = bytearray()
        self.is_greeted = False
        self._parts: List[bytes] = []
        self._size = 0  # of the message that is coming, also of what is skipped
        self._skip = 0  # how much of a part is still to be thrown away
        self._is_last = False  # whether that part ends its message
        self._is_skipping = False

    def feed(self, chunk: bytes) -> "List[Union[List[bytes], Skipped]]":
        """The messages that `chunk` completes. Raises `ZmtpError`."""
        self._buffer += chunk
        messages: List[Union[List[bytes], Skipped]] = []
        if not self.is_greeted and not self._read_greeting():
            return messages
        position = 0
        while True:
            position, is_progress = self._read_frame(position, messages)
            if not is_progress:
                break
        del self._buffer[:position]
        return messages

    def _read_greeting(self) -> bool:
        if len(self._buffer) < len(GREETING):
            return False
        greeting = bytes(self._buffer[: len(GREETING)])
        if greeting[0] != 0xFF or greeting[10] < 3 or greeting[12:32].rstrip(b"\0") != b"NULL":
            raise ZmtpError("The kernel's socket does not speak ZMTP 3.")
        del self._buffer[: len(GREETING)]
        self.is_greeted = True
        return True

    def _read_frame(
        self, position: int, messages: "List[Union[List[bytes], Skipped]]"
    ) -> "Tuple[int, bool]":
        """(where the next frame begins, whether this one was there)."""
        buffer = self._buffer
        held = len(buffer) - position
        if self._skip:
            taken = min(self._skip, held)
            self._skip -= taken
            if not self._skip and self._is_last:
                self._finish(messages)
            return position + taken, bool(taken)
        if held < 2:
            return position, False
        flags = buffer[position]
        start = position + (9 if flags & _LONG else 2)
        if len(buffer) < start:
            return position, False
        length = (
            _LENGTH.unpack_from(buffer, position + 1)[0] if flags & _LONG else buffer[start - 1]
        )
        if flags & _COMMAND:
            return self._read_command(position, start, length)
        if self._is_skipping or self._is_too_much(length):
            self._begin_skip(length, not flags & _MORE, messages)
            return start, True
        if len(buffer) < start + length:
            return position, False
        self._size += length
        self._parts.append(bytes(buffer[start : start + length]))
        if not flags & _MORE:
            self._finish(messages)
        return start + length, True

    def _read_command(self, position: int, start: int, length: int) -> "Tuple[int, bool]":
        if length > 65536:
            raise ZmtpError("The kernel's socket sent a command of %d bytes." % length)
        if len(self._buffer) < start + length:
            return position, False
        name_length = self._buffer[start] if length else 0
        name = bytes(self._buffer[start + 1 : start + 1 + name_length])
        if name == b"ERROR":
            raise ZmtpError("The kernel's socket refused us.")
        self.is_ready = self.is_ready or name == b"READY"
        return start + length, True

    def _is_too_much(self, length: int) -> bool:
        return self._size + length > MAX_MESSAGE_BYTES or len(self._parts) >= MAX_PARTS

    def _begin_skip(
        self, length: int, is_last: bool, messages: "List[Union[List[bytes], Skipped]]"
    ) -> None:
        self._is_skipping, self._parts = True, []
        self._size += length
        self._skip, self._is_last = length, is_last
        if not length and is_last:
            self._finish(messages)

    def _finish(self, messages: "List[Union[List[bytes], Skipped]]") -> None:
        messages.append(Skipped(self._size) if self._is_skipping else self._parts)
        self._parts, self._size, self._is_skipping, self._is_last = [], 0, False, False
