"""What arrives on the sockets and should not: the kernel drops it and lives on.

On one backend only: sockets, signatures and formats are the host's, and no guest sees them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
import zmq

from tests.support.kernels import IS_OURS, Kernel
from tests.support.wire import DELIMITER, Wire

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")

MARK = "executed_without_right"
CODE = {"code": f"{MARK} = True", "silent": False, "store_history": False}


@pytest.fixture(scope="module")
def kernel_backend() -> str:
    return "auto"


@pytest.fixture
def wire(shared_kernel: Kernel) -> Iterator[Wire]:
    with Wire(shared_kernel.connection_info) as wire:
        yield wire


def assert_untouched(kernel: Kernel) -> None:
    """The kernel answers, and nothing without right has been executed."""
    assert kernel.run(f"'{MARK}' in globals()").result["text/plain"] == "False"
    assert kernel.request("kernel_info_request", {}, channel="control")["content"]["status"] == "ok"


def bad_signature(wire: Wire) -> list[bytes]:
    frames = wire.frames("execute_request", CODE)
    return [frames[0], b"0" * 64, *frames[2:]]


def no_signature(wire: Wire) -> list[bytes]:
    frames = wire.frames("execute_request", CODE)
    return [frames[0], b"", *frames[2:]]


def another_key(wire: Wire) -> list[bytes]:
    key, wire.key = wire.key, b"another key"
    try:
        return wire.frames("execute_request", CODE)
    finally:
        wire.key = key


def changed_content(wire: Wire) -> list[bytes]:
    frames = wire.frames("execute_request", {"code": "1"})
    return [*frames[:5], json.dumps(CODE).encode()]


def signed(wire: Wire, *parts: bytes) -> list[bytes]:
    return [DELIMITER, wire.sign(list(parts)), *parts]


SPOILT: dict[str, Callable[[Wire], list[bytes]]] = {
    "a wrong signature": bad_signature,
    "no signature": no_signature,
    "another key": another_key,
    "content changed after signing": changed_content,
    "no delimiter": lambda wire: wire.frames("execute_request", CODE)[1:],
    "only a delimiter": lambda wire: [DELIMITER],
    "too few frames": lambda wire: wire.frames("execute_request", CODE)[:4],
    "an empty frame": lambda wire: [b""],
    "random bytes": lambda wire: [os.urandom(100) for _ in range(8)],
    "a signature that is not ascii": lambda wire: [
        DELIMITER,
        b"\xff" * 64,
        *wire.frames("execute_request", CODE)[2:],
    ],
    "no json": lambda wire: signed(wire, b"{", b"}", b"nope", b"\xff"),
    "json that is no object": lambda wire: signed(wire, b"[]", b"1", b"null", b'"x"'),
    "a header without type": lambda wire: signed(wire, b'{"msg_id": "x"}', b"{}", b"{}", b"{}"),
    "a header with wrong types": lambda wire: signed(
        wire, b'{"msg_id": 1, "msg_type": [], "session": {}}', b"{}", b"{}", b"{}"
    ),
    "json nested ten thousand deep": lambda wire: signed(
        wire,
        wire.frames("execute_request", {})[2],
        b"{}",
        b"{}",
        b"[" * 10_000 + b"]" * 10_000,
    ),
}


@pytest.mark.parametrize("channel", ["shell", "control", "stdin"])
@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_message_is_dropped(shared_kernel: Kernel, wire: Wire, channel: str, what: str):
    frames = SPOILT[what](wire)
    wire.socket(channel).send_multipart(frames)
    if channel != "stdin":
        # The same socket still serves who behaves: ordered after the spoilt one.
        good = wire.request("kernel_info_request", {}, channel=channel)
        reply = wire.wait_for(channel, "kernel_info_reply", good)
        assert reply.content["status"] == "ok"
    assert_untouched(shared_kernel)


def test_the_same_request_rightly_signed_is_executed(shared_kernel: Kernel, wire: Wire):
    """The twin of the spoilt ones."""
    message_id = wire.request("execute_request", {**CODE, "code": "rightly = True"})
    assert wire.wait_for("shell", "execute_reply", message_id).content["status"] == "ok"
    assert shared_kernel.run("rightly").result["text/plain"] == "True"


def test_code_that_is_no_text_is_answered(shared_kernel: Kernel, wire: Wire):
    """Half of a surrogate pair is good JSON and no good UTF-8."""
    message_id = wire.request("execute_request", {"code": "'\ud800'"})
    wire.wait_for("shell", "execute_reply", message_id)
    assert_untouched(shared_kernel)


def test_a_replayed_message_is_executed_once(shared_kernel: Kernel, wire: Wire):
    shared_kernel.run("replayed = 0")
    frames = wire.frames("execute_request", {"code": "replayed += 1"})
    for _ in range(3):
        wire.socket("shell").send_multipart(frames)
    good = wire.request("kernel_info_request", {})
    wire.wait_for("shell", "kernel_info_reply", good)
    assert shared_kernel.run("replayed").result["text/plain"] == "1"


def test_garbage_that_is_not_even_zmq_is_survived(shared_kernel: Kernel):
    for channel in ("shell", "control", "stdin", "iopub", "hb"):
        port = shared_kernel.connection_info[f"{channel}_port"]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + os.urandom(1000))
    assert_untouched(shared_kernel)


@ours_only
def test_an_oversized_message_is_refused_and_memory_stays_flat(shared_kernel: Kernel, wire: Wire):
    process = psutil.Process(shared_kernel.pid)
    before = process.memory_info().rss
    size = 300 * 2**20
    wire.socket("shell").send_multipart([DELIMITER, b"0" * 64, bytes(size), b"{}", b"{}", b"{}"])
    assert_untouched(shared_kernel)
    end = time.monotonic() + 10
    highest = before
    while time.monotonic() < end and highest - before < size:
        highest = max(highest, process.memory_info().rss)
        time.sleep(0.05)
    assert highest - before < size / 2


def test_a_big_cell_is_executed(shared_kernel: Kernel):
    """The twin: two megabytes of code are unusual, not wrong."""
    code = "big = '''" + "x" * 2 * 2**20 + "'''\nlen(big)"
    assert shared_kernel.run(code).result["text/plain"] == str(2 * 2**20)


def test_two_clients_with_one_identity_do_not_stop_the_kernel(shared_kernel: Kernel):
    """ROUTER_HANDOVER: a client that reconnects takes its identity over."""
    with Wire(shared_kernel.connection_info) as first:
        first.request("kernel_info_request", {})
        first.receive("shell", timeout_s=60)
        with Wire(shared_kernel.connection_info) as second:
            second.session = first.session
            good = second.request("kernel_info_request", {})
            reply = second.wait_for("shell", "kernel_info_reply", good)
            assert reply.content["status"] == "ok"


def test_a_subscriber_to_one_topic_is_served(shared_kernel: Kernel, wire: Wire):
    wire.meet()
    message_id = wire.request("execute_request", {"code": "print('wire')", "silent": False})
    text = wire.wait_for("iopub", "stream", message_id)
    assert text.content["name"] == "stdout"
    assert "wire\n".startswith(text.content["text"])  # the first piece of it
    assert text.identities


def test_the_heartbeat_echoes(shared_kernel: Kernel, wire: Wire):
    heart = wire.socket("hb")
    assert heart.type == zmq.REQ
    heart.send(b"ping \x00\xff")
    assert heart.poll(60_000)
    assert heart.recv() == b"ping \x00\xff"
