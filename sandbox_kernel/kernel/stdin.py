"""`input()` in a cell: a question to the client that runs the cell, and its answer.

Rule 1: an answer counts only while a question is open, only from the client that was
        asked, and only if it doesn't say that it answers something else.
Rule 2: one question at a time; the cell's end closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sandbox_kernel.kernel.log import log
from sandbox_kernel.kernel.wire import Codec, Message, WireError

# Untrusted code may ask for "Password for root:". Its reader should know who asks.
PASSWORD_MARK = "[sandbox] "  # noqa: S105


class _Question(NamedTuple):
    msg_id: str
    request: Message


class Stdin:
    """The stdin channel.

    Args:
        send: hands parts to the socket, for as long as the question is open.
        answer: gives a text to the waiting cell.
    """

    def __init__(
        self,
        codec: Codec,
        send: Callable[[list[bytes], Callable[[], bool]], None],
        answer: Callable[[str], None],
    ) -> None:
        self._codec = codec
        self._send = send
        self._answer = answer
        self._open: _Question | None = None

    def ask(self, request: Message, prompt: str, *, is_password: bool) -> None:
        """Put the question to the client that sent `request`."""
        question = _Question(self._codec.new_id(), request)
        content = {
            "prompt": PASSWORD_MARK + prompt if is_password else prompt,
            "password": bool(is_password),
        }
        try:
            parts = self._codec.encode_with_id(
                question.msg_id,
                "input_request",
                content,
                parent=request.header,
                identities=request.identities,
            )
        except WireError as error:
            log(f"A question of a cell could not be sent: {error}.")
            return
        self._open = question
        self._send(parts, lambda: self._open is question)

    def close(self) -> None:
        """The cell ended: what arrives now answers nothing."""
        self._open = None

    def hear(self, message: Message) -> None:
        """Take what arrived on the channel."""
        question = self._open
        if message.msg_type != "input_reply" or question is None:
            log(f"A message {message.msg_type!r} on stdin answers no question and was dropped.")
            return
        # jupyter_client's own reply names no parent; JupyterLab's names the question.
        allowed = ("", question.msg_id, question.request.msg_id)
        if message.identities != question.request.identities or message.parent_id not in allowed:
            log("An input_reply of another client or to another question was dropped.")
            return
        value = message.content.get("value")
        self._open = None
        self._answer(value if isinstance(value, str) else "")
