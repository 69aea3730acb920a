"""The wire codec: what goes out comes back, and what is wrong is refused, never worse."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_kernel.kernel import wire
from sandbox_kernel.kernel.wire import Codec, WireError, dump

KEY = b"secret"


def codecs(key: bytes = KEY) -> tuple[Codec, Codec]:
    return Codec(key), Codec(key)


def request(**changes: object) -> list[bytes]:
    """A signed request, with the parts that are named replaced before signing."""
    parts = {
        "header": {"msg_id": "1", "msg_type": "kernel_info_request"},
        "parent": {},
        "metadata": {},
        "content": {},
        **changes,
    }
    signed = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in parts.values()]
    return [b"me", wire.DELIMITER, Codec(KEY)._sign(signed), *signed]


def test_a_message_comes_back_as_it_was_sent():
    ours, theirs = codecs()
    parts = ours.encode(
        "x_request", {"a": "ü"}, metadata={"m": 1}, identities=[b"id"], buffers=[b"\0\xff"]
    )
    message = theirs.decode(parts)
    assert message.identities == [b"id"]
    assert message.msg_type == "x_request"
    assert (message.content, message.metadata) == ({"a": "ü"}, {"m": 1})
    assert message.buffers == [b"\0\xff"]


def test_our_messages_are_what_jupyter_client_reads_and_writes():
    from jupyter_client.session import Session

    theirs, ours = Session(key=KEY), Codec(KEY)
    asked = ours.decode(theirs.serialize(theirs.msg("x_request", {"n": 1})))
    assert asked.content == {"n": 1}
    answer = ours.encode("x_reply", {"status": "ok"}, parent=asked.header)
    read = theirs.deserialize(theirs.feed_identities(answer)[1])
    assert read["parent_header"]["msg_id"] == asked.msg_id
    assert read["header"]["version"] == "5.5"
    assert read["header"]["session"] == ours.session


def test_the_parent_of_an_answer_is_the_whole_header_of_the_request():
    theirs = Codec(KEY)
    header = {"msg_id": "1", "msg_type": "x_request", "session": "s", "extra": [1]}
    asked = theirs.decode(request(header=header))
    answer = theirs.encode("x_reply", {}, parent=asked.header)
    assert json.loads(answer[3]) == header


def test_dates_are_utc_with_microseconds():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", wire.utc_now())


def test_two_kernels_have_different_sessions():
    assert Codec(KEY).session != Codec(KEY).session


def test_an_empty_key_means_unsigned_and_allows_repetition():
    ours, theirs = codecs(b"")
    parts = ours.encode("x_request", {})
    assert parts[1] == b""
    assert theirs.decode(parts) == theirs.decode(parts)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: [p[0], p[1], b"", *p[3:]], "not signed"),
        (lambda p: [p[0], p[1], b"0" * 64, *p[3:]], "signature is wrong"),
        (lambda p: [p[0], p[1], "ü".encode(), *p[3:]], "signature is wrong"),
        (lambda p: [*p[:6], b'{"code": "evil()"}'], "signature is wrong"),
        (lambda p: p[:-1], "too few parts"),
        (lambda p: [p[0], *p[2:]], "no delimiter"),
        (lambda _: [], "no delimiter"),
        (lambda p: [*[b"id"] * 100, *p[1:]], "no delimiter"),
        (lambda p: [*p, *[b""] * (wire.MAX_BUFFERS + 1)], "buffers"),
    ],
)
def test_parts_that_were_tampered_with_are_refused(spoil, reason):
    assert Codec(KEY).decode(request()).msg_id == "1"
    with pytest.raises(WireError, match=reason):
        Codec(KEY).decode(spoil(request()))


@pytest.mark.parametrize(
    "changes",
    [
        {"header": b"\xff"},
        {"header": []},
        {"header": {}},
        {"header": {"msg_id": 1, "msg_type": "x"}},
        {"header": {"msg_id": "1", "msg_type": ""}},
        {"header": {"msg_id": "1", "msg_type": "x", "n": float("nan")}},
        {"header": {"msg_id": "x" * 2000, "msg_type": "x"}},
        {"header": b"[" * 60_000},
        {"header": b" " * (wire.MAX_HEADER_BYTES + 1)},
        {"content": b"[" * 100_000},
        {"content": b"1" * 5000},
        {"content": None},
        {"metadata": "text"},
    ],
)
def test_signed_nonsense_is_refused(changes):
    with pytest.raises(WireError):
        Codec(KEY).decode(request(**changes))


def test_a_replayed_message_is_refused():
    codec, parts = Codec(KEY), request()
    codec.decode(parts)
    with pytest.raises(WireError, match="replay"):
        codec.decode(parts)


def test_badly_signed_messages_do_not_fill_the_replay_memory(monkeypatch):
    monkeypatch.setattr(wire, "MAX_SIGNATURES", 3)
    codec, parts = Codec(KEY), request()
    codec.decode(parts)
    for number in range(10):
        with pytest.raises(WireError, match="wrong"):
            codec.decode([*parts[:2], b"%064d" % number, *parts[3:]])
    with pytest.raises(WireError, match="replay"):
        codec.decode(parts)


def test_the_replay_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_SIGNATURES", 3)
    codec = Codec(KEY)
    for number in range(10):
        codec.decode(request(content={"n": number}))
    assert len(codec._seen) == 3


def test_an_oversized_message_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 1000)
    assert Codec(KEY).decode(request()).content == {}
    with pytest.raises(WireError, match="1000 bytes"):
        Codec(KEY).decode(request(content={"code": "x" * 1000}))
    with pytest.raises(WireError, match="1000 bytes"):
        Codec(KEY).decode([*request(), b"x" * 1000])


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_kept():
    assert json.loads(dump({"t": "a\ud800b"})) == {"t": "a\ufffdb"}
    assert json.loads(dump({"t": "\U0001f600 \ud83d\ude00"})) == {"t": "\U0001f600 \U0001f600"}


def _deep() -> dict:
    value: dict = {}
    for _ in range(100_000):
        value = {"v": value}
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
def test_what_is_no_json_is_a_wire_error(value):
    with pytest.raises(WireError):
        dump({"v": value})


def test_cycles_and_bottomless_nesting_are_wire_errors():
    cycle: dict = {}
    cycle["v"] = cycle
    with pytest.raises(WireError):
        dump(cycle)
    with pytest.raises(WireError):
        dump(_deep())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(content=st.dictionaries(st.text(), JSON), buffers=st.lists(st.binary(), max_size=4))
def test_any_json_and_buffers_survive_the_wire(content, buffers):
    ours, theirs = codecs()
    message = theirs.decode(ours.encode("x_request", content, buffers=buffers))
    assert message.buffers == buffers
    assert message.content == json.loads(dump(content))


@given(st.lists(st.binary(max_size=64) | st.just(wire.DELIMITER), max_size=12))
def test_random_parts_are_a_message_or_a_wire_error_and_nothing_else(parts):
    for key in (b"", KEY):
        with contextlib.suppress(WireError):
            Codec(key).decode(parts)


@settings(max_examples=300)
@given(
    parts=st.lists(
        st.binary(max_size=40) | JSON.map(lambda v: json.dumps(v).encode()), min_size=4, max_size=6
    )
)
def test_random_parts_that_are_signed_well_are_a_message_or_a_wire_error(parts):
    signature = Codec(KEY)._sign(parts[:4])
    try:
        message = Codec(KEY).decode([b"me", wire.DELIMITER, signature, *parts])
    except WireError:
        return
    assert isinstance(message.content, dict)
