"""The only reader of guest bytes: any bytes give events or `GuestProtocolError`."""

import contextlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_kernel import events
from sandbox_kernel.errors import GuestProtocolError
from sandbox_kernel.frames import EventDecoder, read_arguments
from sandbox_kernel.guest.framing import HEADER, MAX_FRAME_BYTES, Decoder, FramingError, Kind, pack

FROM_GUEST = [
    value for name, value in vars(Kind).items() if not name.startswith("_") and value >= Kind.STDOUT
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


def decode(data: bytes) -> list[events.Event]:
    return EventDecoder().feed(data)


def test_output_keeps_its_bytes_and_its_cell():
    assert decode(pack(Kind.STDOUT, 7, None, b"\xff\x00hi")) == [
        events.OutputWritten(7, "stdout", b"\xff\x00hi")
    ]


def test_frames_cut_anywhere_give_the_same_events():
    stream = b"".join(
        [
            pack(Kind.STDERR, 1, None, b"x" * 300),
            pack(Kind.DISPLAY, 1, {"data": {"text/plain": "é\ud800"}}),
            pack(Kind.CELL_ENDED, 1, {"outcome": "ok", "receipt": {"wall_s": 0.5}}),
        ]
    )
    whole = decode(stream)
    decoder = EventDecoder()
    assert [event for byte in stream for event in decoder.feed(bytes([byte]))] == whole
    assert [type(event).__name__ for event in whole] == [
        "OutputWritten",
        "DisplayShown",
        "CellEnded",
    ]


def test_a_length_of_two_to_the_32nd_is_refused_before_anything_is_held():
    decoder = Decoder(FROM_GUEST)
    with pytest.raises(FramingError, match="4294967295"):
        decoder.feed(HEADER.pack(2**32 - 1, Kind.STDOUT, 0, 0) + b"x" * 10)


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not():
    assert len(decode(pack(Kind.STDOUT, 1, None, bytes(MAX_FRAME_BYTES)))) == 1
    with pytest.raises(FramingError, match="over"):
        pack(Kind.STDOUT, 1, None, bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(GuestProtocolError, match="claims"):
        decode(HEADER.pack(MAX_FRAME_BYTES + 1, Kind.STDOUT, 0, 0))


def test_half_a_frame_is_held_and_nothing_more():
    decoder = Decoder(FROM_GUEST)
    assert decoder.feed(HEADER.pack(100, Kind.STDOUT, 0, 0) + b"x" * 40) == []
    assert decoder.pending_bytes == HEADER.size + 40


@pytest.mark.parametrize("kind", [0, Kind.CONFIGURE, Kind.EXECUTE, Kind.SIGNAL, 99, 255])
def test_a_guest_cannot_send_what_only_a_host_sends(kind):
    with pytest.raises(GuestProtocolError, match="may not send"):
        decode(HEADER.pack(0, kind, 0, 0))


def test_metadata_longer_than_the_frame_is_refused():
    with pytest.raises(GuestProtocolError, match="more metadata"):
        decode(HEADER.pack(2, Kind.DISPLAY, 0, 3) + b"{}")


@pytest.mark.parametrize(
    "meta",
    [
        b"[1]",
        b"nul",
        b"\xff",
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b'{"data": 3}',
        b'{"data": "text"}',
    ],
)
def test_json_that_is_no_object_of_ours_is_refused(meta):
    with pytest.raises(GuestProtocolError):
        decode(HEADER.pack(len(meta), Kind.DISPLAY, 0, len(meta)) + meta)


def test_nan_becomes_null_because_a_browser_would_refuse_the_message():
    [event] = decode(_raw(Kind.DISPLAY, b'{"data": {"application/json": [NaN, -Infinity]}}'))
    assert event.bundle == {"application/json": [None, None]}


@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        (Kind.CELL_ENDED, {"outcome": "fine", "receipt": {}}),
        (Kind.CELL_ENDED, {"outcome": "ok", "receipt": {"wall_s": -1}}),
        (Kind.CELL_ENDED, {"outcome": "ok", "receipt": {"output_bytes": 1.5}}),
        (Kind.CELL_ENDED, {"outcome": "ok", "receipt": {"files": 2**70}}),
        (Kind.ERROR, {"ename": 3}),
        (Kind.ERROR, {"ename": "E", "evalue": "v", "traceback": "no list"}),
        (Kind.COMM_OUT, {"action": "explode"}),
        (Kind.COMM_OUT, {"action": "msg", "buffers": [5]}),
        (Kind.COMM_OUT, {"action": "msg", "buffers": [-1]}),
        (Kind.COMM_OUT, {"action": "msg", "buffers": [0] * 2000}),
        (Kind.RUNNER_EXITED, {"generation": 1, "cause": "x", "signal": "9"}),
        (Kind.FILE_GENERATED, {"name": 5}),
        (Kind.RUNNER_READY, {"runner": ["other"]}),
        (Kind.TOOL_CALL, {"call": -1, "name": "search"}),
        (Kind.TOOL_CALL, {"call": 1, "name": ["search"]}),
        (Kind.RUNNER_STARTED, {"generation": 1, "runner": 7}),
        (Kind.RUNNER_EXITED, {"generation": 1, "cause": "exited", "runner": {}}),
    ],
)
def test_a_field_of_the_wrong_type_is_an_error_and_no_guess(kind, meta):
    with pytest.raises(GuestProtocolError):
        decode(pack(kind, 1, meta))


def test_news_of_runners_say_which_and_of_the_main_one_nothing():
    ready = decode(pack(Kind.RUNNER_READY, 0, {"version": "5.2", "runner": "bash"}))
    assert ready == [events.RunnerReady(0, {"version": "5.2"}, "bash")]
    assert decode(pack(Kind.RUNNER_READY, 0, {"version": "5.2"}))[0].runner == ""
    [started] = decode(pack(Kind.RUNNER_STARTED, 0, {"generation": 2, "runner": "x" * 500}))
    assert (started.generation, len(started.runner)) == (2, 80)
    gone = {"generation": 2, "cause": "exited", "exit_code": 3, "runner": "bash"}
    [exited] = decode(pack(Kind.RUNNER_EXITED, 0, gone))
    assert (exited.runner, exited.exit_code) == ("bash", 3)


def test_buffers_are_cut_where_their_lengths_say():
    [event] = decode(pack(Kind.COMM_OUT, 1, {"action": "msg", "buffers": [2, 0, 1]}, b"abc"))
    assert event.buffers == [b"ab", b"", b"c"]


def test_arguments_of_a_call_are_left_as_they_are_until_somebody_bounds_them():
    [event] = decode(pack(Kind.TOOL_CALL, 3, {"call": 7, "name": "n" * 500}, b"[[["))
    assert event == events.ToolCalled(3, 7, "n" * 80, b"[[[")
    with pytest.raises(GuestProtocolError):
        read_arguments(event.arguments)


def test_arguments_of_a_call_are_a_list_and_a_dictionary():
    assert read_arguments(b'{"args": [1, NaN], "kwargs": {"a": []}}') == ([1, None], {"a": []})
    assert read_arguments(b"{}") == read_arguments(b"") == ([], {})
    for bad in (b"[1]", b'{"args": "ab"}', b'{"kwargs": [1]}', b"[" * 100_000, b'"\xff'):
        with pytest.raises(GuestProtocolError):
            read_arguments(bad)


@given(st.binary(max_size=200) | st.builds(lambda v: json.dumps(v).encode(), json_values))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_arguments_or_our_own_error(data):
    with contextlib.suppress(GuestProtocolError):
        positional, named = read_arguments(data)
        assert isinstance(positional, list)
        assert isinstance(named, dict)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_events_or_our_own_error(data):
    decoder = EventDecoder()
    try:
        for start in range(0, len(data), 7):
            decoder.feed(data[start : start + 7])
    except GuestProtocolError:
        pass


@given(st.sampled_from(FROM_GUEST), st.dictionaries(st.text(max_size=12), json_values), st.binary())
@settings(max_examples=150, deadline=None)
def test_any_metadata_gives_an_event_or_our_own_error(kind, meta, data):
    encoded = json.dumps(meta).encode()
    try:
        [event] = decode(_raw(kind, encoded, data))
    except GuestProtocolError:
        return
    assert event.cell == 0


KEYS = (
    "data metadata transient wait ename evalue traceback prompt password action comm_id "
    "target_name buffers generation cause exit_code signal detail outcome receipt name size "
    "whole code reason call"
).split()


@given(st.sampled_from(FROM_GUEST), st.dictionaries(st.sampled_from(KEYS), json_values))
@settings(max_examples=200, deadline=None)
def test_any_values_under_our_own_keys_give_an_event_or_our_own_error(kind, meta):
    with contextlib.suppress(GuestProtocolError):
        decode(_raw(kind, json.dumps(meta).encode()))


@given(st.lists(st.tuples(st.sampled_from(FROM_GUEST), st.binary(max_size=50)), max_size=8))
@settings(deadline=None)
def test_what_is_packed_is_unpacked(frames):
    stream = b"".join(pack(kind, 3, {"a": 1}, data) for kind, data in frames)
    got = Decoder(FROM_GUEST).feed(stream)
    assert [(frame.kind, frame.data) for frame in got] == frames
    assert all(frame.read_meta() == {"a": 1} and frame.cell == 3 for frame in got)


def _raw(kind: int, meta: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!IBII", len(meta) + len(data), kind, 0, len(meta)) + meta + data
