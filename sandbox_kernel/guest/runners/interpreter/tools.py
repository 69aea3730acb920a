"""Calls of the host's functions: from the interpreter's events to frames, and the answers back.

Rule: nothing here waits. The interpreter may be busy, or say more than it reads.
"""

import json

from ...framing import Frame, Kind
from ..python.channel import Channel, FrameTooLarge, Request, read_json
from .child import Child
from .outputs import Json
from .talk import Message, encode

_MAX_NAME_LETTERS = 64


class Calls:
    """Passes calls on. `is_taking`: the interpreter says that it can make any."""

    def __init__(self, channel: Channel, child: Child) -> None:
        self._channel, self._child = channel, child
        self.is_taking = False

    def offer(self, request: Request, _meta: Json) -> Json:
        """Tell the interpreter which functions there are."""
        if self.is_taking:
            self._child.post(encode("tools", "-", request.frame.meta))
        return {"status": "ok"}

    def pass_on(self, message: Message, cell: int) -> None:
        """The interpreter calls one."""
        number, _, name = message.argument.partition(",")
        if not number.isdecimal() or len(number) > 15:
            return
        meta = {"call": int(number), "name": name[:_MAX_NAME_LETTERS]}
        size = message.omitted
        if not size:
            try:
                self._channel.send(Kind.TOOL_CALL, cell, meta, message.payload)
                return
            except FrameTooLarge as error:
                size = error.size
        told = json.dumps({"message": "The arguments have %d bytes: too many." % size})
        self._child.post(encode("reply", number + ",error", told.encode()))

    def answer(self, frame: Frame) -> None:
        """The host has answered."""
        meta = read_json(frame)
        how = "ok" if meta.get("ok") else "cancelled" if meta.get("cancelled") else "error"
        self._child.post(encode("reply", "%s,%s" % (meta.get("call"), how), frame.data))
