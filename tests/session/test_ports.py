"""A server inside is reached through a forward, as if it ran here, and nothing else is."""

import asyncio
import gc
import os
import re
import stat
from pathlib import Path

import pytest

from sandbox_kernel import guest, languages
from sandbox_kernel.errors import RequestRefused, SandboxDied, SettingsError
from sandbox_kernel.limits import MIB
from sandbox_kernel.session import connections as links
from sandbox_kernel.session import ports
from tests.support import docker_engine
from tests.support.waiting import DEADLINE_S

WEB = """
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self): self.answer(self.path.encode() * (500_000 if 'big' in self.path else 1))
    def do_POST(self): self.answer(self.rfile.read(int(self.headers['Content-Length']))[::-1])
    def answer(self, content):
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
web = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
"""
# One connection after the other: answers with all that it got, when there is no more.
ECHO = """
import socket, threading
echo = socket.create_server(({address!r}, {port}), family=socket.{family})
def serve():
    while True:
        client, _ = echo.accept()
        content = b''
        while piece := client.recv(65536): content += piece
        client.sendall(content.upper()); client.close()
threading.Thread(target=serve, daemon=True).start()
"""


async def until(condition):
    """Let others work until `condition` is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - it may be anything
            await asyncio.sleep(0.01)


async def open_forward(open_session, code, port=8000, **options):
    """A driver whose sandbox has a server, and a forward to it."""
    driver = await open_session(allow_forward=True, **options)
    assert (await driver.run(code)).outcome.error is None
    return driver, await driver.session.forward(port).open()


async def ask(forward, method="GET", path="/", content=b""):
    """The body of what a web server answers."""
    reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(head.encode() + content)
            await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer.splitlines()[0]
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            assert length is not None
            return await reader.readexactly(int(length[1]))
    finally:
        writer.close()


async def is_cut_off(forward):
    """Whether a connection ends without a word."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
            content = await reader.read()
            writer.close()
            return content == b""
    except ConnectionError:
        return True


async def test_a_web_server_inside_answers_while_cells_run(open_session):
    driver, forward = await open_forward(open_session, WEB)
    assert await ask(forward, path="/idle") == b"/idle"
    code = "while not asked: time.sleep(0.01)\nprint('asked')"
    await driver.run(
        "import time; asked = []\n"
        "Handler.do_GET = lambda self: (asked.append(1), self.answer(b'busy'))"
    )
    cell = asyncio.ensure_future(driver.run(code))
    await until(lambda: driver.session.is_busy)
    assert await ask(forward, path="/busy") == b"busy"
    assert (await cell).text() == "asked\n"


async def test_megabytes_pass_both_ways_while_a_cell_runs(open_session):
    driver, forward = await open_forward(open_session, WEB)
    content = os.urandom(10 * MIB)
    cell = asyncio.ensure_future(driver.run("print(sum(range(10**7)))"))
    up, down = await asyncio.gather(
        ask(forward, "POST", content=content), ask(forward, path="/a/big/path/of/20+")
    )
    assert up == content[::-1]
    assert down == b"/a/big/path/of/20+" * 500_000
    assert (await cell).text() == f"{sum(range(10**7))}\n"


async def test_a_server_of_node_answers(open_session, backend):
    image = languages.get("javascript").image if backend == "docker" else None
    if image is not None:
        docker_engine.require_image(image)
    code = "require('http').createServer((q, a) => a.end(q.url.slice(1))).listen(8000, '127.0.0.1')"
    driver = await open_session(allow_forward=True, image=image, language="javascript")
    await driver.run(f"{code}; 0")
    async with driver.session.forward(8000) as forward:
        await forward.wait_until_open(DEADLINE_S)
        reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
        writer.write(b"GET /node HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\nnode")
        writer.close()


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")])
async def test_a_client_that_says_no_more_still_gets_its_answer(
    open_session, backend, address, family
):
    if backend == "docker" and family == "AF_INET6":
        pytest.skip("docker: without a network, containers have no IPv6, not even on loopback")
    code = ECHO.format(address=address, port=8001, family=family)
    _, forward = await open_forward(open_session, code, 8001)
    reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
    writer.write(b"half " * 100_000)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b"HALF " * 100_000
    writer.close()


async def test_where_nobody_listens_a_client_is_cut_off_and_a_waiter_told(open_session):
    driver = await open_session(allow_forward=True)
    async with driver.session.forward(8002) as forward:
        assert await is_cut_off(forward)
        with pytest.raises(RequestRefused, match="Nobody listens at port 8002"):
            await forward.wait_until_open(0.1)
        waiting = asyncio.ensure_future(forward.wait_until_open(DEADLINE_S))
        await driver.run("import socket; server = socket.create_server(('127.0.0.1', 8002))")
        await waiting


async def test_forwards_are_off_unless_their_owner_allows_them(open_session):
    driver = await open_session()
    with pytest.raises(SettingsError, match="allow_forward=True"):
        driver.session.forward(8000)
    allowed = await open_session(allow_forward=True)
    async with allowed.session.forward(8000) as forward:
        assert forward.url == f"http://127.0.0.1:{forward.host_port}"
        assert re.fullmatch(r"http://sandbox-\w{8}\.localhost:\d+/", forward.browser_url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "0.0.0.0"}, "not offered to other machines"),
        ({"host": ""}, "not offered"),
        ({"host": "localhost"}, "not offered"),
        ({"guest_port": 0}, "guest_port is 0"),
        ({"guest_port": 65536}, "65536"),
        ({"guest_port": True}, "True"),
        ({"host_port": -1}, "-1"),
    ],
)
async def test_places_that_are_none_are_refused(open_session, options, said):
    driver = await open_session(allow_forward=True)
    with pytest.raises(SettingsError, match=said):
        driver.session.forward(**{"guest_port": 8000, **options})


async def test_a_port_that_is_taken_is_refused_and_one_of_choice_taken(open_session):
    driver = await open_session(allow_forward=True)
    async with driver.session.forward(8000) as first:
        with pytest.raises(SettingsError, match=f"port {first.host_port}"):
            await driver.session.forward(8000, host_port=first.host_port).open()
        port = first.host_port
    async with driver.session.forward(8000, host_port=port) as again:
        assert again.url.endswith(f":{port}")


async def test_a_unix_socket_is_its_owners_alone(open_session, tmp_path):
    driver, _ = await open_forward(open_session, WEB)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    path = str(private / "web.sock")
    async with driver.session.forward(8000, socket_path=path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /unix HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"/unix")
        writer.close()
        with pytest.raises(SettingsError, match="something at"):
            await driver.session.forward(8000, socket_path=path).open()
    assert not os.path.exists(path)
    private.chmod(0o750)
    with pytest.raises(SettingsError, match="open to other users"):
        await driver.session.forward(8000, socket_path=path).open()


async def test_the_sandboxs_death_ends_connections_and_its_successor_is_reached(open_session):
    driver, forward = await open_forward(open_session, WEB)
    reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
    writer.write(b"GET / HT")  # a request that never ends
    await forward.wait_until_open(DEADLINE_S)
    driver.sandbox.kill()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    await until(lambda: driver.session._guest is None)
    # A stranger's connection makes no sandbox.
    assert await is_cut_off(forward)
    with pytest.raises(SandboxDied):
        await forward.wait_until_open(1)
    await driver.run(WEB)
    assert await ask(forward, path="/new") == b"/new"


async def test_a_closed_session_listens_no_more_and_leaves_nothing(open_session):
    driver, forward = await open_forward(open_session, WEB)
    reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
    writer.write(b"GET / HT")
    await forward.wait_until_open(DEADLINE_S)
    await driver.session.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(forward.host, forward.host_port)
    await until(lambda: not [t for t in asyncio.all_tasks() if "_serve" in repr(t)])


@pytest.mark.parametrize("is_guest_slow", [True, False])
async def test_who_does_not_read_holds_up_nobody_else(open_session, is_guest_slow):
    """The slow end's memory is bounded by windows; cells and other connections go on."""
    slow = (
        "import socket, threading\nslow = socket.create_server(('127.0.0.1', 8003))\n"
        "def serve():\n    global client\n    client, _ = slow.accept()\n"
        + ("" if is_guest_slow else "    while True: client.sendall(bytes(1 << 20))\n")
        + "threading.Thread(target=serve, daemon=True).start()\n"
    )
    driver, forward = await open_forward(open_session, WEB + slow)
    async with driver.session.forward(8003) as stuck:
        _, writer = await asyncio.open_connection(stuck.host, stuck.host_port)
        writer.transport.pause_reading()
        if is_guest_slow:
            writer.write(bytes(64 * MIB))
        connections = driver.session._ports._connections
        await until(lambda: len(connections) == 1)
        [connection] = connections.values()
        assert await ask(forward, path="/other/big") == b"/other/big" * 500_000
        assert (await driver.run("print('cell')")).text() == "cell\n"
        assert 0 <= connection._room_bytes <= links.WINDOW_BYTES
        assert len(connection._arrived) <= links.WINDOW_BYTES
        status = await driver.session.status()
        assert status["memory_bytes"] < 400 * MIB
        ports._reset(writer)
        await until(lambda: not connections)


async def test_more_connections_than_there_may_be_are_cut_off(open_session):
    code = (
        "import socket, threading\nserver = socket.create_server(('127.0.0.1', 8004), backlog=99)\n"
        "held = []\ndef serve():\n    while True: held.append(server.accept())\n"
        "threading.Thread(target=serve, daemon=True).start()"
    )
    driver, forward = await open_forward(open_session, code, 8004)
    clients = [
        await asyncio.open_connection(forward.host, forward.host_port)
        for _ in range(links.MAX_CONNECTIONS)
    ]
    await until(lambda: len(driver.session._ports._connections) == links.MAX_CONNECTIONS)
    assert await is_cut_off(forward)
    for _, writer in clients:
        writer.close()
    await driver.run(
        f"while len(held) < {links.MAX_CONNECTIONS}: pass\nfor client, _ in held: client.close()"
    )
    await until(lambda: not driver.session._ports._connections)
    await forward.wait_until_open(DEADLINE_S)


async def test_many_short_connections_leave_nothing_behind(open_session):
    driver, forward = await open_forward(open_session, WEB)

    async def ask_often():
        for _ in range(10):
            assert await ask(forward, path="/often") == b"/often"

    await ask(forward)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(ask_often() for _ in range(10)))
    await until(lambda: not driver.session._ports._connections)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)


def test_both_ends_agree_on_the_bounds():
    """The guest's half runs on its own modules and is not imported here."""
    theirs = (Path(guest.__file__).parent / "ports.py").read_text(encoding="utf-8")
    for name in ("WINDOW_BYTES", "MAX_CONNECTIONS"):
        [line] = re.findall(rf"^{name} = .*$", theirs, re.MULTILINE)
        assert line in Path(links.__file__).read_text(encoding="utf-8").splitlines()
