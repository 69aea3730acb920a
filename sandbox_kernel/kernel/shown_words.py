"""What a model says and writes, as displays of a `%%ask` cell.

Rule 1: by the output policy's safe rules, whatever the kernel's own policy is: its owner may
        have trusted the code of cells, but never a model's markup.
Rule 2: one display a reply, replaced as it grows, and no more often than is cheap.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable

from sandbox_kernel import events
from sandbox_kernel.models import fences
from sandbox_kernel.outputs import OutputPolicy
from sandbox_kernel.outputs.plain import seen, spelled_out

Hear = Callable[[events.Event], None]

UPDATE_INTERVAL_S = 0.2
# What one looks at takes no more than a sixth of the time, however long it is.
_PAUSE = 5
# A long answer of today's models is 20,000 characters; the rest would be laid out for nobody.
MAX_SHOWN_CHARACTERS = 200_000
_SAFE = OutputPolicy("safe")


class Words:
    """The words of one reply after another, each in one display that is replaced."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._begin()

    def _begin(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self._display_id = ""
        self._next_s = 0.0
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        if self._length < MAX_SHOWN_CHARACTERS:
            self._texts.append(text)
            self._is_due = True
        self._length += len(text)
        wait_s = self._next_s - time.monotonic()
        if wait_s <= 0:
            self._show()
        elif self._timer is None:  # a model may be silent for long in the middle of a word
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._show)

    def finish(self) -> str:
        """The reply is over: show the rest of it. Gives all of it."""
        self._show()
        text = "".join(self._texts)
        self._begin()
        return text

    def _show(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_due:
            self._is_due = False
            began_s = time.monotonic()
            self._broadcast()
            took_s = time.monotonic() - began_s
            self._next_s = began_s + max(UPDATE_INTERVAL_S, _PAUSE * took_s)

    def _broadcast(self) -> None:
        text = seen("".join(self._texts)[:MAX_SHOWN_CHARACTERS])
        if self._length > MAX_SHOWN_CHARACTERS:
            text += "\n\n[The rest of the answer is not shown.]"
        if not text.strip():
            return
        bundle, metadata = _SAFE.admit_bundle({"text/plain": text, "text/markdown": text}, {})
        kind = events.DisplayUpdated if self._display_id else events.DisplayShown
        self._display_id = self._display_id or f"sandbox-ask-{os.urandom(8).hex()}"
        self._hear(kind(0, bundle, metadata, {"display_id": self._display_id}))


def show_code(code: str, language: str, hear: Hear, *, unless_in: str = "") -> None:
    """Show the code that is about to run, unless the reply `unless_in` has shown it already."""
    if any(block.code.strip() == code.strip() for block in fences.blocks(unless_in)):
        return
    text = spelled_out(code)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    markdown = f"{fence}{language}\n{text}\n{fence}"
    bundle, metadata = _SAFE.admit_bundle({"text/plain": text, "text/markdown": markdown}, {})
    hear(events.DisplayShown(0, bundle, metadata, {}))
