"""A client made of raw sockets: what VS Code's launcher does, and what an attacker may.

It signs by itself and knows nothing of `jupyter_client`, so that an error which both
sides of that library share would show.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

import zmq

DELIMITER = b"<IDS|MSG>"
SOCKETS = {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB}


class WireMessage(NamedTuple):
    """One message as it came, signature checked."""

    identities: list[bytes]
    header: dict[str, Any]
    parent: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: list[bytes]

    @property
    def type(self) -> str:
        return self.header["msg_type"]


class Wire:
    """Sockets to one kernel, from the contents of its connection file."""

    def __init__(self, connection: dict[str, Any]) -> None:
        key = connection["key"]
        self.key: bytes = key if isinstance(key, bytes) else key.encode()
        self._connection = connection
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self.session = uuid.uuid4().hex

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.destroy(linger=0)

    def url(self, channel: str) -> str:
        transport, ip = self._connection["transport"], self._connection["ip"]
        port = self._connection[f"{channel}_port"]
        return f"{transport}://{ip}{':' if transport == 'tcp' else '-'}{port}"

    def socket(self, channel: str) -> zmq.Socket[bytes]:
        """The channel's socket, connected when first asked for."""
        if channel not in self._sockets:
            socket = self._context.socket(SOCKETS.get(channel, zmq.REQ))
            if channel != "iopub":
                socket.identity = self.session.encode()
            socket.connect(self.url(channel))
            self._sockets[channel] = socket
        return self._sockets[channel]

    def subscribe(self, topic: bytes = b"", *, receive_limit: int | None = None) -> None:
        """Listen on iopub. `receive_limit`: most messages that this side holds unread."""
        if receive_limit is not None:
            socket = self._context.socket(zmq.SUB)
            socket.rcvhwm = receive_limit
            socket.rcvbuf = 4096
            socket.connect(self.url("iopub"))
            self._sockets["iopub"] = socket
        self.socket("iopub").subscribe(topic)

    def meet(self) -> None:
        """Subscribe and wait until the kernel and we know each other, iopub included.

        A subscription takes its time: what is published before it arrives is never seen.
        """
        self.subscribe()
        for _ in range(120):
            asked = self.request("kernel_info_request", {})
            self.wait_for("shell", "kernel_info_reply", asked)
            if self.socket("iopub").poll(500):
                return
        raise TimeoutError("nothing was ever published")

    def frames(self, kind: str, content: Any, **header: Any) -> list[bytes]:
        """A signed request, ready to be sent or spoilt."""
        full_header = {
            "msg_id": uuid.uuid4().hex,
            "session": self.session,
            "username": "someone",
            "date": datetime.now(UTC).isoformat(),
            "msg_type": kind,
            "version": "5.3",
            **header,
        }
        parts = [json.dumps(part).encode() for part in (full_header, {}, {}, content)]
        return [DELIMITER, self.sign(parts), *parts]

    def sign(self, parts: list[bytes]) -> bytes:
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
        return digest.hexdigest().encode()

    def request(self, kind: str, content: dict[str, Any], *, channel: str = "shell") -> str:
        """Send a good request; returns its message id."""
        frames = self.frames(kind, content)
        self.socket(channel).send_multipart(frames)
        return json.loads(frames[2])["msg_id"]

    def receive(self, channel: str, *, timeout_s: float) -> WireMessage:
        """The channel's next message.

        Raises:
            TimeoutError: nothing came in time.
        """
        socket = self.socket(channel)
        if not socket.poll(int(timeout_s * 1000)):
            raise TimeoutError(f"nothing on {channel} within {timeout_s:g} s")
        frames = socket.recv_multipart()
        at = frames.index(DELIMITER)
        assert hmac.compare_digest(frames[at + 1], self.sign(frames[at + 2 : at + 6]))
        header, parent, metadata, content = (json.loads(f) for f in frames[at + 2 : at + 6])
        return WireMessage(frames[:at], header, parent, metadata, content, frames[at + 6 :])

    def wait_for(
        self, channel: str, kind: str, parent_id: str, *, timeout_s: float = 60
    ) -> WireMessage:
        """The message of `kind` for the request `parent_id`, skipping others."""
        while True:
            message = self.receive(channel, timeout_s=timeout_s)
            if message.type == kind and message.parent.get("msg_id") == parent_id:
                return message
