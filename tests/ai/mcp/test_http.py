"""The HTTP server: who comes in, whose sessions are whose, and what is left of who goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import psutil
import pytest

from sandbox_kernel.ai.mcp import visits
from sandbox_kernel.ai.mcp.guard import Guard
from sandbox_kernel.ai.mcp.visits import Visits
from tests.support.mcp_servers import (
    HttpServer,
    http_server,
    over_http,
    sandboxes_below,
    text_of,
)
from tests.support.processes import alive
from tests.support.waiting import DEADLINE_S, until

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with http_server("--allow-origin", "http://localhost:6274") as running:
        yield running


async def ask(
    server: HttpServer, *, token: str | None = None, body: Any = INITIALIZE, **headers: str
) -> httpx2.Response:
    sent = {**ACCEPT, "Authorization": f"Bearer {token or server.token}", **headers}
    sent = {name: value for name, value in sent.items() if value}
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        return await http.post(server.url, json=body, headers=sent)


async def test_with_the_token_a_client_is_answered(server):
    answer = await ask(server)
    assert answer.status_code == 200
    assert answer.headers["mcp-session-id"]
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"token": "x" * 43}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "localhost:{port}"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:6274"}, 200),
        ({"Content-Type": "text/plain"}, 400),
        ({"Mcp-Session-Id": "f" * 32}, 404),
    ],
)
async def test_a_request_is_refused_for_one_header_and_taken_for_its_twin(server, headers, status):
    filled = {name: value.format(port=server.port) for name, value in headers.items()}
    assert (await ask(server, **filled)).status_code == status


async def test_a_body_that_is_too_long_is_refused_before_it_is_held(server):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(1024**2)

    headers = {**ACCEPT, "Authorization": f"Bearer {server.token}"}
    headers["Content-Type"] = "application/json"
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        declared = await http.post(server.url, content=bytes(17 * 1024**2), headers=headers)
        assert declared.status_code == 413
        try:
            streamed = await http.post(server.url, content=endless(), headers=headers)
            assert streamed.status_code == 413
        except httpx2.TransportError:
            pass  # it had hung up while we were still sending
    assert (await ask(server)).status_code == 200


@pytest.mark.parametrize("body", ["[", "{}", "[]", '{"jsonrpc":"2.0","id":1}', "[" * 100_000, "1"])
async def test_what_is_no_request_is_refused_and_the_server_goes_on(server, body):
    headers = {
        **ACCEPT,
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
    }
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        answer = await http.post(server.url, content=body.encode(), headers=headers)
    assert answer.status_code == 400
    assert (await ask(server)).status_code == 200


async def test_a_version_without_sessions_is_told_what_there_is(server):
    """By the specification a client that speaks both falls back; the official one does."""
    answer = await ask(server, **{"Mcp-Protocol-Version": "2026-07-28"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == -32022
    assert "2025-11-25" in error["data"]["supported"]


async def test_it_listens_at_loopback_only(server):
    sockets = psutil.Process(server.process.pid).net_connections("all")
    listening = {one.laddr for one in sockets if one.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", server.port)}


async def test_two_clients_have_nothing_of_each_other(server):
    async with over_http(server) as ann, over_http(server) as bob:
        mine = await ann.call_tool("run_code", {"code": "secret = 'of ann'\nopen('f', 'w')"})
        session = mine.structured_content["session"]
        other = await bob.call_tool("run_code", {"code": "'secret' in globals()"})
        assert other.structured_content["value"] == "False"
        assert other.structured_content["session"] != session
        for name, arguments in [
            ("run_code", {"code": "secret"}),
            ("run_command", {"command": "ls"}),
            ("list_files", {}),
            ("read_file", {"name": "f"}),
            ("write_file", {"name": "f", "content": "x"}),
            ("remove_file", {"name": "f"}),
            ("session_info", {}),
            ("restart_session", {}),
            ("close_session", {}),
        ]:
            theirs = await bob.call_tool(name, {**arguments, "session": session})
            assert theirs.is_error, name
            assert "You have no session" in text_of(theirs)
        listed = await bob.call_tool("list_sessions", {})
        assert session not in text_of(listed)
        with pytest.raises(Exception, match="You have no session"):
            await bob.read_resource(f"sandbox://{session}/f")
        assert session not in str((await bob.list_resources()).resources)
        own = await ann.call_tool("run_code", {"code": "secret", "session": session})
        assert own.structured_content["value"] == "'of ann'"
        assert (await ann.read_resource(f"sandbox://{session}/f")).contents


async def test_the_sandboxes_of_a_client_go_with_it(server):
    until(lambda: not sandboxes_below(server.process.pid), "others' sandboxes to be gone")
    async with over_http(server) as client:
        await client.call_tool("run_code", {"code": "1"})
        assert sandboxes_below(server.process.pid)
    until(lambda: not sandboxes_below(server.process.pid), "its sandbox to be gone")


async def test_there_are_as_many_sessions_as_its_owner_said():
    with http_server("--max-sessions", "1") as small:
        async with over_http(small) as ann, over_http(small) as bob:
            assert not (await ann.call_tool("run_code", {"code": "1"})).is_error
            refused = await bob.call_tool("run_code", {"code": "1"})
            assert refused.is_error
            assert "as many sessions as it may have" in text_of(refused)
            session = (await ann.call_tool("list_sessions", {})).structured_content["sessions"][0]
            await ann.call_tool("close_session", {"session": session["session"]})
            assert not (await bob.call_tool("run_code", {"code": "1"})).is_error


async def test_a_session_that_nobody_uses_ends():
    with http_server("--idle-timeout", "1s") as brief:
        async with over_http(brief) as client:
            made = await client.call_tool("run_code", {"code": "x = 1"})
            assert made.structured_content["ok"]
            # Not on the client's loop: it has its stream to keep open.
            await asyncio.to_thread(
                until, lambda: not sandboxes_below(brief.process.pid), "its sandbox to be gone"
            )
            again = await client.call_tool("run_code", {"code": "'x' in globals()"})
            assert "this is a new one" in text_of(again)


async def test_a_token_that_its_owner_gave_is_not_printed():
    token = "given-by-its-owner"
    with http_server(SANDBOX_KERNEL_MCP_TOKEN=token) as named:
        assert (await ask(named, token=token)).status_code == 200
        assert token not in "".join(named.said)


async def test_the_token_reaches_no_sandbox(server):
    async with over_http(server) as client:
        found = await client.call_tool("run_code", {"code": "import os; dict(os.environ)"})
        assert server.token not in str(found)
        assert "MCP_TOKEN" not in str(found.structured_content)


async def test_a_signal_ends_it_with_its_sandboxes():
    with http_server() as running:
        async with over_http(running) as client:
            await client.call_tool("run_code", {"code": "1"})
            below = sandboxes_below(running.process.pid)
            assert below
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(DEADLINE_S) == 0
        until(lambda: not alive(below), "its sandboxes to be gone")


# --- visits, without a server ------------------------------------------------------------

TOKEN = "correct-horse-battery"


class FakeClient:
    """What `visits` does with a client: closes it."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


class Sdk:
    """The SDK's part: every POST opens a session, and everything is answered with 200."""

    def __init__(self, idle_timeout_s: float | None) -> None:
        self.seen: list[str] = []
        self.clients: list[FakeClient] = []
        guard = Guard(TOKEN, 1)
        self.visits = Visits(self._app, guard, ("2025-11-25",), self._make, idle_timeout_s)

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        self.seen.append(scope["method"])
        headers = [(b"mcp-session-id", f"id{self.seen.count('POST')}".encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def _make(self) -> Any:
        self.clients.append(FakeClient())
        return self.clients[-1]

    async def request(self, method: str, session_id: str = "") -> list[int]:
        headers = [(b"host", b"127.0.0.1:1"), (b"authorization", f"Bearer {TOKEN}".encode())]
        if session_id:
            headers.append((b"mcp-session-id", session_id.encode()))
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        scope = {"type": "http", "method": method, "path": "/mcp", "headers": headers}
        await self.visits(scope, None, send)
        return statuses


async def test_a_client_whose_stream_broke_off_is_gone_soon(monkeypatch: pytest.MonkeyPatch):
    """As when its process dies. The twin without a stream stays: it may be thinking."""
    monkeypatch.setattr(visits, "GONE_S", 0.05)
    sdk = Sdk(idle_timeout_s=None)
    await sdk.request("POST")
    await sdk.request("POST")
    await sdk.request("GET", "id1")
    await sees_close(sdk, sdk.clients[0])
    assert sdk.visits.client("id2") is sdk.clients[1]
    await sdk.visits.close()
    assert sdk.clients[1].closed.is_set()


async def test_a_client_that_is_away_too_long_is_forgotten():
    """It never said DELETE, as one that was killed; its id is good for nothing then."""
    sdk = Sdk(idle_timeout_s=0.05)
    await sdk.request("POST")
    assert await sdk.request("POST", "id1") == [200]
    await sees_close(sdk, sdk.clients[0])
    assert await sdk.request("POST", "id1") == [404]


async def sees_close(sdk: Sdk, client: FakeClient) -> None:
    watching = asyncio.ensure_future(sdk.visits.watch())
    async with asyncio.timeout(DEADLINE_S):
        await client.closed.wait()
    assert sdk.seen[-1] == "DELETE"
    watching.cancel()
    assert sdk.visits.client("id1") is None


async def test_there_are_as_many_clients_as_can_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visits, "MAX_CLIENTS", 2)
    sdk = Sdk(idle_timeout_s=None)
    assert [await sdk.request("POST") for _ in range(3)] == [[200], [200], [503]]
    await sdk.request("DELETE", "id1")
    assert await sdk.request("POST") == [200]
    await sdk.visits.close()
