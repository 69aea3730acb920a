"""ZMTP: what any cut of the stream means, and what a lying peer gets."""

from __future__ import annotations

import pytest

from sandbox_kernel.guest.bridge import zmtp
from sandbox_kernel.guest.bridge.zmtp import GREETING, Decoder, Skipped, ZmtpError, encode, ready

HELLO = GREETING + ready("ROUTER", b"")


def decoder() -> Decoder:
    made = Decoder()
    assert made.feed(HELLO) == []
    assert made.is_ready
    return made


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
def test_messages_are_the_same_however_the_stream_is_cut(step):
    messages = [[b""], [b"a", b"", b"b" * 300], [b"c" * 70_000]]
    stream = HELLO + b"".join(map(encode, messages))
    made, found = Decoder(), []
    for start in range(0, len(stream), step):
        found += made.feed(stream[start : start + step])
    assert found == messages


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n".ljust(64), b"\xff" + bytes(8) + b"\x7f\x01" + bytes(53)],
)
def test_what_is_no_zmtp_3_is_refused(greeting):
    with pytest.raises(ZmtpError, match="ZMTP"):
        Decoder().feed(greeting)


def test_another_mechanism_is_refused():
    with pytest.raises(ZmtpError, match="ZMTP"):
        Decoder().feed(GREETING.replace(b"NULL\0", b"CURVE"))


def test_a_claim_is_not_believed_before_it_has_come():
    made = decoder()
    assert made.feed(b"\x02" + (2**62).to_bytes(8, "big") + b"x" * 1000) == []
    assert len(made._buffer) < 100


def test_a_message_over_the_limit_is_skipped_and_the_next_one_read(monkeypatch):
    monkeypatch.setattr(zmtp, "MAX_MESSAGE_BYTES", 1000)
    made = decoder()
    (skipped, kept) = made.feed(encode([b"a" * 600, b"b" * 600, b"c"]) + encode([b"d"]))
    assert isinstance(skipped, Skipped)
    assert skipped.size == 1201
    assert kept == [b"d"]


def test_endless_parts_are_skipped():
    made = decoder()
    for _ in range(50):
        assert made.feed(b"\x01\x00" * 1000) == []
    (skipped,) = made.feed(b"\x00\x00")
    assert isinstance(skipped, Skipped)


def test_an_endless_command_is_refused():
    with pytest.raises(ZmtpError, match="command"):
        decoder().feed(b"\x06" + (10**9).to_bytes(8, "big"))
