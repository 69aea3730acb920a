"""Text of streams, prompts, tracebacks and names, freed of terminal tricks. Pure.

A terminal obeys escape sequences: OSC 52 writes the clipboard, OSC 8 hides where a link goes,
titles and cursor moves rewrite what the reader saw. Colours (SGR), `\\r` and `\\b` are what
progress bars and tracebacks need; they stay, all else goes.

Rule 1: the result does not depend on how the bytes were cut into chunks.
Rule 2: an ESC leaves only as the head of a whole SGR sequence, so what is left after a
removal can never join into a new sequence.
Rule 3: at most `_MAX_STRING` characters are held back, so an unterminated sequence
delays output by that much and swallows none of it.

Source: ECMA-48 5.4 (CSI), 5.6 (control strings); xterm's ctlseqs for BEL as terminator.
"""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import TYPE_CHECKING

from sandbox_kernel.outputs.values import replace_surrogates

if TYPE_CHECKING:
    from sandbox_kernel.outputs.policy import OutputPolicy

# xterm itself stops a title at a few hundred; OSC 52 and OSC 8 fit in here as far as anyone uses
# them. What is longer loses its introducer and appears as the text it is.
_MAX_STRING = 4096
# `38;2;r;g;b;48;2;r;g;b` and attributes are 40 characters.
_MAX_PARAMETERS = 64

_C0 = r"\x00-\x07\x0b\x0c\x0e-\x1f\x7f"  # but \b \t \n \r; DEL belongs with them
# Of those, what neither begins nor ends a sequence. Removed as bytes, before anything is decoded:
# terminals skip them within a sequence, too.
_IDLE_BYTES = bytes([*range(0x07), 0x0B, 0x0C, *range(0x0E, 0x18), 0x19, *range(0x1C, 0x20), 0x7F])
_MARKS = (b"\x1b", b"\x07", b"\x18", b"\x1a")

_STRING_START = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
_STRING_BODY = rf"[^\x07\x18\x1a\x1b\x80-\x9f]{{0,{_MAX_STRING}}}"
_CONTROL_BODY = rf"[0-?]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,8}}"

_FORBIDDEN = rf"[{_C0}\x80-\x9f]"
# Begins with one class of characters, so that the search skips plain text at full speed; the
# look-behinds then ask which it was.
_ONE_SEQUENCE = (
    rf"[{_C0}\x80-\x9f]"
    rf"(?:(?<!\x1b)|(?!\[[0-9;:]{{0,{_MAX_PARAMETERS}}}m))"  # not SGR: the one that stays
    r"(?:"
    rf"(?:(?<=\x1b)\[|(?<=\x9b)){_CONTROL_BODY}[@-~]"
    # BEL, ST, CAN and SUB end a string; another escape or C1 control breaks it off.
    rf"|(?:(?<=\x1b)[\]PX^_]|(?<=[\x90\x98\x9d-\x9f])){_STRING_BODY}"
    r"(?:[\x07\x9c\x18\x1a]|\x1b\\|(?=[\x1b\x80-\x9f]))"
    r"|(?<=\x1b)[ -/]{1,8}[0-~]"
    r"|(?<=\x1b)[0-~]"  # two-character escapes, and introducers of what does not end
    r")?"
)
# A flood is one match. Possessive, as nothing follows that would need a part back.
_SEQUENCE = f"{_ONE_SEQUENCE}(?:{_ONE_SEQUENCE})*+"
# What may still become a sequence when more arrives. The first group is not a string.
_UNDECIDED = (
    rf"(?:(\x1b[ -/]{{0,8}}|(?:\x1b\[|\x9b){_CONTROL_BODY})|{_STRING_START}{_STRING_BODY}\x1b?)\Z"
)
_LONGEST_UNDECIDED = _MAX_STRING + 8


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """When first needed: these take longer to compile than the kernel has for all imports."""
    return re.compile(pattern)


def clean_text(text: str) -> str:
    """A complete text: a prompt, an error's value, `text/plain`."""
    if _compiled(_FORBIDDEN).search(text) is not None:
        text = _remove_sequences(text)
    return replace_surrogates(text)


def _remove_sequences(text: str) -> str:
    found = _compiled(_UNDECIDED).search(text, max(0, len(text) - _LONGEST_UNDECIDED))
    if found is not None and found[1] is not None:
        text = text[: found.start() + 1]
    return _compiled(_SEQUENCE).sub("", text)


class StreamCleaner:
    """Bytes of one stream -> text that may be shown. One object a stream and cell.

    With a trusted policy it only decodes.
    """

    def __init__(self, policy: OutputPolicy) -> None:
        self._is_trusted = policy.is_trusted
        # Not UTF-8 is shown as U+FFFD; a character cut in two waits for its other half.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_character_open = False
        self._held = ""

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text that `data` completes; `final` gives out what was held back as well."""
        if not self._is_trusted:
            data = data.translate(None, _IDLE_BYTES)
        if not self._is_character_open and not self._held and _is_plain(data):
            return data.decode("ascii")
        text = self._decoder.decode(data, final)
        self._is_character_open = bool(self._decoder.getstate()[0])
        return text if self._is_trusted else self._clean(text, final)

    def _clean(self, text: str, final: bool) -> str:
        if self._held:
            text = self._held + text
            self._held = ""
        if _compiled(_FORBIDDEN).search(text) is None:
            return text
        if final:
            return _remove_sequences(text)
        found = _compiled(_UNDECIDED).search(text, max(0, len(text) - _LONGEST_UNDECIDED))
        if found is not None:
            self._held = text[found.start() :]
            # With its first character, which breaks off a string before it, and then goes.
            text = text[: found.start() + 1]
        return _compiled(_SEQUENCE).sub("", text)


def _is_plain(data: bytes) -> bool:
    """Whether `data` is ASCII in which nothing begins or ends. Four memchr at most."""
    return data.isascii() and not any(mark in data for mark in _MARKS)


def clean_name(name: str, limit: int = 120) -> str:
    """A guest's file name for a reader: on one line, nothing invisible, at most `limit` long.

    What would move or hide text (newlines, escapes, right-to-left marks, bytes that are no
    UTF-8) is shown as an escape such as `\\u202e`. The middle goes first: a name's ending
    is what tricks hide.
    """
    # Twelve characters become one at the least, so a longer name is not looked at.
    shown = "".join(map(_show_character, _cut_middle(name, 12 * limit)))
    return _cut_middle(shown, limit)


def _show_character(character: str) -> str:
    # The braille blank counts as printable, but looks like a space.
    if character.isprintable() and character != "\u2800":
        return character
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
