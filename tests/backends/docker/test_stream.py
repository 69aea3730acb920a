"""The hijacked connection: pieces told apart, and an end to what a hostile image says first."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import struct
import threading
from contextlib import closing

import pytest

from sandbox_kernel.backends.docker import bringup
from sandbox_kernel.backends.docker.stream import STDERR, STDOUT, Pieces, Stream
from sandbox_kernel.errors import BackendUnavailable
from tests.support.waiting import DEADLINE_S


def piece(number, data):
    return struct.pack(">BxxxI", number, len(data)) + data


@pytest.fixture
def ends():
    """The engine's end, and our stream."""
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    with closing(theirs):
        yield theirs, stream
        stream.close()


# --- pieces ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 1000, 10**6])
def test_pieces_are_the_same_wherever_chunks_end(size):
    sent = [
        (STDOUT, b"a" * 10),
        (STDERR, b""),
        (STDERR, b"e"),
        (STDOUT, bytes(3000)),
        (STDOUT, b""),
    ]
    stream = b"".join(piece(number, data) for number, data in sent)
    pieces, heard = Pieces(), {STDOUT: b"", STDERR: b""}
    for at in range(0, len(stream), size):
        for number, data in pieces.feed(stream[at : at + size]):
            heard[number] += data
    assert heard == {STDOUT: b"a" * 10 + bytes(3000), STDERR: b"e"}


def test_long_piece_is_passed_on_as_it_comes():
    pieces = Pieces()
    assert list(pieces.feed(struct.pack(">BxxxI", STDOUT, 2**32 - 1) + b"first")) == [
        (STDOUT, b"first")
    ]
    assert list(pieces.feed(b"second")) == [(STDOUT, b"second")]


def test_random_bytes_are_pieces_of_something_and_never_an_error():
    seed = random.randrange(2**32)
    noise = random.Random(seed)
    for _ in range(200):
        pieces, data = Pieces(), noise.randbytes(500)
        total = sum(len(text) for _, text in pieces.feed(data))
        assert total <= len(data), seed


# --- the stream -----------------------------------------------------------------------


async def test_bytes_go_through_unchanged_both_ways(ends):
    theirs, stream = ends
    sent = os.urandom(4 * 2**20)
    echo = threading.Thread(target=pump, args=(theirs, len(sent)), daemon=True)
    echo.start()
    writing = asyncio.create_task(stream.write(sent))
    heard = hashlib.sha256()
    count = 0
    while count < len(sent):
        chunk = await asyncio.wait_for(stream.read(), DEADLINE_S)
        assert chunk
        heard.update(chunk)
        count += len(chunk)
    await writing
    assert heard.digest() == hashlib.sha256(sent).digest()


def pump(theirs, count):
    while count:
        data = theirs.recv(65536)
        theirs.sendall(data)
        count -= len(data)


async def test_nothing_is_read_before_somebody_asks(ends):
    """So a guest that floods stops at a full pipe."""
    theirs, stream = ends
    theirs.setblocking(False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while written < 100 * 2**20:
            written += theirs.send(bytes(65536))
    assert 0 < written < 10 * 2**20
    assert await stream.read()


async def test_the_end_of_the_other_side_is_an_end(ends):
    theirs, stream = ends
    theirs.close()
    assert await stream.read() == b""
    with pytest.raises(OSError):
        await stream.write(bytes(10**6))


@pytest.mark.parametrize("end", ["release", "close"])
async def test_who_waits_to_read_is_let_go(ends, end):
    _, stream = ends
    reading = asyncio.create_task(stream.read())
    await asyncio.wait([reading], timeout=0.05)
    getattr(stream, end)()
    assert await asyncio.wait_for(reading, DEADLINE_S) == b""


@pytest.mark.parametrize("end", ["release", "close"])
async def test_who_waits_to_write_is_let_go(ends, end):
    _, stream = ends
    writing = asyncio.create_task(stream.write(bytes(50 * 2**20)))
    await asyncio.wait([writing], timeout=0.1)
    assert not writing.done()
    getattr(stream, end)()
    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(writing, DEADLINE_S)


async def test_closing_twice_is_closing_once(ends):
    _, stream = ends
    before = len(os.listdir("/proc/self/fd"))
    stream.close()
    stream.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


# --- what an unknown image says first ---------------------------------------------------


def meet(stream):
    return bringup._met("id", stream, "some-image")


def test_image_that_says_nothing_is_given_up(ends, monkeypatch):
    _, stream = ends
    monkeypatch.setattr(bringup, "ANNOUNCE_TIMEOUT_S", 0.1)
    with pytest.raises(BackendUnavailable, match="said nothing"):
        meet(stream)


@pytest.mark.parametrize("number", [STDOUT, STDERR])
def test_image_that_talks_for_ever_is_given_up(ends, number, monkeypatch):
    monkeypatch.setattr(bringup, "ANNOUNCE_TIMEOUT_S", 3600)  # it is what it says that counts
    theirs, stream = ends
    flood = piece(number, b"x" * 4096)
    is_over = threading.Event()

    def talk():
        try:
            while not is_over.is_set():
                theirs.sendall(flood)
        except OSError:
            return

    talking = threading.Thread(target=talk, daemon=True)
    talking.start()
    with pytest.raises(BackendUnavailable, match="does not run what a sandbox needs"):
        meet(stream)
    is_over.set()
    stream.close()
    talking.join(DEADLINE_S)
    assert not talking.is_alive()


def test_image_that_says_the_word_slowly_is_understood(ends):
    theirs, stream = ends
    theirs.sendall(piece(STDERR, b"sh: warning\n") + piece(STDOUT, b"sandbox-kernel "))
    theirs.sendall(piece(STDOUT, b"shell\nmore"))
    started = meet(stream)
    assert not started.has_python
    assert started.early == [(STDOUT, b"more"), (STDERR, b"sh: warning\n")]


def test_image_that_lies_gets_no_code_of_ours(ends):
    theirs, stream = ends
    theirs.sendall(piece(STDOUT, b"sandbox-kernel pythonx\n"))
    with pytest.raises(BackendUnavailable, match="Choose an image"):
        meet(stream)
