"""Another user of this machine, who has no token, and connections to our port all the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from sandbox_kernel.ai.mcp import door
from tests.support.mcp_servers import HttpServer, http_server, over_http
from tests.support.waiting import until

HEAD = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with http_server() as running:
        yield running


def connect(server: HttpServer, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    made.sendall(sent)
    return made


@pytest.mark.parametrize("sent", [b"", HEAD], ids=["silent", "half a head"])
async def test_connections_that_say_nothing_keep_no_client_out(server, sent):
    """More than uvicorn serves at all; without a bound every client would get a 503."""
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    with ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(connect(server, sent % server.port if sent else b""))
        async with over_http(server) as client:
            assert (await client.list_tools()).tools
        until(
            lambda: process.num_fds() < before + door.MAX_STRANGERS + 20,
            "the server lets go of all but the newest",
        )


def test_who_sends_no_whole_head_in_time_is_hung_up_on(server):
    """A byte now and then does not lengthen the time."""
    with connect(server, HEAD % server.port) as slow:
        slow.settimeout(0.5)
        for number in range(int(door.HEAD_S * 2) + 100):
            try:
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                slow.sendall(b"X-%d: y\r\n" % number)
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is open yet")


def test_whoever_is_refused_is_hung_up_on_before_its_body_ends(server):
    chunked = HEAD % server.port + b"Transfer-Encoding: chunked\r\n\r\n1\r\n"
    with connect(server, chunked) as stranger:
        answer = b"".join(iter(lambda: stranger.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST http://127.0.0.1:%d/mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", b"404"),
        (b"POST /mcp HTTP/1.1\r\nHost: localhost.:%d\r\n", b"421"),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.1:%d\r\n", b"421"),
        (b"POST /mcp HTTP/1.1\r\nHost: [::ffff:127.0.0.1]:%d\r\n", b"421"),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: 127.0.0.1:%d\r\n", b"400"),
        (b"POST /mcp HTTP/1.0\r\n", b"421"),
        (b"POST //mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", b"404"),
        (b"POST /x/../mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", b"404"),
        (b"POST /mcp HTTP/1.1\r\nHost: LOCALHOST:%d\r\nMcp-Session-Id: a\r\n"
         b"Mcp-Session-Id: b\r\n", b"404"),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n"
         b"Origin: http://evil.example\r\n", b"403"),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d.\r\n", b"403"),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer x\r\n", b"401"),
    ],
)  # fmt: skip
def test_a_head_that_is_nearly_ours_is_refused(server, head, status):
    filled = head.replace(b"%d", b"%d" % server.port)
    token = b"Authorization: Bearer %s\r\n" % server.token.encode()
    with connect(server, filled + token + b"Content-Length: 0\r\nConnection: close\r\n\r\n") as it:
        answer = b"".join(iter(lambda: it.recv(4096), b""))
    assert answer.split(b" ", 2)[1] == status
