"""A value of a result as the text in one cell of a table. Pure."""

import re
from html import escape
from typing import Any
from unicodedata import combining, east_asian_width

# What would break a line, move the cursor or hide text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BLOB_BYTES = 500


def plain(value: Any) -> str:
    """As the database's own shell would print it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value[:_BLOB_BYTES])
        return "".join(chr(b) if 32 <= b < 127 and b != 92 else "\\x%02X" % b for b in content)
    return str(value)


def in_text(value: Any, limit: int) -> str:
    """On one line, at most `limit` columns wide."""
    return _cut(_CONTROL.sub(_escaped, plain(value)[: limit * 4]), limit)


def in_html(value: Any, limit: int) -> str:
    """Escaped; NULL looks unlike the text "NULL"."""
    if value is None:
        return "<i>NULL</i>"
    return escape(in_text(value, limit))


def width(text: str) -> int:
    """How many columns of a terminal it fills."""
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _cut(text: str, limit: int) -> str:
    if width(text) <= limit:
        return text
    kept, used = [], 1  # for the ellipsis
    for character in text:
        used += _width_of(character)
        if used > limit:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _escaped(match: "re.Match[str]") -> str:
    character = match.group()
    return _SHORT.get(character) or (
        "\\x%02x" % ord(character) if ord(character) < 256 else "\\u%04x" % ord(character)
    )
