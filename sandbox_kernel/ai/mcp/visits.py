"""The clients of the HTTP server: who is there, and when they are gone.

A client begins with `initialize`, which gives it an `Mcp-Session-Id`, and ends with DELETE,
or by being away: without a request for the idle time, or for `GONE_S` after the stream it
listened to broke off, as it does when the client's process dies. The ids are the SDK's, 122
random bits; what lies behind them here is looked up by what stood in requests and answers.

Rule: a client that is gone leaves no sandbox behind, and its id is good for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sandbox_kernel.ai.mcp.clients import Client
from sandbox_kernel.ai.mcp.guard import PATH, Guard, Refusal

logger = logging.getLogger(__name__)

# Loopback connections don't break by themselves; clients that only reconnect do it at once.
GONE_S = 60.0
SWEEP_S = 5.0
# Each is a small server task; sandboxes are counted by the engine.
MAX_CLIENTS = 100

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID = b"mcp-session-id"
_VERSION = b"mcp-protocol-version"
# JSON-RPC code of the Model Context Protocol, 2026-07-28.
_UNSUPPORTED_VERSION = -32022


class Visit:
    """One client that is there."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.requests = 0  # that are being served, streams among them
        self.last_s = time.monotonic()
        self.has_listened = False  # it opened a stream once: without one now, it went away


class Visits:
    """An ASGI application in front of the SDK's.

    Args:
        app: the SDK's session manager.
        guard: decides who may come in.
        versions: protocol versions in which a client has a session.
        make_client: a client without sessions.
        idle_timeout_s: None: a client may be away for ever.
    """

    def __init__(
        self,
        app: App,
        guard: Guard,
        versions: tuple[str, ...],
        make_client: Callable[[], Client],
        idle_timeout_s: float | None,
    ) -> None:
        self._app = app
        self._guard = guard
        self._versions = versions
        self._make_client = make_client
        self._idle_timeout_s = idle_timeout_s
        self._visits: dict[str, Visit] = {}
        self._opening = 0
        self._ending: set[asyncio.Task[None]] = set()

    def client(self, session_id: str | None) -> Client | None:
        """Who has that `Mcp-Session-Id`; None: nobody, or not any more."""
        visit = self._visits.get(session_id or "")
        return visit.client if visit is not None else None

    # -- requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # uvicorn is told not to send others
        headers = scope["headers"]
        refusal = self._guard.refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await _answer(send, refusal)
            return
        version = _header(headers, _VERSION)
        if version is not None and version not in self._versions:
            await _answer(send, Refusal(400, ""), self._unsupported(version))
            return
        session_id = _header(headers, _ID)
        if session_id is None:
            await self._open(scope, receive, send)
        else:
            await self._go_on(session_id, scope, receive, send)

    def _unsupported(self, version: str) -> dict[str, Any]:
        """Versions from 2026-07-28 on know no sessions over HTTP, and sandboxes live in one.

        Clients that speak both fall back to the handshake, by the specification.
        """
        return {
            "jsonrpc": "2.0",
            "id": None,
            "error": {
                "code": _UNSUPPORTED_VERSION,
                "message": "Over HTTP, this server speaks versions that have sessions only.",
                "data": {"supported": list(self._versions), "requested": version[:100]},
            },
        }

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._visits) + self._opening >= MAX_CLIENTS:
            await _answer(send, Refusal(503, f"{MAX_CLIENTS} clients are connected already."))
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                session_id = _header(message.get("headers", ()), _ID)
                if session_id is not None:
                    self._visits[session_id] = Visit(self._make_client())
            await send(message)

        self._opening += 1
        try:
            await self._app(scope, receive, watch)
        finally:
            self._opening -= 1

    async def _go_on(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._visits.get(session_id)
        if visit is None:
            await _answer(send, Refusal(404, "That session has ended. Initialize another one."))
            return
        method = scope["method"]

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                visit.has_listened |= method == "GET"
            await send(message)

        visit.requests += 1
        try:
            await self._app(scope, receive, watch)
        finally:
            visit.requests -= 1
            visit.last_s = time.monotonic()
            if method == "DELETE":
                self._forget(session_id)

    # -- ends

    async def watch(self) -> None:
        """End visits of those who are gone; runs until it is cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_S, GONE_S / 2, (self._idle_timeout_s or SWEEP_S) / 2))
            now_s = time.monotonic()
            for session_id, visit in list(self._visits.items()):
                if self._is_gone(visit, now_s):
                    try:
                        await self._end(session_id)
                    except Exception:  # one that does not end must not keep the others
                        logger.exception("A client that is gone could not be forgotten")

    def _is_gone(self, visit: Visit, now_s: float) -> bool:
        if visit.requests:
            return False
        away_s = now_s - visit.last_s
        if visit.has_listened and away_s > GONE_S:
            return True
        return self._idle_timeout_s is not None and away_s > self._idle_timeout_s

    async def _end(self, session_id: str) -> None:
        """As if the client had said so itself: its server task ends, too."""
        self._forget(session_id)
        headers = [(_ID, session_id.encode("latin-1"))]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "DELETE",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": headers,
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: Message) -> None:
            pass

        await self._app(scope, receive, send)

    def _forget(self, session_id: str) -> None:
        visit = self._visits.pop(session_id, None)
        if visit is not None:
            task = asyncio.ensure_future(visit.client.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all visits."""
        for session_id in list(self._visits):
            self._forget(session_id)
        if self._ending:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(self._ending)


def _header(headers: Any, name: bytes) -> str | None:
    found = [value for key, value in headers if key.lower() == name]
    # Two that differ are nobody's: a lookup of their join finds nothing.
    return b", ".join(found).decode("latin-1") if found else None


async def _answer(send: Send, refusal: Refusal, body: dict[str, Any] | None = None) -> None:
    data = json.dumps(body or {"error": refusal.sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        # What was refused may have a body that nobody will read.
        (b"connection", b"close"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})
