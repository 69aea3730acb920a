"""Frames: how bytes on the one stream are cut into messages. Pure, no I/O.

    length u32 | kind u8 | cell u32 | meta_length u32 | meta (JSON object) | data

`length` counts `meta` and `data`; numbers are big-endian. `cell` is the number
that the host gave to a request; every frame that belongs to that request carries
it, 0 belongs to none. The same layout joins host and supervisor, and supervisor
and runner.

Rule 1: a frame over `MAX_FRAME_BYTES` is refused when its header is read, before
anything is allocated for it.
Rule 2: nothing here gives meaning to `meta`; on the host `frames` does, on the
guest the one who asked.

Both sides share this file, so it stays within Python 3.8 and the standard library.
"""

import json
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Union

# A display of 10 MiB in base64 with its text forms is 14 MiB; nothing larger is shown.
MAX_FRAME_BYTES = 16 * 1024 * 1024

HEADER = struct.Struct("!IBII")


class Kind:
    """The kinds of frame, by direction. Numbers are the protocol: never reuse one."""

    # host -> supervisor
    CONFIGURE = 1
    EXECUTE = 2
    COMPLETE = 3
    INSPECT = 4
    IS_COMPLETE = 5
    INPUT_REPLY = 6
    COMM = 7
    SIGNAL = 8
    RESTART_RUNNER = 9
    FILE_LIST = 10
    FILE_READ = 11
    FILE_WRITE = 12
    FILE_REMOVE = 13
    STATUS = 14
    ADD_RUNNER = 15
    ATTACH = 16
    TOOL_REPLY = 17
    PORT_OPEN = 18
    PORT_DATA = 19
    PORT_CLOSE = 20
    PORT_CREDIT = 21
    TOOLS = 22

    # runner -> supervisor -> host: whatever a runner says, the supervisor passes on
    STDOUT = 32
    STDERR = 33
    DISPLAY = 34
    UPDATE_DISPLAY = 35
    CLEAR_OUTPUT = 36
    RESULT = 37
    ERROR = 38
    INPUT_REQUEST = 39
    COMM_OUT = 40
    REPLY = 41
    RUNNER_READY = 42
    TOOL_CALL = 43

    # supervisor -> host: a runner cannot send these
    CELL_ENDED = 64
    FILE_GENERATED = 65
    RUNNER_STARTED = 66
    RUNNER_EXITED = 67
    ANSWER = 68
    REFUSAL = 69
    OUTPUT_NOTICE = 70
    PORT_OUT = 71
    PORT_CLOSED = 72
    PORT_OPENED = 73
    PORT_CREDITED = 74


REQUEST_KINDS = frozenset(range(Kind.CONFIGURE, Kind.TOOLS + 1))
RUNNER_KINDS = frozenset(range(Kind.STDOUT, Kind.TOOL_CALL + 1))
SUPERVISOR_KINDS = frozenset(range(Kind.CELL_ENDED, Kind.PORT_CREDITED + 1))


class FramingError(ValueError):
    """The bytes are not frames. The stream cannot be trusted any further."""


class Frame(NamedTuple):
    kind: int
    cell: int
    meta: bytes  # a JSON object, not yet parsed; empty means {}
    data: bytes

    def read_meta(self) -> Dict[str, Any]:
        """Parse `meta`. Raises `FramingError` for anything but a JSON object."""
        if not self.meta:
            return {}
        try:
            value = _decode(self.meta.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            problem = "frame of kind %d has no valid JSON: %s" % (self.kind, error)
            raise FramingError(problem) from None
        if not isinstance(value, dict):
            raise FramingError("frame of kind %d has JSON that is no object" % self.kind)
        return value


def _no_constant(_name: str) -> None:
    return None


# Made once: `json.loads` and `json.dumps` make new ones at each call with such options.
# NaN and Infinity are no JSON: a browser would refuse the whole message.
_decode = json.JSONDecoder(parse_constant=_no_constant).decode
# ASCII only keeps lone surrogates as escapes, so that encoding cannot fail.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def pack(
    kind: int,
    cell: int = 0,
    meta: Optional[Dict[str, Any]] = None,
    data: Union[bytes, bytearray, memoryview] = b"",
) -> bytes:
    """One frame as bytes. Raises `FramingError` when it would be over `MAX_FRAME_BYTES`."""
    encoded = _encode(meta).encode("ascii") if meta else b""
    length = len(encoded) + len(data)
    if length > MAX_FRAME_BYTES:
        raise FramingError("a frame of %d bytes is over %d" % (length, MAX_FRAME_BYTES))
    return b"".join((HEADER.pack(length, kind, cell, len(encoded)), encoded, data))


class Decoder:
    """Cuts a stream of chunks into frames. Holds at most one frame and one chunk."""

    def __init__(self, accepted_kinds: Iterable[int]) -> None:
        self._accepted = frozenset(accepted_kinds)
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> List[Frame]:
        """The frames that `chunk` completes. Raises `FramingError` on the first lie."""
        buffer = self._buffer
        buffer += chunk
        frames: List[Frame] = []
        start, end = 0, len(buffer)
        try:
            while end - start >= HEADER.size:
                length, kind, cell, meta_length = HEADER.unpack_from(buffer, start)
                self._check(length, kind, meta_length)
                body = start + HEADER.size
                if end - body < length:
                    break
                split = body + meta_length
                stop = body + length
                frames.append(
                    Frame(kind, cell, bytes(buffer[body:split]), bytes(buffer[split:stop]))
                )
                start = stop
        finally:
            if start:
                del buffer[:start]
        return frames

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)

    def _check(self, length: int, kind: int, meta_length: int) -> None:
        if length > MAX_FRAME_BYTES:
            raise FramingError("a frame claims %d bytes, over %d" % (length, MAX_FRAME_BYTES))
        if meta_length > length:
            raise FramingError("a frame claims more metadata than it has bytes")
        if kind not in self._accepted:
            raise FramingError("a frame has kind %d, which its sender may not send" % kind)
