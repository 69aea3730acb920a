"""What installers print, less what means nothing to a reader. Pure.

Inside, the relay is at an address of its own, which is nowhere outside. Lines that only list
such addresses or files in there are left out; elsewhere the address of the index stands.
"""

from __future__ import annotations

import re

_NOISE = (
    # pip: its indexes and directories; where it would put things, did we not say where.
    "Looking in ",
    "Defaulting to user installation",
    # npm: a file that is gone when somebody could read it.
    "npm error A complete log of this run",
    # apt, several times a run.
    "Reading package lists",
    "Reading state information",
    "Building dependency tree",
)
# pip, of what our own list of hashes names.
_LISTED = re.compile(r" \(from -r /[^\s()]{1,200} \(line \d{1,5}\)\)")
_LINES = re.compile(r"(?<=\n)")


class Sayings:
    """One installer's output, piece by piece, however it is cut. Holds back a few letters.

    Args:
        port: of the relay, inside.
    """

    def __init__(self, port: int) -> None:
        self._relayed = f"http://127.0.0.1:{port}/h/"  # what it stands for follows
        self._held = ""
        self._is_within = False  # a line
        self._is_noise = False  # that line

    def feed(self, text: str, *, is_last: bool = False) -> str:
        """What a reader may see of it now."""
        text, self._held = self._held + text, ""
        shown = "".join(self._shown(line, is_last) for line in _LINES.split(text))
        return _LISTED.sub("", shown.replace(self._relayed, ""))

    def _shown(self, line: str, is_last: bool) -> str:
        if not self._is_within:
            if not is_last and any(noise.startswith(line) for noise in _NOISE):
                self._held = line
                return ""
            self._is_noise = line.startswith(_NOISE)
        self._is_within = not line.endswith("\n")
        return "" if self._is_noise else line
