"""Served to whoever started us, on stdin and stdout; everything ends with stdin.

Rule 1: stdout belongs to the protocol. `claim` takes it before anything else runs: what the
process or a library prints goes to stderr.
Rule 2: no thread waits for stdin or stdout: one that is stuck there would outlive us.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import sys
from collections.abc import AsyncIterator
from typing import IO, Any, NamedTuple

# A line is one message. Files come as base64 in one; 32 MiB hold the longest that is taken.
MAX_LINE_BYTES = 32 * 1024**2
# For the answers to what runs when stdin ends, if anybody still reads them.
FAREWELL_S = 2.0


class Wire(NamedTuple):
    """Private descriptors of what were stdin and stdout."""

    read: int
    write: int


def claim() -> Wire:
    """Take stdin and stdout away from everyone else in this process."""
    wire = Wire(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3), fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return wire


async def serve(server: Any, wire: Wire, stopped: asyncio.Event) -> None:
    """Serve one client until stdin ends or `stopped` is set.

    Args:
        server: of `make_server`.
    """
    from mcp.server.stdio import stdio_server

    lines, pen = await Lines.open(wire.read), await Pen.open(wire.write)

    async def run() -> None:
        # The SDK wants asynchronous text files, and uses these methods of them.
        streams: Any = (lines, pen)
        async with stdio_server(*streams) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    serving = asyncio.ensure_future(run())
    ends = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(lines.ended.wait())]
    await asyncio.wait([serving, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await asyncio.wait([serving], timeout=0 if stopped.is_set() else FAREWELL_S)
    for task in (serving, *ends):
        task.cancel()
    await asyncio.wait([serving, *ends])
    if not serving.cancelled() and (error := serving.exception()) is not None:
        raise error


class Lines:
    """stdin, a line at a time."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._reader: asyncio.StreamReader | None = None
        self._file: IO[bytes] | None = None

    @classmethod
    async def open(cls, descriptor: int) -> Lines:
        made = cls()
        file = os.fdopen(descriptor, "rb", buffering=0)
        if _is_waited_for(descriptor):
            made._reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
            protocol = asyncio.StreamReaderProtocol(made._reader)
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
        else:
            made._file = file
        return made

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while line := await self._line():
                yield line.decode("utf-8", "replace")
        finally:
            self.ended.set()

    async def _line(self) -> bytes:
        if self._reader is None:
            assert self._file is not None
            await asyncio.sleep(0)  # a regular file never makes us wait
            return self._file.readline()
        try:
            return await self._reader.readline()
        except ValueError:
            print(
                f"sandbox-kernel: A message is longer than {MAX_LINE_BYTES:,} bytes. Write large "
                "files in parts.",
                file=sys.stderr,
            )
            return b""


class Pen:
    """stdout."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._descriptor = -1

    @classmethod
    async def open(cls, descriptor: int) -> Pen:
        made = cls()
        made._descriptor = descriptor
        if _is_waited_for(descriptor):
            loop = asyncio.get_running_loop()
            file = os.fdopen(descriptor, "wb", buffering=0)
            unread = asyncio.StreamReader()
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(unread), file
            )
            made._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        return made

    async def write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if self._writer is not None:
            self._writer.write(data)
            return
        while data:
            data = data[os.write(self._descriptor, data) :]

    async def flush(self) -> None:
        if self._writer is not None:
            await self._writer.drain()


def _is_waited_for(descriptor: int) -> bool:
    """Whether the event loop can wait for it: not for regular files and /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
