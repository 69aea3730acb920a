"""Comms: what ipywidgets and the like exchange with the browser, carried by frames.

The `comm` package has two functions that a kernel replaces; they are replaced right after
user code imports it. The browser's messages come with a request number of their own, so
that what callbacks print belongs to that.
"""

import sys
from typing import Any, Dict, List, Optional

from ...framing import Kind
from .base_shell import Json, Output

_KINDS = {"comm_open": "open", "comm_msg": "msg", "comm_close": "close"}


class Comms:
    """Sends for the `comm` package, and gives it what comes in."""

    def __init__(self, output: Output) -> None:
        self.request_id = ""
        self._output = output

    def patch(self) -> None:
        """Make `comm.create_comm` give comms that send frames."""
        import comm
        from comm.base_comm import BaseComm

        send = self._send

        class SandboxComm(BaseComm):  # type: ignore[misc]
            """A comm whose other end is in the browser."""

            def publish_msg(
                self,
                msg_type: str,
                data: Optional[Json] = None,
                metadata: Optional[Json] = None,
                buffers: Optional[List[Any]] = None,
                **keys: Any,
            ) -> None:
                """Called by the base class for whatever is to be sent."""
                target = str(keys.get("target_name") or self.target_name)
                send(msg_type, self.comm_id, target, data or {}, metadata or {}, buffers or [])

        comm.create_comm = SandboxComm

    def _send(
        self,
        message_type: str,
        comm_id: str,
        target_name: str,
        data: Json,
        metadata: Json,
        buffers: List[Any],
    ) -> None:
        pieces = [bytes(buffer) for buffer in buffers]
        meta = {
            "action": _KINDS[message_type],
            "comm_id": comm_id,
            "target_name": target_name,
            "data": data,
            "metadata": metadata,
            "buffers": [len(piece) for piece in pieces],
        }
        self._output.send(Kind.COMM_OUT, meta, b"".join(pieces))

    def handle(self, meta: Json, content: bytes) -> Json:
        """Give one message of the browser's to whoever registered for it; returns the reply."""
        action = meta.get("action")
        if "comm" not in sys.modules and not self._can_import(action):
            if action == "open":
                self._send("comm_close", str(meta.get("comm_id")), "", {}, {}, [])
            return {"status": "ok"}
        manager = sys.modules["comm"].get_comm_manager()
        handler = getattr(manager, "comm_%s" % action, None)
        if handler is not None:
            handler(None, None, self._message(meta, content))
        return {"status": "ok"}

    def _can_import(self, action: Any) -> bool:
        """Only an open is news to a runner that has no comms."""
        if action != "open":
            return False
        try:
            import comm  # noqa: F401
        except ImportError:
            return False
        return True

    def _message(self, meta: Json, content: bytes) -> Dict[str, Any]:
        """The message as Jupyter has it, which is what callbacks expect."""
        buffers, start = [], 0
        for length in meta.get("buffers") or []:
            buffers.append(memoryview(content)[start : start + length])
            start += length
        inner = {key: meta.get(key) for key in ("comm_id", "target_name", "data")}
        return {
            "header": {"msg_id": self.request_id, "msg_type": "comm_%s" % meta.get("action")},
            "parent_header": {},
            "metadata": meta.get("metadata") or {},
            "content": inner,
            "buffers": buffers,
        }
