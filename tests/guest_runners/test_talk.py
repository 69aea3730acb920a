"""The talk between adapter and interpreter: cut from bytes however they arrive, and bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.guest.runners.interpreter import offsets, outputs, talk
from sandbox_kernel.guest.runners.interpreter.talk import Message, Parser, TalkError, encode
from sandbox_kernel.guest.runners.python.channel import FrameTooLarge, dump_json

WORDS = st.sampled_from(["done", "display", "data", "match", "ename", "out", "err"])
MESSAGES = st.lists(st.tuples(WORDS, st.sampled_from(["-", "ok", "12"]), st.binary(max_size=60)))


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1))
def test_what_was_said_arrives_however_it_is_cut(messages, sizes):
    stream = b"".join(encode(*message) for message in messages)
    parser, heard, position, turn = Parser(), [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        heard += parser.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert _joined(heard) == [m for m in _joined([Message(*m) for m in messages]) if m]


def _joined(messages: list[Message]) -> list[tuple[str, str, bytes]]:
    """Printed text arrives in pieces: neighbours with the same name are one."""
    found: list[tuple[str, str, bytes]] = []
    for kind, argument, payload, _omitted in messages:
        is_text = kind in ("out", "err")
        if is_text and not payload:
            continue
        if is_text and found and found[-1][:2] == (kind, argument):
            payload = found.pop()[2] + payload
        found.append((kind, argument, payload))
    return found


@pytest.mark.parametrize(
    "noise",
    [
        b"\n",
        b"hello world\n",
        b"out -  3\nabc",
        b"out - -3\n",
        b"out - 3x\n",
        b"x" * 5000,
        b"\0 - 1\n",
    ],
)
def test_what_is_no_message_ends_the_conversation(noise):
    with pytest.raises(TalkError):
        list(Parser().feed(noise))


def test_a_payload_that_is_too_long_is_counted_and_not_held():
    parser = Parser()
    length = talk.MAX_PAYLOAD_BYTES + 1
    assert list(parser.feed(b"data image/png %d\n" % length)) == []
    for _ in range(length // 65536):
        assert list(parser.feed(bytes(65536))) == []
        assert len(parser._buffer) == 0
    heard = list(parser.feed(bytes(length % 65536) + encode("done", "ok")))
    assert heard == [Message("data", "image/png", b"", length), Message("done", "ok", b"")]


def test_a_length_without_end_is_no_allocation():
    assert list(Parser().feed(b"data image/png 99999999999999999999\nabc")) == []


@given(st.text(), st.integers(-3, 50))
def test_a_cursor_survives_the_way_to_bytes_and_back(code, position):
    offset = offsets.to_bytes(code, position)
    expected = position if 0 <= position <= len(code) else len(code)
    assert offsets.to_code_points(code, str(offset), len(code)) == expected


@pytest.mark.parametrize("lie", ["-1", "x", "9" * 20, ""])
def test_an_offset_that_is_none_is_the_cursor(lie):
    assert offsets.to_code_points("abc", lie, 2) == 2


class Recorder:
    """A channel that remembers, and refuses frames over 1 KiB."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, object, bytes]] = []

    def send(self, kind, cell, meta=None, data=b""):
        if len(dump_json(meta or {})) > 1024:
            raise FrameTooLarge(2000)
        self.frames.append((kind, cell, meta, bytes(data)))


def heard(*messages: Message) -> list[tuple[int, int, object, bytes]]:
    channel = Recorder()
    said = outputs.Outputs(channel)
    said.cell = 7
    for message in messages:
        assert said.hear(message)
    said.flush()
    return channel.frames


def test_text_and_displays_keep_their_order_and_neighbours_are_joined():
    frames = heard(
        Message("out", "-", b"a"),
        Message("out", "-", b"b"),
        Message("err", "-", b"e"),
        Message("data", "text/plain", b"D"),
        Message("display", "-", b""),
        Message("out", "-", b"c"),
    )
    assert [(kind, data) for kind, _, _, data in frames] == [
        (Kind.STDOUT, b"ab"),
        (Kind.STDERR, b"e"),
        (Kind.DISPLAY, b""),
        (Kind.STDOUT, b"c"),
    ]


@pytest.mark.parametrize(("named", "cell"), [("3", 3), ("-", 7), ("8", 7), ("0", 7), ("9" * 30, 7)])
def test_text_belongs_to_a_cell_that_was_given_to_this_interpreter(named, cell):
    assert heard(Message("out", named, b"x"))[0][1] == cell


def test_each_form_is_as_jupyter_has_it():
    ((_, _, meta, _),) = heard(
        Message("data", "image/png", b"\x89PNG"),
        Message("data", "application/json", b'{"a": [1]}'),
        Message("data", "image/svg+xml", b"<svg/>"),
        Message("meta", "-", b'{"width": 3}'),
        Message("display", "id1", b""),
    )
    assert json.loads(json.dumps(meta)) == {
        "data": {
            "image/png": "iVBORw==",
            "application/json": {"a": [1]},
            "image/svg+xml": "<svg/>",
        },
        "metadata": {"width": 3},
        "transient": {"display_id": "id1"},
    }


def test_a_display_that_fits_no_frame_is_told_and_the_next_one_comes():
    frames = heard(
        Message("data", "text/plain", b"x" * 2000),
        Message("display", "-", b""),
        Message("data", "text/plain", b"small"),
        Message("display", "-", b""),
    )
    assert [kind for kind, *_ in frames] == [Kind.STDERR, Kind.DISPLAY]
    assert b"left out" in frames[0][3]


def test_json_that_is_none_is_shown_as_nothing():
    ((_, _, meta, _),) = heard(
        Message("data", "application/json", b"[" * 100_000), Message("display", "-", b"")
    )
    assert meta["data"] == {"application/json": None}
