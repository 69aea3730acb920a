"""From an interpreter's events to frames.

Rule 1: events leave in the order in which they came; only neighbouring text is joined.
Rule 2: text that is printed belongs to the cell that it names, if that one was given to
this interpreter, else to the newest.
"""

from binascii import b2a_base64
from json import loads
from typing import Any, Dict, List, Optional, Tuple

from ...framing import Kind
from ..python.channel import Channel, FrameTooLarge
from .talk import Message

Json = Dict[str, Any]

# One frame of text; more is several.
_MAX_TEXT_BYTES = 1024 * 1024
_MAX_TRACE_LINES = 500
_MAX_FORMS = 32
# An error's words: half of what fits into a frame when each letter becomes two escapes and
# the message is told again as a line of the trace.
_MAX_ERROR_LETTERS = 500_000
_TEXT_TYPES = ("text/", "image/svg", "application/javascript", "application/xml")
_STREAMS = {"out": Kind.STDOUT, "err": Kind.STDERR}
_SHOWS = {"display": Kind.DISPLAY, "update": Kind.UPDATE_DISPLAY, "result": Kind.RESULT}


class Outputs:
    """Holds what is half said: text not yet sent, an output or an error being told."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.cell = 0
        self._text: List[bytes] = []
        self._text_bytes = 0
        self._text_of: Optional[Tuple[int, int]] = None  # kind and cell
        self._forms: Json = {}
        self._metadata: Json = {}
        self._error: Dict[str, Any] = {}
        self._error_room = _MAX_ERROR_LETTERS

    def hear(self, message: Message) -> bool:
        """Take one event; False if it is none of an output's."""
        kind = message.kind
        if kind in _STREAMS:
            self._hear_text(_STREAMS[kind], message)
        elif kind == "data":
            self._hear_form(message)
        elif kind == "meta":
            value = _parse(message.payload)
            self._metadata = value if isinstance(value, dict) else {}
        elif kind in _SHOWS:
            self._show(_SHOWS[kind], message.argument)
        elif kind == "clear":
            self._send(Kind.CLEAR_OUTPUT, {"wait": message.argument == "1"})
        elif kind in ("ename", "evalue", "trace"):
            self._hear_error(kind, message.payload.decode("utf-8", "replace"))
        else:
            return False
        return True

    def flush(self) -> None:
        """Send the text that was held back to be joined with more."""
        if self._text_of is None:
            return
        (kind, cell), data = self._text_of, b"".join(self._text)
        self._text, self._text_bytes, self._text_of = [], 0, None
        if data:
            self._channel.send(kind, cell, None, data)

    def say(self, text: str) -> None:
        """A line of our own on standard error."""
        self.flush()
        self._channel.send(Kind.STDERR, self.cell, None, ("[sandbox] %s\n" % text).encode())

    def take_forms(self) -> Tuple[Json, Json]:
        """Data and metadata that were told and not shown."""
        found = self._forms, self._metadata
        self._forms, self._metadata = {}, {}
        return found

    def take_error(self) -> Json:
        """The error that was told, as the content of an ERROR frame."""
        told, self._error = self._error, {}
        self._error_room = _MAX_ERROR_LETTERS
        ename = told.get("ename") or "Error"
        evalue = told.get("evalue", "")
        line = "\x1b[31m%s\x1b[0m: %s" % (ename, evalue) if evalue else "\x1b[31m%s\x1b[0m" % ename
        return {"ename": ename, "evalue": evalue, "traceback": told.get("trace") or [line]}

    def _hear_text(self, kind: int, message: Message) -> None:
        argument = message.argument
        named = int(argument) if argument.isdecimal() and len(argument) < 10 else self.cell
        of = (kind, named if 0 < named <= self.cell else self.cell)
        if of != self._text_of or self._text_bytes > _MAX_TEXT_BYTES:
            self.flush()
            self._text_of = of
        self._text.append(message.payload)
        self._text_bytes += len(message.payload)

    def _hear_form(self, message: Message) -> None:
        mime = message.argument
        if message.omitted:
            text = "An output of type %s was left out: it has %d bytes, and %d are shown at most."
            self.say(text % (mime, message.omitted, 16 * 1024 * 1024))
            return
        if len(self._forms) < _MAX_FORMS:
            self._forms[mime] = _value(mime, message.payload)

    def _hear_error(self, kind: str, text: str) -> None:
        text = text[: self._error_room]
        self._error_room -= len(text)
        if kind != "trace":
            self._error[kind] = text
            return
        lines = self._error.setdefault("trace", [])
        if len(lines) < _MAX_TRACE_LINES:
            lines.append(text)

    def _show(self, kind: int, name: str) -> None:
        data, metadata = self.take_forms()
        if not data:
            return
        content: Json = {"data": data, "metadata": metadata}
        if kind != Kind.RESULT:
            content["transient"] = {"display_id": name} if name != "-" else {}
        self._send(kind, content)

    def _send(self, kind: int, content: Json) -> None:
        self.flush()
        try:
            self._channel.send(kind, self.cell, content)
        except FrameTooLarge as error:
            self.say("An output was left out: it needs %d bytes." % error.size)


def _value(mime: str, payload: bytes) -> Any:
    """A form as Jupyter has it: text, parsed JSON, or base64."""
    if mime == "application/json" or mime.endswith("+json"):
        return _parse(payload)
    if mime.startswith(_TEXT_TYPES) or mime.endswith("+xml"):
        return payload.decode("utf-8", "replace")
    return b2a_base64(payload, newline=False).decode("ascii")


def _parse(payload: bytes) -> Any:
    try:
        return loads(payload.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
