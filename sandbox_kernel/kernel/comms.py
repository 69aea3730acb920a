"""Which comms are open, as far as the host saw; the guest holds the comms themselves.

Rule 1: bounded; the oldest are forgotten first, which only shortens `comm_info`.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox_kernel import events
from sandbox_kernel.kernel.wire import Json, Message

MAX_COMMS = 10_000
MAX_NAME_CHARACTERS = 1024
# A frame is 16 MiB at most, and two bytes of UTF-8 can become six of escaped JSON.
MAX_BYTES = 15 * 1024 * 1024
JSON_GROWTH = 3


class CommMessage(NamedTuple):
    """A front end's comm message, checked."""

    action: str  # open, msg or close
    comm_id: str
    target_name: str
    data: Json
    metadata: Json
    buffers: list[bytes]


def read(message: Message) -> CommMessage | None:
    """The comm message in `message`, or None when it is none or too large for a guest."""
    content = message.content
    comm_id, target = content.get("comm_id"), content.get("target_name", "")
    data = content.get("data")
    if not isinstance(comm_id, str) or not 0 < len(comm_id) <= MAX_NAME_CHARACTERS:
        return None
    if not isinstance(target, str) or len(target) > MAX_NAME_CHARACTERS:
        return None
    if message.json_bytes * JSON_GROWTH + sum(map(len, message.buffers)) > MAX_BYTES:
        return None
    return CommMessage(
        message.msg_type.removeprefix("comm_"),
        comm_id,
        target,
        data if isinstance(data, dict) else {},
        message.metadata,
        message.buffers,
    )


class Comms:
    """Comm ids and their targets."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}

    def note(self, event: events.CommSent | CommMessage) -> None:
        """A comm message passed, from either side."""
        if event.action == "open":
            self._targets[event.comm_id] = event.target_name
            if len(self._targets) > MAX_COMMS:
                del self._targets[next(iter(self._targets))]
        elif event.action == "close":
            self._targets.pop(event.comm_id, None)

    def clear(self) -> None:
        """The runner is a fresh one: it has no comms."""
        self._targets.clear()

    def info(self, target_name: object = None) -> Json:
        """The `comms` of a comm_info_reply; all of them unless a target is named."""
        return {
            comm_id: {"target_name": target}
            for comm_id, target in self._targets.items()
            if target_name in (None, "", target)
        }
