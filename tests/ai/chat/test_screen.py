"""What a terminal is sent, whatever a model or the guest says."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from sandbox_kernel.ai.chat import screen as module
from sandbox_kernel.ai.chat.pictures import Pictures
from sandbox_kernel.ai.chat.screen import Screen
from sandbox_kernel.ai.chat.speech import split
from sandbox_kernel.engine import Display
from tests.support.agents import PNG

# What a terminal obeys besides colours and the cursor moves of our own redrawn lines.
_FORBIDDEN = re.compile(r"\x1b[\]PX^_]|\x1b\[[0-9;]*[nJc]|\x07|[\x80-\x9f]|[\u202a-\u202e\u2066]")
HOSTILE = (
    "\x1b]52;c;aGk=\x07clip\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\"
    "\x1b]0;title\x07\x1bP1$r\x1b\\\x1b[6n\x1b[2J\x9b6n\u202edesrever\x07"
)


class Seen:
    """A screen on a terminal that is a text, or on a pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        files = iter([self.out, self.err])

        def made(_stream: Any) -> Console:
            return Console(
                file=next(files), force_terminal=is_terminal, markup=False, emoji=False,
                highlight=False, width=80, height=24, color_system="truecolor",
                legacy_windows=False, _environ={"TERM": "xterm-256color"},
            )  # fmt: skip

        monkeypatch.setattr(module, "_console", made)
        self.screen = Screen()

    @property
    def text(self) -> str:
        return self.out.getvalue() + self.err.getvalue()


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def seen(request, monkeypatch) -> Seen:
    return Seen(monkeypatch, is_terminal=request.param)


@pytest.mark.parametrize("piece", [1, 3, 10_000])
def test_a_models_words_are_words_however_they_are_cut(seen, piece):
    for start in range(0, len(HOSTILE), piece):
        seen.screen.words(HOSTILE[start : start + piece])
    assert seen.screen.end_words() == HOSTILE  # the caller judges what was really said
    assert not _FORBIDDEN.search(seen.text)
    assert "clip" in seen.text
    assert "evil.example" not in seen.text


def test_nothing_is_taken_for_markup(seen):
    for text in ("[bold red]x[/bold red]", "[link=https://evil.example]y[/link]", ":smile:", "[/]"):
        seen.screen.words(text)
        seen.screen.end_words()
        seen.screen.code(f"print({text!r})", "python")
        seen.screen.stdout(text + "\n")
        seen.screen.say(text)
        seen.screen.table([(text, text)])
        assert re.sub(r"\x1b\[[0-9;]*m", "", seen.text).count(text) >= 5


def test_a_link_says_where_it_leads(seen):
    seen.screen.words("See [your bank](https://evil.example/x).")
    seen.screen.end_words()
    assert "\x1b]8" not in seen.text
    assert "https://evil.example/x" in seen.text


def test_code_shows_what_hides_in_it(seen):
    seen.screen.code("if admin:\u202e\u2066 # \x1b[8m\nprint('\u200b')", "python")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", seen.text)
    assert not _FORBIDDEN.search(shown)
    for spelled in (r"\u202e", r"\u2066", r"\x1b[8m", r"\u200b"):
        assert spelled in shown


def test_colours_of_the_guest_end_with_its_run(seen):
    seen.screen.stdout("\x1b[31;8mred and hidden")
    seen.screen.say("ours")
    shown = seen.out.getvalue()
    if "\x1b" in shown:
        assert shown.endswith("\n\x1b[0m")
    else:
        assert shown == "red and hidden\n"


def test_code_that_the_words_have_shown_is_not_shown_again(seen):
    seen.screen.words("Like so:\n\n```python\nprint(1)\n```\n")
    seen.screen.code("print(1)", "python", unless_in=seen.screen.end_words())
    assert re.sub(r"\x1b\[[0-9;]*m", "", seen.err.getvalue()).count("print(1)") == 0
    seen.screen.code("print(2)", "python", unless_in="")
    assert "print" in seen.err.getvalue()


def test_who_decides_sees_all_of_the_code(seen):
    code = "\n".join(f"line({number})" for number in range(2_000))
    seen.screen.code(code, "text")
    assert "more lines" in seen.text
    assert "line(1999)" not in seen.text
    seen.screen.code(code, "text", whole=True)
    assert "line(1999)" in seen.text


def test_hostile_markdown_takes_no_time(seen):
    for text in ("[" * 100_000, "*" * 100_000, "> " * 50_000, "|" * 100_000):
        seen.screen.words(text)
        seen.screen.end_words()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("one", ""),
        ("one\n\ntwo", "one\n\n"),
        ("one\n\n```\na\n\nb", "one\n\n"),
        ("```\na\n\nb\n```\n\nafter", "```\na\n\nb\n```\n\n"),
        ("````\n```\n\n````\n\nx", "````\n```\n\n````\n\n"),
        ("one\n\ntwo\n\n", "one\n\ntwo\n\n"),
    ],
)
def test_a_part_is_whole_at_a_blank_line_outside_of_fences(text, whole):
    assert split(text) == (whole, text[len(whole) :])


def test_pictures_get_names_and_saved_ones_keep_theirs():
    pictures = Pictures()
    shown = Display({"text/plain": "<Figure>", "image/png": PNG}, {})
    assert pictures.take(shown) == "[picture-1.png: 1 x 1, 70 bytes] /files get picture-1.png"
    assert pictures.take(shown).startswith("[picture-2.png")
    assert (pictures.get("picture-1.png") or b"").startswith(b"\x89PNG")
    saved = Display({"text/plain": "a.png · PNG picture, 1 x 1 · 70 bytes", "image/png": PNG}, {})
    assert pictures.take(saved).endswith("/files get a.png")
    assert pictures.get("a.png") is None
    assert pictures.take(Display({"text/plain": "text"}, {})) == ""
    assert "not shown" in pictures.take(Display({"image/png": "no base64 at all!"}, {}))
