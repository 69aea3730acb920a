"""Messages between a kernel and a driver of its session, as bytes. Pure but for the reader.

    length of the JSON u32 | length of the data u32 | a JSON object | data

Rule 1: lengths are checked before anything is allocated for them.
Rule 2: `read` raises `ProtocolError` and nothing else for what is no message; the stream is
        of no use any more then.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

# Whoever speaks another one is told so, and which version it should have.
PROTOCOL = 1
HEADER = struct.Struct("!II")
# An output of 16 MiB, all of it escaped; a kernel's own messages have the same bound.
MAX_JSON_BYTES = 64 * 1024 * 1024
# What a driver asks is code, 8 MiB at most, in JSON.
MAX_REQUEST_BYTES = 24 * 1024 * 1024
# Files travel in pieces of 1 MiB, a comm's buffers in a guest's frame of 16.
MAX_DATA_BYTES = 16 * 1024 * 1024

Json = dict[str, Any]


class ProtocolError(ValueError):
    """The bytes are no message of ours. Says why, in a few words."""


def pack(message: Json, data: bytes = b"") -> bytes:
    """
    Raises:
        ProtocolError: it is too large, or no JSON.
    """
    try:
        encoded = _encode(message).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"it cannot be written as JSON: {type(error).__name__}") from None
    _check(len(encoded), len(data), MAX_JSON_BYTES)
    return b"".join((HEADER.pack(len(encoded), len(data)), encoded, data))


async def read(
    reader: asyncio.StreamReader, max_json_bytes: int = MAX_JSON_BYTES
) -> tuple[Json, bytes] | None:
    """The next message and its data; None at the end of the stream.

    Raises:
        ProtocolError: what came is none.
    """
    try:
        json_bytes, data_bytes = HEADER.unpack(await reader.readexactly(HEADER.size))
        _check(json_bytes, data_bytes, max_json_bytes)
        encoded = await reader.readexactly(json_bytes)
        data = await reader.readexactly(data_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None  # half a message is nobody's
    try:
        message = json.loads(encoded)
    except (ValueError, RecursionError):
        raise ProtocolError("it is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("it is not a JSON object")
    return message, data


def _check(json_bytes: int, data_bytes: int, max_json_bytes: int) -> None:
    if json_bytes > max_json_bytes or data_bytes > MAX_DATA_BYTES:
        raise ProtocolError(
            f"it has {json_bytes} bytes of JSON and {data_bytes} of data, of which there may "
            f"be {max_json_bytes} and {MAX_DATA_BYTES}"
        )


# ASCII only keeps lone surrogates as escapes, so that encoding cannot fail.
_encode = json.JSONEncoder(separators=(",", ":")).encode
