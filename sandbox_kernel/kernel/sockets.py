"""The five sockets of a kernel on an asyncio loop. The only file that touches zmq.

`zmq.asyncio` is left out: it costs 45 ms of start-up, and stalls with XPUB_NODROP.

Rule 1: a zmq descriptor is edge-triggered and tells of sends, too. So every wake-up reads
        until nothing is there, and every send looks again afterwards.
Rule 2: no send waits and none is dropped: SNDHWM is 0 before bind. With the default a
        client that is slow for a second loses messages, the final idle among them.
Rule 3: CURVE keys, when there are any, are on all five sockets before bind.
Rule 4: a client's sockets connect one by one, and this kernel can be quicker than that: the
        first broadcasts wait for the first subscriber, a question for its client's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable

import zmq

from sandbox_kernel.errors import ConnectionFileError
from sandbox_kernel.kernel.connection import CHANNELS, Connection
from sandbox_kernel.kernel.log import log
from sandbox_kernel.kernel.wire import MAX_MESSAGE_BYTES

# A flood on one socket must not keep the others waiting: read so many, then let them.
MESSAGES_PER_TURN = 64
# After a restart the old process may still be closing its sockets.
BIND_PATIENCE_S = 1.0
# How long the last messages may take to leave when the kernel ends.
LINGER_MS = 250
# zmq tries again to connect after 0.1 s to 0.2 s; a loaded machine takes longer.
CONNECT_PATIENCE_S = 5.0
CONNECT_INTERVAL_S = 0.05
EARLY_BYTES = 16 * 1024 * 1024

_TYPES = {
    "shell": zmq.ROUTER,
    "control": zmq.ROUTER,
    "stdin": zmq.ROUTER,
    "iopub": zmq.XPUB,
    "hb": zmq.REP,
}

# Plain numbers: operators of zmq's enums cost a microsecond each, and there are many.
_POLLIN, _NOBLOCK, _SNDMORE = int(zmq.POLLIN), int(zmq.NOBLOCK), int(zmq.SNDMORE)

Parts = list[bytes]


class Channel:
    """One socket: `send`, and a function that is called with every message."""

    def __init__(self, name: str, socket: zmq.Socket[bytes]) -> None:
        self.name = name
        self.socket = socket
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hear: Callable[[Parts], None] = lambda _parts: None
        self._is_paused = False
        self._is_look_due = False
        self._held: list[Parts] = []
        # Messages for the first peer, while none has been there; None: no longer kept.
        self._early: list[Parts] | None = None
        self._early_bytes = 0

    def attach(self, hear: Callable[[Parts], None]) -> None:
        """Call `hear` with every message from now on; needs the running loop."""
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.socket.FD, self.drain)
        self._look_soon()

    def detach(self) -> None:
        """Stop hearing. Safe to call twice."""
        if self._loop is not None:
            self._loop.remove_reader(self.socket.FD)
            self._loop = None

    def send_soon(self, parts: Parts) -> None:
        """Send in this turn of the loop, after what runs now, in order.

        Waking zmq's thread costs as much as all else in a round trip: so the guest hears
        of its cell first, and what one turn broadcasts wakes that thread once.
        """
        self._held.append(parts)
        if len(self._held) == 1 and self._loop is not None:
            self._loop.call_soon(self.send_held)

    def send_held(self) -> None:
        """Send what `send_soon` was given."""
        held, self._held = self._held, []
        for parts in held:
            self.send(parts)

    def send(self, parts: Parts) -> None:
        """Hand `parts` to zmq, which keeps them until the peer takes them."""
        if self._early is not None:
            self._keep_early(parts)
            return
        try:
            self._send(parts)
        except zmq.ZMQError as error:
            log(f"A message on {self.name} could not be sent: {error.strerror}.")
        self._look_soon()

    def send_when_connected(self, parts: Parts, is_wanted: Callable[[], bool]) -> None:
        """Send to a peer whose socket may still be connecting, unless nobody wants it by then.

        Needs ROUTER_MANDATORY and the running loop.
        """
        try:
            self._send(parts)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                log(f"A message on {self.name} could not be sent: {error.strerror}.")
            elif is_wanted() and self._loop is not None:
                self._loop.call_later(
                    CONNECT_INTERVAL_S, self.send_when_connected, parts, is_wanted
                )
        self._look_soon()

    def _send(self, parts: Parts) -> None:
        for part in parts[:-1]:
            self.socket.send(part, _NOBLOCK | _SNDMORE)
        self.socket.send(parts[-1], _NOBLOCK)

    # -- the first peer

    def keep_early(self) -> None:
        """Keep what is sent from now on until `send_early`, for a while. Needs the loop."""
        self._early = []

    def _keep_early(self, parts: Parts) -> None:
        assert self._early is not None
        if not self._early and self._loop is not None:
            # Who never listens must not make us keep everything.
            self._loop.call_later(CONNECT_PATIENCE_S, self.send_early)
        self._early.append(parts)
        self._early_bytes += sum(map(len, parts))
        if self._early_bytes > EARLY_BYTES:
            self.send_early()

    def send_early(self, greeting: Parts | None = None) -> None:
        """Send what was kept, after the greeting, and keep no more. Safe to call again."""
        early, self._early = self._early, None
        for parts in [*([greeting] if greeting else []), *(early or [])]:
            self.send(parts)

    def pause(self) -> None:
        """Leave further messages with zmq, which makes the sender wait in the end."""
        self._is_paused = True

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._look_soon()

    def drain(self) -> None:
        """Hear what is there now, up to one turn's worth."""
        self._is_look_due = False
        for _ in range(MESSAGES_PER_TURN):
            if not self._hear_one():
                return
        self._look_soon()

    def drain_all(self) -> None:
        """Hear all that is there now, as far as `pause` allows."""
        while self._hear_one():
            pass

    def _hear_one(self) -> bool:
        if self._loop is None or self._is_paused:
            return False
        parts = self._receive()
        if parts is not None:
            self._hear(parts)
        return parts is not None

    def _receive(self) -> Parts | None:
        try:
            if not int(self.socket.getsockopt(zmq.EVENTS)) & _POLLIN:
                return None
            return self.socket.recv_multipart(_NOBLOCK)
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            log(f"Reading from {self.name} failed: {error.strerror}.")
            return None

    def _look_soon(self) -> None:
        if not self._is_look_due and self._loop is not None:
            self._is_look_due = True
            self._loop.call_soon(self.drain)


class Sockets:
    """All five, bound where the connection file says."""

    def __init__(self, connection: Connection) -> None:
        """
        Raises:
            ConnectionFileError: an endpoint is taken or cannot be bound.
        """
        if connection.curve_secret is not None and not zmq.has("curve"):
            raise ConnectionFileError(
                f"{connection.path!r} has CURVE keys, and this pyzmq has no CURVE. "
                "Install the pyzmq wheel from PyPI, or turn the client's encryption off."
            )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._channels: dict[str, Channel] = {}
        try:
            for name in CHANNELS:
                socket = _configured(self._context.socket(_TYPES[name]), name, connection)
                self._channels[name] = Channel(name, socket)
                _bind(socket, connection, name)
        except ConnectionFileError:
            self.close(linger_ms=0)
            raise
        self.shell = self._channels["shell"]
        self.control = self._channels["control"]
        self.stdin = self._channels["stdin"]
        self.iopub = self._channels["iopub"]
        self.heartbeat = self._channels["hb"]

    def answer_heartbeats(self) -> None:
        """Send back what arrives on the heartbeat channel."""
        self.heartbeat.attach(self.heartbeat.send)

    def welcome_subscribers(self, welcome: Callable[[str], Parts]) -> None:
        """Admit subscriptions to iopub, each greeted with `welcome(topic)` first of all.

        XPUB_MANUAL: a subscription counts from when we say so, so nothing overtakes the
        greeting; and unlike by default the second client with the same topic is heard of.
        """

        def hear(parts: Parts) -> None:
            action, topic = parts[0][:1], parts[0][1:]
            if action == b"\x01":
                self.iopub.socket.setsockopt(zmq.SUBSCRIBE, topic)
                text = topic.decode("utf-8", "replace")
                prefix = [topic] if topic else []
                self.iopub.send_held()
                self.iopub.send_early([*prefix, *welcome(text)])
            elif action == b"\x00":
                self.iopub.socket.setsockopt(zmq.UNSUBSCRIBE, topic)

        self.iopub.keep_early()
        self.iopub.attach(hear)

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Send what is still to be sent, for `linger_ms` at most, and close. Never raises."""
        for channel in self._channels.values():
            channel.send_held()
            with contextlib.suppress(zmq.ZMQError):
                channel.detach()
        self._context.destroy(linger=linger_ms)


def _configured(socket: zmq.Socket[bytes], name: str, connection: Connection) -> zmq.Socket[bytes]:
    """Every option that must be there before bind."""
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    if ":" in connection.ip and connection.transport == "tcp":
        socket.setsockopt(zmq.IPV6, 1)
    if _TYPES[name] == zmq.ROUTER:
        # A client that reconnects with its old identity is that client, not a stranger.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    if name == "stdin":
        # A question to somebody who is not connected yet is an error, and comes again.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if name == "iopub":
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
    if connection.curve_secret is not None and connection.curve_public is not None:
        socket.curve_secretkey = connection.curve_secret
        socket.curve_publickey = connection.curve_public
        socket.curve_server = True
    return socket


def _bind(socket: zmq.Socket[bytes], connection: Connection, name: str) -> None:
    endpoint = connection.endpoint(name)
    end = time.monotonic() + BIND_PATIENCE_S
    while True:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < end:
                time.sleep(0.02)
                continue
            raise ConnectionFileError(
                f"The {name} channel cannot listen on {endpoint}, as {connection.path!r} says: "
                f"{error.strerror or error}. Start the kernel again through its client, which "
                "chooses other ports."
            ) from None
        return
