"""The guest's half of a forward: windows, ends, and numbers that nobody knows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.session.connections import MAX_CONNECTIONS, WINDOW_BYTES
from tests.guest.support import DEADLINE_S, Guest


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listener at the supervisor's loopback, which is this machine's here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE_S)
        yield listening


def connect(guest: Guest, server: socket.socket) -> tuple[int, socket.socket]:
    """(number, the server's end) of a connection."""
    number = guest.number()
    guest.send(Kind.PORT_OPEN, number, {"port": server.getsockname()[1]})
    client, _ = server.accept()
    client.settimeout(DEADLINE_S)
    guest.wait(lambda frame: frame.kind == Kind.PORT_OPENED and frame.cell == number)
    return number, client


def received(guest: Guest, number: int) -> bytes:
    frames = [frame for frame in guest.frames if frame.cell == number]
    return b"".join(frame.data for frame in frames if frame.kind == Kind.PORT_OUT)


def closed(guest: Guest, number: int) -> str:
    """How the guest says that a connection ended."""
    frame = guest.wait(lambda frame: frame.kind == Kind.PORT_CLOSED and frame.cell == number)
    return str(frame.read_meta()["how"])


def test_bytes_pass_both_ways_and_each_end_is_told(guest: Guest, server: socket.socket) -> None:
    number, client = connect(guest, server)
    guest.send(Kind.PORT_DATA, number, None, b"to the server")
    guest.send(Kind.PORT_CLOSE, number, {"how": "half"})
    with client:
        assert client.makefile("rb").read() == b"to the server"
        client.sendall(b"to the client")
    assert closed(guest, number) == "half"
    assert received(guest, number) == b"to the client"
    guest.send(Kind.PORT_DATA, number, None, b"too late")
    assert guest.run("pass").outcome == "ok"


def test_a_server_is_not_read_beyond_the_window(guest: Guest, server: socket.socket) -> None:
    number, client = connect(guest, server)
    threading.Thread(target=client.sendall, args=(bytes(4 * WINDOW_BYTES),), daemon=True).start()
    guest.wait(lambda frame: len(received(guest, number)) == WINDOW_BYTES)
    for _ in range(3):
        assert guest.run("pass").outcome == "ok"
    assert len(received(guest, number)) == WINDOW_BYTES
    guest.send(Kind.PORT_CREDIT, number, {"count": 3 * WINDOW_BYTES})
    guest.wait(lambda frame: len(received(guest, number)) == 4 * WINDOW_BYTES)
    client.close()


def test_who_sends_more_than_the_window_is_cut_off(guest: Guest, server: socket.socket) -> None:
    number, client = connect(guest, server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(40):  # far more than the sockets between take
        guest.send(Kind.PORT_DATA, number, None, bytes(WINDOW_BYTES))
    assert closed(guest, number) == "reset"
    assert guest.run("pass").outcome == "ok"
    client.close()


def test_what_a_server_took_is_credited(guest: Guest, server: socket.socket) -> None:
    number, client = connect(guest, server)
    guest.send(Kind.PORT_DATA, number, None, bytes(WINDOW_BYTES))
    taken = 0
    while taken < WINDOW_BYTES:
        taken += len(client.recv(WINDOW_BYTES))
    guest.wait(lambda frame: frame.kind == Kind.PORT_CREDITED and frame.cell == number)
    credited = [frame.read_meta()["count"] for frame in guest.of_kind(Kind.PORT_CREDITED)]
    assert 0 < sum(credited) <= WINDOW_BYTES
    client.close()


def test_a_reset_is_passed_on_in_both_directions(guest: Guest, server: socket.socket) -> None:
    number, client = connect(guest, server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert closed(guest, number) == "reset"
    number, client = connect(guest, server)
    guest.send(Kind.PORT_CLOSE, number, {"how": "reset"})
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


@pytest.mark.parametrize("port", [0, 65536, -1, "80", None, 1.5, [80]])
def test_what_is_no_port_is_refused(guest: Guest, port: object) -> None:
    number = guest.number()
    guest.send(Kind.PORT_OPEN, number, {"port": port})
    assert closed(guest, number) == "refused"


def test_a_number_that_is_in_use_and_one_connection_too_many_are_refused(
    guest: Guest, server: socket.socket
) -> None:
    pairs = [connect(guest, server) for _ in range(MAX_CONNECTIONS)]
    number = guest.number()
    guest.send(Kind.PORT_OPEN, number, {"port": server.getsockname()[1]})
    assert closed(guest, number) == "refused"
    for number, client in pairs:
        client.close()
        guest.send(Kind.PORT_CLOSE, number, {"how": "half"})
    assert {closed(guest, number) for number, _ in pairs} == {"half"}
    number, client = connect(guest, server)
    client.close()


def test_frames_of_unknown_numbers_and_without_sense_do_no_harm(guest: Guest) -> None:
    guest.send(Kind.PORT_DATA, 77, None, b"x")
    guest.send(Kind.PORT_CREDIT, 77, {"count": 5})
    guest.send(Kind.PORT_CLOSE, 77, {"how": "half"})
    guest.send_bytes(b"\0\0\0\3" + bytes([Kind.PORT_OPEN]) + b"\0\0\0\7\0\0\0\3[1]")
    assert guest.wait_kind(Kind.REFUSAL).cell == 7
    assert guest.run("pass").outcome == "ok"
