"""The supervisor between a host that offers tools and runners that call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sandbox_kernel.guest.framing import Kind
from tests.guest.support import FAITHFUL, Guest

StartGuest = Callable[..., Guest]

TAKES = FAITHFUL.replace('"banner": ""', '"banner": "", "tools": True').replace(
    "        if kind != EXECUTE:",
    "        if kind == 22:\n            namespace['told'] = meta\n            continue\n"
    "        if kind != EXECUTE:",
)
OFFER = {"tools": [{"name": "search"}], "concurrency": 2}
SHOW = "send(STDOUT, cell, data=json.dumps(globals().get('told')).encode())"
CALL = "send(43, cell, {'call': 7, 'name': 'search'}, b'{}')"


def test_runners_that_take_tools_hear_of_them_and_fresh_ones_too(start_guest: StartGuest) -> None:
    guest = start_guest(TAKES)
    assert guest.request(Kind.TOOLS, OFFER).kind == Kind.ANSWER
    assert b'"search"' in guest.run(SHOW).stdout
    guest.request(Kind.RESTART_RUNNER)
    assert b'"search"' in guest.run(SHOW).stdout


def test_tools_are_known_to_a_runner_that_starts_later(
    start_guest: StartGuest, python: str, tmp_path: Path
) -> None:
    guest = start_guest(TAKES)
    guest.request(Kind.TOOLS, OFFER)
    argv = [python, "-I", "-S", str(tmp_path / "runner.py")]
    guest.request(Kind.ADD_RUNNER, {"name": "other", "argv": argv})
    assert b'"search"' in guest.run(SHOW, runner="other").stdout


def test_a_runner_that_takes_none_is_not_bothered(guest: Guest) -> None:
    assert guest.request(Kind.TOOLS, OFFER).kind == Kind.ANSWER
    source = "requests.setblocking(False)\ntry: seen = requests.recv(1)\n"
    source += "except BlockingIOError: seen = b'nothing'\nrequests.setblocking(True)\n"
    assert guest.run(source + "send(STDOUT, cell, data=seen)").stdout == b"nothing"


def test_a_call_is_passed_on_and_its_answer_reaches_the_cell(start_guest: StartGuest) -> None:
    guest = start_guest(TAKES)
    guest.request(Kind.TOOLS, OFFER)
    cell = guest.start(
        CALL + "\nkind, _, meta, data, _ = receive(inputs)\n"
        "send(STDOUT, cell, data=b'%d %d ' % (kind, meta['call']) + data)"
    )
    call = guest.wait_kind(Kind.TOOL_CALL)
    assert (call.cell, call.read_meta(), call.data) == (cell, {"call": 7, "name": "search"}, b"{}")
    guest.send(Kind.TOOL_REPLY, cell, {"call": 7, "ok": True}, b"[1]")
    assert guest.finish(cell).stdout == b"17 7 [1]"


def test_calls_without_tools_or_for_cells_that_never_were_are_dropped(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(TAKES)
    guest.run(CALL)
    guest.request(Kind.TOOLS, OFFER)
    guest.run("for each in (0, 999, 2**31): send(43, each, {'call': 1, 'name': 'search'})")
    assert not guest.of_kind(Kind.TOOL_CALL)
    guest.run(CALL)
    assert len(guest.of_kind(Kind.TOOL_CALL)) == 1


def test_an_answer_for_nobody_harms_nobody(start_guest: StartGuest) -> None:
    guest = start_guest(TAKES)
    for cell in (0, 1, 5000):
        guest.send(Kind.TOOL_REPLY, cell, {"call": 1, "ok": True}, b"1")
    assert guest.run("send(STDOUT, cell, data=b'on')").stdout == b"on"


def test_an_answer_longer_than_a_socket_holds_arrives_whole(start_guest: StartGuest) -> None:
    guest = start_guest(TAKES)
    guest.request(Kind.TOOLS, OFFER)
    cell = guest.start(
        CALL
        + "\ntime.sleep(0.2)\ndata = receive(inputs)[3]\nsend(STDOUT, cell, data=b'%d' % len(data))"
    )
    guest.wait_kind(Kind.TOOL_CALL)
    guest.send(Kind.TOOL_REPLY, cell, {"call": 7, "ok": True}, bytes(8 << 20))
    assert guest.finish(cell).stdout == b"8388608"
