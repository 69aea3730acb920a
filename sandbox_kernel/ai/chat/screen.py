"""What is seen: a model's words as they come, its code in colours, what the code shows.

Rule 1: a model's words and code lose all that a terminal obeys; of what code prints, which
        the output policy has cleaned, colours and redrawn lines stay, and end with the run.
Rule 2: nothing of theirs is read as rich's markup, and no link hides where it leads.
Rule 3: words, output and values go to stdout, all else to stderr; colours to terminals only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from sandbox_kernel.ai.chat.speech import Speech
from sandbox_kernel.models import fences
from sandbox_kernel.outputs.plain import seen, spelled_out, without_colours
from sandbox_kernel.outputs.streams import clean_name

if TYPE_CHECKING:
    from sandbox_kernel.engine import Display, Result

# What somebody decides about is shown whole; of other code nobody reads more.
MAX_CODE_LINES = 300
# A long program; what is longer takes seconds to colour.
MAX_COLOURED = 50_000
_END_OF_COLOURS = "\x1b[0m"


class Screen:
    """One terminal, or the pipes in its place."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self._out, self._err = _console(sys.stdout), _console(sys.stderr)
        self._speech = Speech(self._out)
        self._open: IO[str] | None = None  # where a line of the guest's has no end yet
        self._has_coloured = False
        self._updates: dict[str, Display] = {}

    # --- ours

    def say(self, text: str, *, style: str = "dim") -> None:
        """A line of ours. Names in it are to be cleaned."""
        self.end_line()
        self._err.print(Text(text, style=style), soft_wrap=not self._err.is_terminal)

    def complain(self, error: object) -> None:
        self.say(seen(str(error)), style="red")

    def show(self, text: str) -> None:
        """What a command was asked for."""
        self.end_line()
        self._out.print(Text(seen(text)), soft_wrap=True)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of two or more columns, cleaned by whoever made them."""
        self.end_line()
        if not self._out.is_terminal:
            self._out.file.write(_lined_up(rows))
            return
        shown = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for number in range(max(map(len, rows), default=0)):
            shown.add_column(style="cyan" if number == 0 else "", no_wrap=number == 0)
        for row in rows:
            shown.add_row(*map(Text, row))
        self._out.print(shown)

    # --- the model's

    def wait(self, who: str) -> None:
        """The model is asked: something moves until it speaks."""
        self.end_line()
        self._speech.wait(who)

    def words(self, text: str) -> None:
        """Some of what the model says, cut anywhere."""
        self._speech.add(text)

    def end_words(self) -> str:
        """The reply is over, or broken off. Gives all of it."""
        return self._speech.end()

    def code(self, code: str, language: str, *, whole: bool = False, unless_in: str = "") -> None:
        """Code that is about to run, unless the words `unless_in` have shown it already."""
        self.end_line()
        if any(block.code.strip() == code.strip() for block in fences.blocks(unless_in)):
            self._err.print(Text(f"── running it ({language})", style="dim"))
            return
        text, left_out = spelled_out(code.strip("\n")), 0
        lines = text.split("\n")
        if len(lines) > MAX_CODE_LINES and not whole:
            left_out = len(lines) - MAX_CODE_LINES
            text = "\n".join(lines[:MAX_CODE_LINES])
        lexer = _lexer(language) if len(text) <= MAX_COLOURED else "text"
        parts: list[Any] = [
            Text(f"── {language}", style="dim"),
            Syntax(text, lexer, theme="ansi_dark", word_wrap=True,
                   background_color="default"),
        ]  # fmt: skip
        if left_out:
            parts.append(Text(f"… {left_out:,} more lines", style="dim"))
        parts.append(Text("──", style="dim"))
        self._err.print(Group(*parts))

    # --- the guest's

    def stdout(self, text: str) -> None:
        self._write(self._out, text)

    def stderr(self, text: str) -> None:
        self._write(self._err, text)

    def _write(self, console: Console, text: str) -> None:
        if not text:
            return
        if self._open is not None and self._open is not console.file:
            self.end_line()
        if console.is_terminal and not console.no_color:
            self._has_coloured = self._has_coloured or "\x1b" in text
        else:
            text = without_colours(text)
        console.file.write(text)
        console.file.flush()
        self._open = None if text.endswith("\n") else console.file

    def display(self, display: Display, note: str) -> None:
        """A rich output; `note` names its picture."""
        if display.is_update and display.display_id:
            self._updates[display.display_id] = display  # shown as it is at the end
            return
        self._show(display, note)

    def _show(self, display: Display, note: str) -> None:
        if note:
            self.say(seen(note))
            return
        text = display.text or display.bundle.get("text/markdown")
        if not isinstance(text, str):
            text = f"[{', '.join(sorted(display.bundle))}]"
        self.end_line()
        self._write(self._out, f"{text}\n")

    def end_run(self, result: Result) -> None:
        """How it ended: its error, and the files that it made."""
        updates, self._updates = self._updates, {}
        for display in updates.values():
            self._show(display, "")
        self.end_line()
        if result.error is not None:
            self._write(self._err, "\n".join(result.error.traceback) + "\n")
            self.end_line()
        if result.files:
            names = ", ".join(clean_name(item.name) for item in result.files[:20])
            more = f" and {len(result.files) - 20} more" if len(result.files) > 20 else ""
            self.say(f"files: {names}{more} (/files get NAME)")

    def end_line(self) -> None:
        """Whatever comes next begins on a line of its own, in the terminal's own colours."""
        if self._open is not None:
            self._open.write("\n")
        if self._has_coloured:
            for console in (self._out, self._err):
                if console.is_terminal:
                    console.file.write(_END_OF_COLOURS)
                    console.file.flush()
        self._open, self._has_coloured = None, False


def _console(stream: Any) -> Console:
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def _lined_up(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _lexer(language: str) -> str:
    from sandbox_kernel import languages

    name = languages.resolve(language)
    return languages.get(name).pygments_lexer if name is not None else "text"
