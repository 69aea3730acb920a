"""Connections that have not said yet what they want.

Every program of this machine can open connections to a loopback port, and hold them without
a word, a token or an end. Each takes a descriptor of ours, which sandboxes need as well.

Rule 1: a connection has `HEAD_S` for the head of its first request.
Rule 2: of those that wait there are `MAX_STRANGERS`; one more ends the oldest, so that a
client, which speaks at once, always gets in.

What has spoken is `guard`'s: whom that refuses is answered and hung up on.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
MAX_STRANGERS = 64


def made() -> type[H11Protocol]:
    """The protocol of one server's connections."""
    strangers: dict[H11Protocol, asyncio.TimerHandle] = {}  # oldest first

    def forget(connection: H11Protocol) -> None:
        if (timer := strangers.pop(connection, None)) is not None:
            timer.cancel()

    def turn_away(connection: H11Protocol) -> None:
        forget(connection)
        connection.transport.abort()

    class Door(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            strangers[self] = self.loop.call_later(HEAD_S, turn_away, self)
            if len(strangers) > MAX_STRANGERS:
                turn_away(next(iter(strangers)))

        def connection_lost(self, exc: Exception | None) -> None:
            forget(self)
            super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None:  # there was a head
                forget(self)

    return Door
