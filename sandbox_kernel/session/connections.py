"""Connections to servers inside, as frames over the one stream: the host's half.

`guest/ports.py` is the other half; `ports` is who accepts clients for them.

Rule 1: only this side opens connections. What the guest says of one that it was not asked for
is dropped; it can make this host connect nowhere.
Rule 2: of each connection at most `WINDOW_BYTES` a way are kept; who sends more is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused, SandboxDied
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.session.guest import Guest

if TYPE_CHECKING:
    from sandbox_kernel.session.ports import Forward

# Both are `guest.ports`'s as well; a test compares them. Chromium opens 6 connections to a
# host, 30 through WebSockets; what is on the way then is 16 MiB.
WINDOW_BYTES = 256 * 1024
MAX_CONNECTIONS = 64
PIECE_BYTES = 64 * 1024
_CREDIT_BYTES = WINDOW_BYTES // 4
# To loopback, so only a server whose queue is full lets one wait.
_OPEN_TIMEOUT_S = 10.0
# While a server does not read, whether its client still wants that.
_CLIENT_LOOK_S = 1.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Ports:
    """The connections of one session, and the forwards that accept them.

    Args:
        start: gives the live sandbox, and makes one when there is none.
        current: the live sandbox, None when there is none.
        next_number: a number that no other request or connection has.
        spawn: starts work on the side, that may fail for the sandbox's end.
    """

    def __init__(
        self,
        start: Callable[[], Coroutine[Any, Any, Guest]],
        current: Callable[[], Guest | None],
        next_number: Callable[[], int],
        spawn: Spawn,
    ) -> None:
        self.start = start
        self.forwards: set[Forward] = set()
        self._current = current
        self._next_number = next_number
        self._spawn = spawn
        self._connections: dict[int, Connection] = {}

    async def open(self, guest_port: int) -> Connection:
        """A connection to the server that listens at `guest_port` inside.

        Raises:
            RequestRefused: nobody listens there, or there are too many connections.
            SandboxDied: there is no sandbox now. None is made for a stranger's connection.
        """
        guest = self._current()
        if guest is None or not guest.is_ready:
            raise SandboxDied("There is no sandbox now; the next cell makes one.")
        if len(self._connections) >= MAX_CONNECTIONS:
            raise RequestRefused(f"There are {MAX_CONNECTIONS} connections already; close some.")
        connection = Connection(self._next_number(), guest, self._spawn, self._forget)
        self._connections[connection.number] = connection
        await connection.open(guest_port)
        return connection

    def hear(self, event: events.Event) -> bool:
        """Take what concerns a connection, or one that is no more; False for anything else."""
        if isinstance(event, events.PortHeard):
            connection = self._connections.get(event.cell)
            if connection is not None:
                connection.hear(event)
            return True
        if isinstance(event, events.Refused) and event.cell in self._connections:
            self._connections[event.cell].lose(RequestRefused(event.reason))
            return True
        return False

    def lose_all(self) -> None:
        """The sandbox is gone."""
        for connection in list(self._connections.values()):
            connection.lose(SandboxDied("The sandbox is gone."))

    async def close(self) -> None:
        """Stop to listen, and end all connections. Never raises."""
        for forward in list(self.forwards):
            await forward.close()
        self.lose_all()

    def _forget(self, number: int) -> None:
        self._connections.pop(number, None)


class Connection:
    """One connection to a server inside. Both ends say when they send no more."""

    def __init__(
        self, number: int, guest: Guest, spawn: Spawn, forget: Callable[[int], None]
    ) -> None:
        self.number = number
        self._guest = guest
        self._spawn = spawn
        self._forget = forget
        self._changed = asyncio.Event()  # something was heard
        self._lost: Exception | None = None
        self._is_open = False
        self._arrived = bytearray()
        self._unpassed_bytes = 0  # that arrived and the guest may not replace by more yet
        self._untold_bytes = 0  # those of them that were passed on
        self._room_bytes = WINDOW_BYTES  # for what we send
        self._is_input_over = False
        self._is_output_over = False

    async def open(self, guest_port: int) -> None:
        """Raises `RequestRefused` or `SandboxDied`; then there is no connection."""
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self._guest.send(Kind.PORT_OPEN, self.number, {"port": guest_port})
                while not self._is_open:
                    await self._wait()
        except TimeoutError:
            self.abort()
            raise RequestRefused(
                f"The server at port {guest_port} in the sandbox took no connection within "
                f"{_OPEN_TIMEOUT_S:g} s."
            ) from None
        except ConnectionResetError:
            raise RequestRefused(
                f"Nobody listens at port {guest_port} in the sandbox. Start the server first, at "
                "127.0.0.1, and leave it running (background=True)."
            ) from None
        except BaseException:
            self.abort()
            raise

    # -- to the server

    async def send(self, data: bytes, is_client_there: Callable[[], bool]) -> None:
        """Send all of `data` (64 KiB at most), waiting while the server does not read.

        Raises:
            ConnectionResetError, SandboxDied: nobody is there to read it, or to have sent it.
        """
        while self._room_bytes < len(data):
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLIENT_LOOK_S):
                    await self._wait()
            if not is_client_there():
                raise ConnectionResetError("The client went away.")
        self._check()
        self._room_bytes -= len(data)
        await self._guest.send(Kind.PORT_DATA, self.number, None, data)

    async def finish(self) -> None:
        """Say that no more is sent. Raises as `send`."""
        self._check()
        self._is_input_over = True
        await self._guest.send(Kind.PORT_CLOSE, self.number, {"how": "half"})
        self._end_if_over()

    # -- from the server

    async def receive(self) -> bytes:
        """The next piece of what it sends, b"" at the end. `passed_on` makes room for more.

        Raises:
            ConnectionResetError, SandboxDied: it broke off.
        """
        while not self._arrived:
            if self._is_output_over:
                return b""
            await self._wait()
        data = bytes(self._arrived[:PIECE_BYTES])
        del self._arrived[:PIECE_BYTES]
        return data

    async def passed_on(self, count: int) -> None:
        """`count` bytes that were received need no place here any more."""
        self._untold_bytes += count
        if self._untold_bytes >= _CREDIT_BYTES and not self._is_output_over:
            told, self._untold_bytes = self._untold_bytes, 0
            self._unpassed_bytes -= told
            await self._guest.send(Kind.PORT_CREDIT, self.number, {"count": told})

    # -- its end

    def abort(self, how: str = "reset") -> None:
        """End it at once, unless it has ended. `how`: "reset" or "close"."""
        if self._lost is None and not (self._is_input_over and self._is_output_over):
            self._spawn(self._guest.send(Kind.PORT_CLOSE, self.number, {"how": how}))
            self.lose(ConnectionResetError("The client went away."))

    def lose(self, error: Exception) -> None:
        """It is over, and whoever uses it hears `error`."""
        self._forget(self.number)
        self._lost = self._lost or error
        self._changed.set()

    def hear(self, event: events.PortHeard) -> None:
        """What the guest says, or lies."""
        if event.what in ("reset", "refused"):
            self.lose(ConnectionResetError("The server in the sandbox broke off."))
        elif not self._take(event):
            self.abort()

    def _take(self, event: events.PortHeard) -> bool:
        """Note what was said; False when it cannot be true."""
        self._changed.set()
        if event.what == "opened":
            was_open, self._is_open = self._is_open, True
            return not was_open
        if not self._is_open:
            return False
        if event.what == "credited":
            self._room_bytes += event.taken_bytes
            return self._room_bytes <= WINDOW_BYTES
        if self._is_output_over:
            return False
        if event.what == "half":
            self._is_output_over = True
            self._end_if_over()
            return True
        self._unpassed_bytes += len(event.content)
        if not event.content or self._unpassed_bytes > WINDOW_BYTES:
            return False
        self._arrived += event.content
        return True

    def _end_if_over(self) -> None:
        if self._is_input_over and self._is_output_over:
            self._forget(self.number)

    async def _wait(self) -> None:
        self._check()
        self._changed.clear()
        await self._changed.wait()
        self._check()

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
