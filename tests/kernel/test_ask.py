"""`%%ask` cells: their first line, and what a model's words and code become as displays."""

from __future__ import annotations

import re

import pytest

from sandbox_kernel import events
from sandbox_kernel.kernel import ask, shown_words
from sandbox_kernel.kernel.ask import Asked
from sandbox_kernel.kernel.magics import UsageError
from sandbox_kernel.kernel.shown_words import Words, show_code
from tests.support.obeyed import obeyed

# --- the first line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%%ask\nwords", True),
        ("%%ask words", True),
        ("\n  %%ask\nwords", True),
        ("%%ask", True),
        ("%%asked\nwords", False),
        ("%%ask!", False),
        ("# %%ask\nwords", False),
        ("x = '''\n%%ask\n'''", False),
        ("%%bash\n%%ask", False),
        ("", False),
    ],
)
def test_a_cell_is_for_the_model(code, expected):
    assert ask.is_asked(code) is expected


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("%%ask\nwords", Asked("words")),
        ("%%ask words\nand more", Asked("words\nand more")),
        ("\n%%ask   \n\nwords\n", Asked("words")),
        ("%%ask --run\nwords", Asked("words")),
        ("%%ask --show words", Asked("words", is_run=False)),
        ("%%ask --new --repairs 0\nwords", Asked("words", is_new=True, max_repairs=0)),
        ("%%ask --repairs 10 words", Asked("words", max_repairs=10)),
        ("%%ask -- --show is what?", Asked("--show is what?")),
        ("%%ask\n--show is what?", Asked("--show is what?")),
        ("%%ask\n%sandbox get x", Asked("%sandbox get x")),
        ("%%ask", Asked("")),
    ],
)
def test_its_first_line_says(code, asked):
    assert ask.read(code) == asked


@pytest.mark.parametrize(
    "line",
    [
        *("--model gpt-5", "--model-url=http://evil", "--key x", "--run --show", "--repairs"),
        *("--repairs 11", "--repairs -1", "--repairs ٣", "--repairs " + "9" * 5_000, "--timeout 1"),
    ],
)
def test_nothing_else_may_be_said_there(line):
    """Neither another model nor another place for its owner's key."""
    with pytest.raises(UsageError, match=r"%%ask|--repairs"):
        ask.read(f"%%ask {line}\nwords")


def test_a_prompt_is_needed_and_bounded():
    with pytest.raises(UsageError, match="needs a prompt"):
        ask.require_prompt(ask.read("%%ask --show\n \n"))
    with pytest.raises(UsageError, match="into a file"):
        ask.read("%%ask\n" + "x" * (ask.MAX_PROMPT_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("code", "expected"),
    [("%%ask", False), ("%%ask --show\n", False), ("%%ask\nx", True), ("%%ask --nix", True)],
)
def test_it_is_whole_with_a_prompt(code, expected):
    assert ask.has_prompt(code) is expected


# --- words and code -----------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\n\n[link](javascript:alert(1))\n\n"
    "![pixel](https://evil.example/p.png)\n\n$\\href{javascript:alert(1)}{x}$ \x1b]52;c;aGk=\x07\n"
)


def _is_harmless(bundle: events.Json) -> bool:
    markdown = str(bundle.get("text/markdown", ""))
    text = "".join(map(str, bundle.values()))
    is_plain = re.search(r"<(?:script|img)|!\[|\]\(javascript", markdown) is None
    return is_plain and not obeyed(str(bundle.get("text/html", ""))) and "\x1b" not in text


async def test_words_are_one_display_that_grows():
    heard: list[events.Event] = []
    words = Words(heard.append)
    for piece in ("One", " *two", "* three"):
        words.add(piece)
    assert words.finish() == "One *two* three"
    first, *others = heard
    assert isinstance(first, events.DisplayShown)
    assert all(isinstance(event, events.DisplayUpdated) for event in others)
    assert len({event.transient["display_id"] for event in heard}) == 1
    assert heard[-1].bundle["text/markdown"] == "One *two* three"
    words.add("Another reply")
    words.finish()
    assert isinstance(heard[-1], events.DisplayShown)
    assert heard[-1].transient != first.transient


async def test_no_words_are_no_display():
    heard: list[events.Event] = []
    words = Words(heard.append)
    words.add(" \n")
    assert words.finish() == " \n"
    assert words.finish() == ""
    assert heard == []


@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_hostile_words_pass_the_policy_at_every_moment(piece, monkeypatch):
    monkeypatch.setattr(shown_words, "UPDATE_INTERVAL_S", 0)
    monkeypatch.setattr(shown_words, "_PAUSE", 0)
    heard: list[events.Event] = []
    words = Words(heard.append)
    for start in range(0, len(HOSTILE), piece):
        words.add(HOSTILE[start : start + piece])
    words.finish()
    assert heard
    assert all(_is_harmless(event.bundle) for event in heard)


async def test_endless_words_are_bounded_and_cheap():
    heard: list[events.Event] = []
    words = Words(heard.append)
    for _ in range(2_000):
        words.add("[" * 1_000)
    assert len(words.finish()) == shown_words.MAX_SHOWN_CHARACTERS
    assert "not shown" in heard[-1].bundle["text/plain"]
    assert len(heard) < 100


def test_code_is_shown_as_code_whatever_is_in_it():
    heard: list[events.Event] = []
    show_code("print('a')", "python", heard.append)
    assert heard[-1].bundle["text/markdown"] == "```python\nprint('a')\n```"
    show_code("x = '''\n````\n</code><script>alert(1)</script>\n'''\u202e", "python", heard.append)
    bundle = heard[-1].bundle
    assert _is_harmless(bundle)
    assert "script" in bundle["text/plain"]
    assert r"\u202e" in bundle["text/plain"]
    assert "`````" not in str(bundle.get("text/html"))


def test_code_that_was_said_is_not_shown_twice():
    heard: list[events.Event] = []
    show_code("1 + 1", "python", heard.append, unless_in="Like so:\n```python\n1 + 1\n```")
    assert heard == []
    show_code("1 + 1", "python", heard.append, unless_in="Like so: 1 + 1")
    assert len(heard) == 1
