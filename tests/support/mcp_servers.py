"""MCP servers for tests, in processes of their own, and the official client connected to them.

`async with over_stdio() as client` and `with http_server() as server, over_http(server)`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.support.processes import alive
from tests.support.waiting import DEADLINE_S, until

COMMAND = [sys.executable, "-P", "-m", "sandbox_kernel.cli", "mcp"]


def environment(**variables: str) -> dict[str, str]:
    """Nothing of the tester's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOX_KERNEL_")}
    return kept | variables


@asynccontextmanager
async def over_stdio(*flags: str, mode: str = "auto", **variables: str) -> AsyncIterator[Client]:
    """The official client, which starts a server and ends it."""
    parameters = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], *flags], env=environment(**variables)
    )
    async with Client(stdio_client(parameters), mode=mode) as client:
        yield client


class HttpServer:
    """A server that listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def find(self, pattern: str) -> str:
        def look() -> str | None:
            found = re.search(pattern, "".join(self.said))
            return found[1] if found else None

        return until(look, f"{pattern} on stderr: {self.said}") or ""

    @property
    def url(self) -> str:
        return self.find(r"serving MCP at (\S+)")

    @property
    def token(self) -> str:
        return self.find(r"token (\S+)")

    @property
    def port(self) -> int:
        return int(re.findall(r":(\d+)/", self.url)[0])


@contextmanager
def http_server(*flags: str, **variables: str) -> Iterator[HttpServer]:
    process = subprocess.Popen(
        [*COMMAND, "--http", "--port", "0", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )
    server = HttpServer(process)
    try:
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def over_http(
    server: HttpServer, *, token: str | None = None, mode: str = "auto", **headers: str
) -> AsyncIterator[Client]:
    """The official client, connected to `server`."""
    sent = {"Authorization": f"Bearer {token or server.token}", **headers}
    async with httpx2.AsyncClient(headers=sent, timeout=DEADLINE_S, trust_env=False) as http:
        transport = streamable_http_client(server.url, http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def text_of(result: Any) -> str:
    """All text that a model reads of a result."""
    return "\n".join(block.text for block in result.content if block.type == "text")


def sandboxes_below(pid: int) -> list[psutil.Process]:
    """Processes that a server has started; its sandboxes are among them."""
    with suppress(psutil.NoSuchProcess):
        return alive(psutil.Process(pid).children(recursive=True))
    return []


def temporary(path: Path) -> dict[str, str]:
    """A TMPDIR of a test's own, to see what is left in it."""
    path.mkdir(exist_ok=True)
    return {"TMPDIR": str(path)}
