"""The messages of a conversation, in the API's form. Pure.

Rule: every assistant message with calls is followed by one answer for each of them: an
endpoint refuses a history where that is not so.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_kernel.models.fences import CALL_ID
from sandbox_kernel.models.replies import Json, ToolCall

# Some 60,000 tokens: half of what today's smaller models take. Beyond it the oldest outputs
# go, which the model can have again by running code; what was said stays.
MAX_CHARS = 240_000
# Of what a person did between two prompts: a few outputs of the longest.
MAX_NOTES_CHARS = 60_000
_LEFT_OUT = "[left out, as the conversation is long]"
_RAN = "The code ran. "
_INTERRUPTED = "This was interrupted before it had a result."


def assistant(text: str, calls: Sequence[ToolCall]) -> Json:
    message: Json = {"role": "assistant", "content": text or None}
    if not calls:
        message["content"] = text
        return message
    message["tool_calls"] = [
        {
            "id": call.id,
            "type": "function",
            # Endpoints parse it again, and refuse a history where that fails.
            "function": {"name": call.name, "arguments": _sendable(call)},
        }
        for call in calls
    ]
    return message


def _sendable(call: ToolCall) -> str:
    return call.text if call.arguments is not None and call.text else "{}"


def outcome(call: ToolCall, text: str) -> Json:
    """The answer to a call; to one that was a code block, a message of the user's."""
    if call.id == CALL_ID:
        return {"role": "user", "content": f"{_RAN}{text}"}
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def with_hint(messages: Sequence[Json], hint: str) -> list[Json]:
    """The messages with `hint` in the system's, and no two of the user's in a row.

    Chat templates of models without tools mostly take neither.
    """
    system = [m["content"] for m in messages[:1] if m["role"] == "system"]
    found: list[Json] = [{"role": "system", "content": "\n\n".join([*system, hint])}]
    for message in messages[len(system) :]:
        if message["role"] == found[-1]["role"] == "user":
            joined = f"{found[-1]['content']}\n\n{message['content']}"
            found[-1] = {"role": "user", "content": joined}
        else:
            found.append(message)
    return found


def settle(messages: list[Json]) -> None:
    """Answer the calls that have no answer: the turn ended before them."""
    answered: set[str] = set()
    for message in reversed(messages):
        if message["role"] == "tool":
            answered.add(message["tool_call_id"])
        elif message["role"] == "assistant":
            for call in message.get("tool_calls", ()):
                if call["id"] not in answered:
                    messages.append(
                        {"role": "tool", "tool_call_id": call["id"], "content": _INTERRUPTED}
                    )
            return
        else:
            return


def bounded(text: str, limit: int) -> str:
    """`text`, or its head and tail: an error's reason is mostly at the end."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    left_out = len(text) - limit
    return f"{text[:head]}\n[… {left_out} characters left out …]\n{text[-tail:]}"


def shorten(messages: list[Json], limit: int = MAX_CHARS) -> None:
    """Empty the oldest outputs until the rest is within `limit`; never the newest four."""
    excess = sum(_length(message) for message in messages) - limit
    for message in messages[:-4]:
        if excess <= 0:
            return
        content = message.get("content") or ""
        is_output = message["role"] == "tool" or content.startswith(_RAN)
        if is_output and len(content) > len(_RAN + _LEFT_OUT):
            message["content"] = _LEFT_OUT if message["role"] == "tool" else _RAN + _LEFT_OUT
            excess -= len(content) - len(message["content"])


def newest(notes: list[str], limit: int = MAX_NOTES_CHARS) -> list[str]:
    """The last of the notes, and that there were others."""
    kept: list[str] = []
    room = limit
    for note in reversed(notes):
        room -= len(note)
        if kept and room < 0:
            return [_EARLIER, *reversed(kept)]
        kept.append(note)
    return notes


_EARLIER = "[what was done before that is left out]"


def _length(message: Json) -> int:
    calls = message.get("tool_calls", ())
    arguments = sum(len(call["function"]["arguments"]) for call in calls)
    return len(message.get("content") or "") + arguments
