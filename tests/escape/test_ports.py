"""A forward opens the way in, and no way out: nothing that the guest says opens a connection.

The oracle: a TCP listener on the host, which nobody may ever reach from inside.
"""

import asyncio
import contextlib

import pytest

from sandbox_kernel import events
from sandbox_kernel.frames import EventDecoder
from sandbox_kernel.guest.framing import Kind, pack
from sandbox_kernel.session.connections import WINDOW_BYTES

PORT = 8000
# Says frames of the supervisor's on the runner's own socket.
FORGE = """
import os, socket, struct
for fd in range(3, 64):
    try: runner = socket.socket(fileno=os.dup(fd))
    except OSError: continue
    if runner.family == socket.AF_UNIX and runner.type == socket.SOCK_STREAM:
        frame = struct.pack('!IBII', 4, {kind}, {number}, 0) + b'evil'
        try: runner.sendall(frame)
        except OSError: pass
"""
SERVE = f"""
import socket, threading
server = socket.create_server(('127.0.0.1', {PORT}))
def serve():
    while True:
        client, _ = server.accept()
        threading.Thread(target=talk, args=(client,)).start()
def talk(client):
    while piece := client.recv(65536): client.sendall(piece)
    client.close()
threading.Thread(target=serve, daemon=True).start()
"""


class Canary:
    """A listener of the host's, and how often it was reached."""

    def __init__(self):
        self.visits = 0

    async def visited(self, _reader, writer):
        self.visits += 1
        writer.write(b"canary")
        writer.close()


@contextlib.asynccontextmanager
async def canary():
    found = Canary()
    server = await asyncio.start_server(found.visited, "127.0.0.1", 0)
    async with server:
        yield found, server.sockets[0].getsockname()[1]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it may be anything
            await asyncio.sleep(0.01)


async def connected(driver):
    """A client of an open forward, and the number of its connection."""
    forward = await driver.session.forward(PORT).open()
    reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    [number] = driver.session._ports._connections
    return reader, writer, number


def say(driver, *frames):
    """Let the host hear `frames`, as from a supervisor that was taken over."""
    driver.session._guest._take(EventDecoder().feed(b"".join(frames)))


@pytest.mark.parametrize("kind", [Kind.PORT_OUT, Kind.PORT_OPENED, Kind.PORT_CLOSED])
async def test_a_runner_that_speaks_of_connections_is_killed(open_session, kind):
    driver = await open_session(allow_forward=True)
    await driver.run(SERVE)
    _, writer, number = await connected(driver)
    cell = await driver.run(FORGE.format(kind=kind, number=number))
    assert cell.error.name == "RunnerExited"
    assert "not our protocol" in cell.error.value
    writer.close()
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_a_forward_leads_to_the_sandbox_and_not_to_the_hosts_own_port(open_session):
    async with canary() as (found, port):
        driver = await open_session(allow_forward=True)
        async with driver.session.forward(port) as forward:
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection(forward.host, forward.host_port)
                assert await reader.read() == b""
                writer.close()
        assert found.visits == 0
        # The twin: who may, reaches it.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"canary"
        writer.close()
        assert found.visits == 1


async def test_frames_for_connections_that_nobody_opened_open_none(open_session):
    driver = await open_session(allow_forward=True)
    await driver.run(SERVE)
    reader, writer, number = await connected(driver)
    async with canary() as (found, port):
        for strange in (0, number + 1, number - 1, 2**32 - 1):
            say(
                driver,
                pack(Kind.PORT_OPENED, strange, {"port": port, "host": "127.0.0.1"}),
                pack(Kind.PORT_OUT, strange, {"port": port}, b"x" * 100_000),
                pack(Kind.PORT_CREDITED, strange, {"count": 2**60}),
                pack(Kind.PORT_CLOSED, strange, {"how": "half"}),
            )
        assert list(driver.session._ports._connections) == [number]
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        assert (await driver.run("print('next')")).text() == "next\n"
        assert found.visits == 0
    writer.close()


@pytest.mark.parametrize(
    "lies",
    [
        [pack(Kind.PORT_OPENED, 0)],
        [pack(Kind.PORT_CREDITED, 0, {"count": 2**62})],
        [pack(Kind.PORT_OUT, 0, None, b"")],
        [pack(Kind.PORT_OUT, 0, None, bytes(WINDOW_BYTES + 1))],
        [pack(Kind.PORT_OUT, 0, None, bytes(64))] * (WINDOW_BYTES // 64 + 1),
        [pack(Kind.PORT_CLOSED, 0, {"how": "half"}), pack(Kind.PORT_OUT, 0, None, b"more")],
    ],
    ids=["opened twice", "credit", "empty", "one frame", "many frames", "after its end"],
)
async def test_a_lie_about_a_connection_ends_that_one_only(open_session, lies):
    driver = await open_session(allow_forward=True)
    await driver.run(SERVE)
    reader, writer, number = await connected(driver)
    bystander = await driver.session._ports.open(PORT)
    say(driver, *(frame[:5] + number.to_bytes(4, "big") + frame[9:] for frame in lies))
    assert list(driver.session._ports._connections) == [bystander.number]
    with contextlib.suppress(ConnectionError):
        assert len(await asyncio.wait_for(reader.read(), 60)) <= WINDOW_BYTES
    writer.close()
    await bystander.send(b"unharmed", lambda: True)
    assert await bystander.receive() == b"unharmed"
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_without_leave_nothing_is_heard_of_connections(open_session):
    driver = await open_session()
    say(driver, pack(Kind.PORT_OPENED, 1), pack(Kind.PORT_OUT, 1, None, b"x" * 1_000_000))
    assert not [event for event in driver.late if isinstance(event, events.PortHeard)]
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_a_server_that_floods_does_not_grow_the_host(open_session):
    """The client reads nothing: what is kept for it is a window, and what sockets take."""
    driver = await open_session(allow_forward=True)
    await driver.run(
        f"import socket, threading\nserver = socket.create_server(('127.0.0.1', {PORT}))\n"
        "sent = [0]\ndef flood(client):\n    while True: sent[0] += client.send(bytes(1 << 20))\n"
        "def serve():\n    while True: threading.Thread("
        "target=flood, args=(server.accept()[0],), daemon=True).start()\n"
        "threading.Thread(target=serve, daemon=True).start()"
    )
    clients = []
    async with driver.session.forward(PORT) as forward:
        for _ in range(10):
            _, writer = await asyncio.open_connection(forward.host, forward.host_port)
            writer.transport.pause_reading()
            clients.append(writer)
        connections = driver.session._ports._connections
        await until(lambda: len(connections) == 10)
        await until(lambda: all(c._unpassed_bytes for c in connections.values()))
        assert (await driver.run("print('next')")).text() == "next\n"
        assert all(c._unpassed_bytes <= WINDOW_BYTES for c in connections.values())
        for writer in clients:
            writer.close()
