"""A model's words on their way to the screen.

On a terminal they are Markdown: each paragraph, list or block of code is laid out when it is
whole, and what comes after it stands below as it grows. Elsewhere they are the text they are.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.spinner import Spinner
from rich.text import Text

from sandbox_kernel.outputs import OutputPolicy, StreamCleaner
from sandbox_kernel.outputs.plain import without_colours

# The parser takes quadratic time for the worst text.
_MAX_PARSED = 20_000
_MAX_TAIL = 20_000
_INTERVAL_S = 0.1
# Laying out takes no more than a sixth of the time, however long the rest is.
_PAUSE = 5
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
# Joiners, without which some scripts and pictures fall apart.
_KEPT = "\n\t\u200c\u200d"


class Speech:
    """One reply after another."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._is_waiting = False
        self._begin()

    def _begin(self) -> None:
        self._all: list[str] = []
        self._cleaner = StreamCleaner(OutputPolicy("safe"))
        self._rest = ""  # what is not laid out yet
        self._has_shown = False
        self._next_s = 0.0

    def wait(self, who: str) -> None:
        if self._console.is_terminal and self._live is None:
            spinner = Spinner("dots", Text(f" {who}", style="dim"), style="dim")
            self._start(lambda: spinner)
            self._is_waiting = True

    def add(self, text: str) -> None:
        self._all.append(text)
        self._take(self._cleaner.feed(text.encode("utf-8", "replace")))

    def end(self) -> str:
        self._take(self._cleaner.feed(b"", final=True))
        self._stop()
        if self._console.is_terminal:
            self._lay_out(self._rest)
        elif self._has_shown:
            self._console.file.write("\n")
            self._console.file.flush()
        text = "".join(self._all)
        self._begin()
        return text

    def _take(self, text: str) -> None:
        text = "".join(map(_plain, without_colours(text)))
        if not text:
            return
        if not self._console.is_terminal:
            self._has_shown = True
            self._console.file.write(text)
            self._console.file.flush()
            return
        self._rest += text
        if self._live is None or self._is_waiting:
            self._stop()
            self._start(self._tail)
        now_s = time.monotonic()
        if now_s >= self._next_s:
            whole, self._rest = split(self._rest)
            self._lay_out(whole)
            took_s = time.monotonic() - now_s
            self._next_s = now_s + max(_INTERVAL_S, _PAUSE * took_s)

    def _tail(self) -> Text:
        """What is not laid out yet, as far as the screen reaches."""
        lines = self._rest[-_MAX_TAIL:].split("\n")
        return Text("\n".join(lines[-max(self._console.height - 2, 1) :]))

    def _lay_out(self, text: str) -> None:
        text = text.strip("\n")
        if not text.strip():
            return
        # No hyperlinks: an address that cannot be seen leads elsewhere than the words say.
        if len(text) > _MAX_PARSED:
            self._console.print(Text(text), soft_wrap=True)
            return
        markdown = Markdown(text, hyperlinks=False, code_theme="ansi_dark")
        lines = self._console.render_lines(markdown, pad=False)
        # Lists and tables come with blank lines of their own; one after each part is enough.
        while lines and _is_blank(lines[0]):
            lines.pop(0)
        while lines and _is_blank(lines[-1]):
            lines.pop()
        parts = [part for line in lines for part in (*line, Segment.line())]
        self._console.print(Segments([*parts, Segment.line()]), end="")

    def _start(self, shown: Callable[[], Text | Spinner]) -> None:
        self._is_waiting = False
        self._live = Live(
            get_renderable=shown,
            console=self._console,
            transient=True,
            refresh_per_second=12,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def split(text: str) -> tuple[str, str]:
    """What of `text` is whole, up to the last blank line that is in no fence; and the rest."""
    fence = ""
    position = end = 0
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        position += len(line)
        if not fence and not line.strip() and line.endswith("\n"):
            end = position
    return text[:end], text[end:]


def _is_blank(line: list[Segment]) -> bool:
    has_ground = any(part.style is not None and part.style.bgcolor for part in line)
    return not has_ground and not "".join(part.text for part in line).strip()


def _plain(character: str) -> str:
    """What can be seen; spaces of all kinds are spaces."""
    if character.isprintable() or character in _KEPT:
        return character
    return " " if unicodedata.category(character) == "Zs" else ""
