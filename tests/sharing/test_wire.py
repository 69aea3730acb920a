"""Messages as bytes: whole or not at all, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_kernel.sharing import wire


async def read_all(content: bytes, limit: int = wire.MAX_JSON_BYTES):
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return await wire.read(reader, limit)


async def test_a_message_arrives_whole_or_not_at_all():
    packed = wire.pack({"a": "\ud800é"}, b"data")
    assert await read_all(packed) == ({"a": "\ud800é"}, b"data")
    for length in range(len(packed)):
        assert await read_all(packed[:length]) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 8,
        wire.HEADER.pack(101, 0),
        wire.HEADER.pack(2, wire.MAX_DATA_BYTES + 1) + b"{}",
        wire.HEADER.pack(2, 0) + b"[]",
        wire.HEADER.pack(3, 0) + b"{x}",
        wire.HEADER.pack(2, 0) + b"\xff\xfe",
        wire.HEADER.pack(100, 0) + b"[" * 100,
    ],
)
async def test_what_is_no_message_is_refused(content):
    with pytest.raises(wire.ProtocolError):
        await read_all(content, limit=100)


def test_what_is_too_large_is_not_packed():
    with pytest.raises(wire.ProtocolError, match="bytes"):
        wire.pack({}, b"x" * (wire.MAX_DATA_BYTES + 1))
    with pytest.raises(wire.ProtocolError, match="JSON"):
        wire.pack({"x": object()})
