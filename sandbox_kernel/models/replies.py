"""A model's answer, put together from what an endpoint sends. Pure.

`Gathered.take` accepts the pieces of a stream and answers in one piece alike.

Rule: any of `MALFORMED` means that what was given is no chat completion.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

Json = dict[str, Any]

MALFORMED = (AttributeError, TypeError, ValueError, LookupError, RecursionError)
# The longest answers of today's models are some 128,000 tokens, 500 kB; an endpoint that
# sends more is broken, and the host's memory is not its to fill.
MAX_CHARS = 2_000_000
# Models ask for a handful at once.
MAX_CALLS = 64


class ToolCall(NamedTuple):
    """What a model wants done."""

    id: str
    name: str
    text: str  # the arguments as the model wrote them
    arguments: Json | None  # None when `text` is no JSON object
    problem: str = ""  # then why not

    @classmethod
    def parse(cls, id: str, name: str, text: str) -> ToolCall:
        try:
            # Models leave the arguments of tools without any empty.
            arguments = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            return cls(id, name, text, None, f"The arguments are not JSON: {error}.")
        if not isinstance(arguments, dict):
            return cls(id, name, text, None, "The arguments are not a JSON object.")
        if not _is_whole(arguments):
            return cls(id, name, text, None, "The arguments hold halves of characters.")
        return cls(id, name, text, arguments)


def whole(text: str) -> str:
    """`text` with surrogates joined, and those alone replaced: they cannot be sent."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_whole(arguments: Json) -> bool:
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class Reply(NamedTuple):
    """One answer of a model."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"  # as the endpoint said: stop, tool_calls, length, content_filter…
    tokens: int | None = None  # all of this request and answer, where the endpoint counts


class Gathered:
    """An answer on its way."""

    def __init__(self) -> None:
        self.finish = ""
        self._texts: list[str] = []
        self._calls: dict[int, _Pieces] = {}
        self._tokens: int | None = None
        self._chars = 0

    @property
    def is_empty(self) -> bool:
        return not (self.finish or self._texts or self._calls)

    def take(self, piece: Any) -> str:
        """Add a `ChatCompletionChunk` or a `ChatCompletion`; give its text.

        Raises:
            one of `MALFORMED`.
        """
        usage = getattr(piece, "usage", None)
        if isinstance(total := getattr(usage, "total_tokens", None), int):
            self._tokens = total
        if not isinstance(piece.choices, list):
            raise TypeError("it has no choices")
        if not piece.choices:
            return ""  # what carries only the usage
        choice = piece.choices[0]
        delta = choice.delta if hasattr(choice, "delta") else choice.message
        if delta is None and not hasattr(choice, "delta"):
            raise TypeError("it has no message")
        text = self._text(delta)
        for position, call in enumerate(getattr(delta, "tool_calls", None) or ()):
            self._call(position, call)
        # Nothing may follow it but the usage, yet some endpoints repeat an empty one.
        self.finish = str(choice.finish_reason or self.finish)
        return text

    def _text(self, delta: Any) -> str:
        # A refusal is what such a model says in place of an answer.
        text = getattr(delta, "content", None) or getattr(delta, "refusal", None) or ""
        if not isinstance(text, str):
            raise TypeError("its content is not a text")
        if text:
            self._count(text)
            self._texts.append(text)
        return whole(text)

    def _call(self, position: int, call: Any) -> None:
        index = getattr(call, "index", None)
        pieces = self._calls.setdefault(position if index is None else int(index), _Pieces())
        if len(self._calls) > MAX_CALLS:
            raise ValueError(f"it calls more than {MAX_CALLS} tools at once")
        function = call.function
        pieces.id = str(call.id or pieces.id)
        pieces.name = str(function.name or pieces.name)
        if function.arguments:
            self._count(function.arguments)
            pieces.arguments.append(function.arguments)

    def _count(self, text: str) -> None:
        self._chars += len(text)
        if self._chars > MAX_CHARS:
            raise ValueError(f"it is longer than {MAX_CHARS} characters")

    def reply(self) -> Reply:
        calls = [self._calls[index].call(index, self.finish) for index in sorted(self._calls)]
        return Reply(whole("".join(self._texts)), tuple(calls), self.finish or "stop", self._tokens)


class _Pieces:
    """A tool call on its way."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def call(self, index: int, finish: str) -> ToolCall:
        # Some local servers give calls no id, and an answer must name one.
        made = ToolCall.parse(self.id or f"call_{index}", self.name, whole("".join(self.arguments)))
        if made.arguments is None and finish == "length":
            return made._replace(problem="The arguments were cut off at the longest answer.")
        return made
