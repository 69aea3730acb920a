"""Text for who has no terminal, or must not be fooled by one: models, and readers of code. Pure.

`streams` keeps colours and redrawn lines. What is left here is what a person would see.
"""

from __future__ import annotations

import re

from sandbox_kernel.outputs.streams import clean_text

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_REDRAWN = re.compile(r"[^\n]*\r(?!\n|\Z)")
# Directions that reorder what a person sees; letters of the Tags block and variation
# selectors, in which whole sentences hide that models can read and people cannot.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)
# Many servers of open models turn these words into the tokens that end a message and begin
# another one, wherever they stand.
_CONTROL_TOKEN = re.compile(
    r"<(?=[|\uff5c][^<>|\uff5c\s]{1,64}[|\uff5c]>|/?(?:start|end)_of_turn>|/s>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """`text` as a person would see it, with nothing in it that only machines obey."""
    text = seen(text)
    return _CONTROL_TOKEN.sub(lambda found: f"{found[0]}\\", text)


def seen(text: str) -> str:
    """`text` as a person would see it, to be shown to one."""
    text = _COLOUR.sub("", clean_text(text)).replace("\b", "")
    if "\r" in text:
        text = _REDRAWN.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _INVISIBLE.sub(_count_invisible, text)


def without_colours(text: str) -> str:
    """Text that passed `streams`, for what shows no colours: a pipe, a message."""
    return _COLOUR.sub("", text)


def spelled_out(code: str) -> str:
    """`code` for who decides whether it may run: what is hidden or reorders is written out."""
    return "".join(map(_spell, code))


def _spell(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _count_invisible(found: re.Match[str]) -> str:
    count = len(found[0])
    # One byte order mark or zero-width space is an accident; a row of them is a message.
    return "" if count == 1 else f"[{count:,} invisible characters]"
