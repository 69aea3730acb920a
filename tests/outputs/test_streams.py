"""Streams and names: what terminals obey goes, what progress bars need stays."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox_kernel.outputs import OutputPolicy, StreamCleaner, clean_name, clean_text

SAFE, TRUSTED = OutputPolicy("safe"), OutputPolicy("trusted")
SGR = re.compile(r"\x1b\[[0-9;:]*m")
FORBIDDEN = re.compile(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(data: bytes) -> str:
    return StreamCleaner(SAFE).feed(data, final=True)


def clean_in_pieces(data: bytes, cuts: list[int]) -> str:
    cleaner = StreamCleaner(SAFE)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    return "".join([*map(cleaner.feed, pieces), cleaner.feed(b"", final=True)])


@pytest.mark.parametrize(
    "text",
    [
        "plain\n",
        "a\tb\rc\bd\r\n",
        "\x1b[31mred\x1b[0m \x1b[1;38;2;1;2;3mtrue colour\x1b[m",
        "\x1b[38:5:200mcolons\x1b[39m",
        "größer 漢字 🎉 עברית",
    ],
)
def test_text_colours_and_progress_bars_stay(text: str) -> None:
    assert clean(text.encode()) == text
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("attack", "left"),
    [
        (b"a\x1b]52;c;cm0gLXJmCg==\x07b", "ab"),
        (b"a\x1b]8;;https://evil.example\x1b\\text\x1b]8;;\x1b\\b", "atextb"),
        (b"a\x1b]0;title\x07b", "ab"),
        (b"a\x1b]2;title\x9c\x1b\\b", "ab"),
        (b"a\x1b[2J\x1b[1;1Hb", "ab"),
        (b"a\x1b[10Ab\x1b[?25lc\x1b[6n", "abc"),
        (b"a\x1bPq#0;2;0;0;0\x1b\\b", "ab"),
        (b"a\x1b_Gf=100;AAAA\x1b\\b", "ab"),
        (b"a\x1b^pm\x1b\\b\x1bXsos\x1b\\c", "abc"),
        (b"a\x1bcb\x1b7c\x1b(0d\x1b#8e", "abcde"),
        (b"a\x07\x07\x00\x0b\x0c\x0e\x7fb", "ab"),
        ("a\x9b2Jb\x9d0;t\x9cc\x85d\x90q\x9ce".encode(), "abcde"),
        (b"a\x1b[3\x001mb", "a\x1b[31mb"),
        (b"a\x1b]0;first\x1b[31mb", "a\x1b[31mb"),
        (b"a\x1b\x1b[2Jb", "ab"),
        (b"a\x1b[\x1b[31mmb", "a\x1b[31mmb"),
        (b"a\x1b", "a"),
        (b"a\x1b[31", "a"),
    ],
)
def test_other_sequences_go(attack: bytes, left: str) -> None:
    assert clean(attack) == left


def test_an_unterminated_title_swallows_nothing_for_ever() -> None:
    cleaner = StreamCleaner(SAFE)
    shown = cleaner.feed(b"before \x1b]0;" + b"x" * 10_000 + b" after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert cleaner.feed(b"next") == "next"


def test_what_is_held_back_is_bounded_and_given_out_at_the_end() -> None:
    cleaner = StreamCleaner(SAFE)
    assert cleaner.feed(b"\x1b]0;" + b"y" * 4000) == ""
    assert cleaner.feed(b"", final=True) == "0;" + "y" * 4000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"half \xe2\x82", "half \ufffd"),
        (b"\xc0\xaf", "\ufffd\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),
    ],
)
def test_bytes_that_are_no_utf8_are_replaced(data: bytes, text: str) -> None:
    assert clean(data) == text


def test_a_character_cut_in_two_survives() -> None:
    cleaner = StreamCleaner(SAFE)
    assert [cleaner.feed(bytes([byte])) for byte in "€".encode()] == ["", "", "€"]


def test_trusted_only_decodes() -> None:
    assert (
        StreamCleaner(TRUSTED).feed(b"\x1b]0;t\x07\x00\xff", final=True) == "\x1b]0;t\x07\x00\ufffd"
    )


TRICKY = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"\x1b[]m\x07\\\x9b\xc2\x9d( P_\x18\x00x\n"),
        *(b"\xc2\x9d", b"0;", b"31", b"\xe2\x82\xac", b"y" * 70, b"z" * 4096),
    ]
)


@given(st.lists(TRICKY, max_size=30).map(b"".join), st.lists(st.integers(0, 10**6), max_size=8))
@example(b"\x1b]" + b"z" * 4096 + b"\x07", [4097])
@example(b"\x1b[31m", [1, 2, 3, 4])
@example(b"\x1b]a\x1b\\b", [4])
@example(b"\xc2\x9d[\xc2\x9d", [])
def test_cuts_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assert clean_in_pieces(data, cuts) == clean(data)


@given(st.one_of(st.binary(max_size=200), st.lists(TRICKY, max_size=30).map(b"".join)))
def test_no_forbidden_character_ever_leaves(data: bytes) -> None:
    assert FORBIDDEN.search(SGR.sub("", clean(data))) is None


@given(
    st.text(st.characters(), max_size=200)
    | st.text("\x1b[]0;31m\x07\\\x9b\ud800\udfff", max_size=40)
)
def test_complete_texts_lose_the_same(text: str) -> None:
    cleaned = clean_text(text)
    assert FORBIDDEN.search(SGR.sub("", cleaned)) is None
    cleaned.encode()
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.csv", "plain name.csv"),
        ("größe 漢字.png", "größe 漢字.png"),
        ("a\nb.png", "a\\nb.png"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("a\u2066b\u200fc\ufeffd", "a\\u2066b\\u200fc\\ufeffd"),
        ("caf\udce9.txt", "caf\\xe9.txt"),
        ("\ud800x", "\\ud800x"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("<img onerror=alert(1)>", "<img onerror=alert(1)>"),
    ],
)
def test_names_show_what_would_hide(name: str, shown: str) -> None:
    assert clean_name(name) == shown


@given(st.text(st.characters(), max_size=400), st.integers(10, 200))
def test_names_are_one_short_visible_line(name: str, limit: int) -> None:
    shown = clean_name(name, limit)
    assert len(shown) <= limit
    assert all(unicodedata.category(character)[0] != "C" for character in shown)
    assert "\n" not in shown


def test_long_names_keep_their_ending() -> None:
    assert clean_name("a" * 5000 + ".tar.gz").endswith(".tar.gz")
    assert len(clean_name("\n" * 10_000)) == 120
