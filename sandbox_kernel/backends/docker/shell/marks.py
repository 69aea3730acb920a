"""What `supervisor.sh` says between what cells print: marks, each with a token of the host's.

    \\x1e TOKEN word [number] \\x1e

Rule 1: a mark whose token nobody waits for is output like any other.
Rule 2: what is held back is shorter than one mark, whatever comes.
Pure; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

# The end is looked at and not taken: it may be the beginning of a mark behind a forged one.
_MARK = re.compile(rb"\x1e([0-9a-f]{32}) ([a-z]{1,10})(?: ([0-9]{1,9}))?(?=\x1e)")
# The two ends, the token, two spaces, the longest word and the longest number.
_MAX_MARK_BYTES = 2 + 32 + 2 + 10 + 9


class Mark(NamedTuple):
    token: str
    word: str
    number: int  # 0 when there is none


class Scanner:
    """Tells marks and output of one stream apart."""

    def __init__(self, is_awaited: Callable[[str], bool]) -> None:
        self._is_awaited = is_awaited
        self._held = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | Mark]:
        """Output and marks in their order. What is awaited may change between two of them."""
        text = self._held + chunk
        self._held = b""
        start = 0
        for found in _MARK.finditer(text):
            token = found[1].decode("ascii")
            if found.start() < start or not self._is_awaited(token):
                continue
            if found.start() > start:
                yield text[start : found.start()]
            start = found.end() + 1
            yield Mark(token, found[2].decode("ascii"), int(found[3] or 0))
        stop = self._stop(text, start)
        self._held = text[stop:]
        if stop > start:
            yield text[start:stop]

    def _stop(self, text: bytes, start: int) -> int:
        """Where a mark may begin that is not all there yet, else the end."""
        last = text.rfind(b"\x1e", max(start, len(text) - _MAX_MARK_BYTES))
        return last if last >= 0 else len(text)
