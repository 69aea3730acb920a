"""What a hostile runner says, and what of it reaches the host."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sandbox_kernel.guest.framing import MAX_FRAME_BYTES, Kind
from tests.guest.support import Guest, poll

StartGuest = Callable[..., Guest]


@pytest.mark.parametrize(
    "code",
    [
        "send(CELL_ENDED, cell, {'outcome': 'ok', 'receipt': {}})",
        "send(EXECUTE, cell)",
        "send(0, cell)",
        "send(255, cell)",
        "requests.sendall(b'GET / HTTP/1.1' * 10)",
        "requests.sendall(HEADER.pack(2**32 - 1, STDOUT, cell, 0))",
        f"requests.sendall(HEADER.pack({MAX_FRAME_BYTES + 1}, STDOUT, cell, 0))",
        "requests.sendall(HEADER.pack(10, STDOUT, cell, 11))",
    ],
)
def test_a_runner_that_sends_what_no_runner_sends_is_killed(guest: Guest, code: str) -> None:
    cell = guest.run(f"send(STDOUT, cell, data=b'before')\n{code}\ntime.sleep(60)")
    assert cell.stdout == b"before"
    assert cell.outcome == "lost"
    exit_ = guest.wait_kind(Kind.RUNNER_EXITED).read_meta()
    assert exit_["cause"] == "protocol"
    assert exit_["detail"].endswith(".")
    assert len(guest.of_kind(Kind.CELL_ENDED)) == 1
    assert guest.run("pass").outcome == "ok"


def test_a_frame_as_large_as_one_may_be_passes(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 0})
    cell = guest.run(f"send(STDOUT, cell, data=b'x' * {MAX_FRAME_BYTES})")
    assert len(cell.stdout) == MAX_FRAME_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_frames_arrive_whole_and_in_order_however_they_are_cut(
    start_guest: StartGuest, seed: int
) -> None:
    guest = start_guest(limits={"output_bytes": 0})
    code = f"import random\nrandom.seed({seed})\n"
    code += "sizes = [random.choice((1, 13, 1000, 70000, 900000)) for _ in range(60)]\n"
    code += "text = b''.join(b'%06d' % n * 10 for n in range(200000))\nplace = 0\nstream = b''\n"
    code += (
        "for size in sizes:\n    stream += frame(STDOUT, cell, data=text[place : place + size])\n"
    )
    code += (
        "    place += size\nwhile stream:\n    count = random.choice((1, 12, 14, 5000, 300000))\n"
    )
    code += "    requests.sendall(stream[:count])\n    stream = stream[count:]\n"
    cell = guest.run(code)
    text = b"".join(b"%06d" % n * 10 for n in range(200000))
    assert cell.stdout == text[: cell.end["receipt"]["output_bytes"]]
    assert len(cell.stdout) > 0


@pytest.mark.parametrize("seed", range(10))
def test_noise_of_a_runner_never_ends_the_supervisor(guest: Guest, seed: int) -> None:
    """Noise that begins like a frame, now and then with a kind that a runner may send."""
    code = f"import random\nrandom.seed({seed})\nfor _ in range(200):\n"
    code += "    body = os.urandom(random.randrange(60))\n"
    code += "    header = (len(body), random.randrange(32, 44), random.choice((0, cell, 99)),"
    code += " random.randrange(len(body) + 2))\n    requests.sendall(HEADER.pack(*header) + body)"
    guest.run(code)
    assert guest.request(Kind.STATUS).kind == Kind.ANSWER
    guest.request(Kind.RESTART_RUNNER)
    assert guest.run("pass").outcome == "ok"


def test_half_a_frame_and_a_stall_holds_nothing_up(guest: Guest) -> None:
    code = "requests.sendall(HEADER.pack(1000, STDOUT, cell, 0) + b'x' * 500)\n"
    cell = guest.start(code + "open('sent', 'w').close()\ntime.sleep(60)")
    poll((guest.workspace / "sent").exists)
    assert guest.request(Kind.STATUS).read_meta()["runner"]["state"] == "busy"
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGKILL"})
    ended = guest.finish(cell)
    assert ended.outcome == "lost"
    assert ended.stdout == b""
    assert guest.run("pass").outcome == "ok"


def test_output_for_a_cell_that_never_was_is_dropped(guest: Guest) -> None:
    code = "for n in (cell + 1, 2**32 - 1):\n    send(STDOUT, n, data=b'x')\n"
    code += "    send(DISPLAY, n, {})\n    send(RESULT, n, {})\n    send(INPUT_REQUEST, n, {})\n"
    guest.run(code + "send(STDOUT, cell, data=b'mine')")
    output = [frame for frame in guest.frames if frame.kind in range(Kind.STDOUT, Kind.REPLY)]
    assert [(frame.cell, frame.data) for frame in output] == [(1, b"mine")]


def test_output_of_an_earlier_cell_keeps_its_number(guest: Guest) -> None:
    guest.run("first = cell")
    guest.run("send(STDOUT, first, data=b'late')\nsend(STDOUT, 0, data=b'nobody')")
    output = [(frame.cell, frame.data) for frame in guest.of_kind(Kind.STDOUT)]
    assert output == [(1, b"late"), (0, b"nobody")]


def test_replies_to_other_requests_than_those_made_are_dropped(guest: Guest) -> None:
    guest.run("pass")
    code = "for n in (0, cell - 1, cell + 1):\n    send(REPLY, n, {'status': 'ok'})\n"
    code += "send(RUNNER_READY, 0, {})\nsend(RUNNER_READY, cell, {})"
    assert guest.run(code).kinds == [Kind.REPLY, Kind.CELL_ENDED]
    assert len(guest.of_kind(Kind.REPLY)) == 2
    assert len(guest.of_kind(Kind.RUNNER_READY)) == 1


def test_a_second_reply_to_a_cell_is_dropped(guest: Guest) -> None:
    guest.run("for _ in range(3): send(REPLY, cell, {'status': 'ok'})")
    guest.run("pass")
    assert [frame.cell for frame in guest.of_kind(Kind.REPLY)] == [1, 2]
    assert [frame.cell for frame in guest.of_kind(Kind.CELL_ENDED)] == [1, 2]


def test_only_the_running_cell_may_ask_and_once_at_a_time(guest: Guest) -> None:
    guest.run("pass")
    code = "send(INPUT_REQUEST, cell - 1, {'prompt': 'forged'})\n"
    code += "for _ in range(100): send(INPUT_REQUEST, cell, {'prompt': 'flood'})\n"
    cell = guest.start(code + "send(STDOUT, cell, data=b'asked')\nreceive(inputs)")
    guest.wait_kind(Kind.STDOUT)
    guest.send(Kind.INPUT_REPLY, cell, {}, b"answer")
    guest.finish(cell)
    assert [frame.cell for frame in guest.of_kind(Kind.INPUT_REQUEST)] == [cell]


@pytest.mark.parametrize("reply", ["{'status': 'haha'}", "{'status': {}}", "None"])
def test_a_reply_without_a_status_goes_by_whether_an_error_was_shown(
    guest: Guest, reply: str
) -> None:
    assert guest.run(f"send(REPLY, cell, {reply})").outcome == "ok"
    assert guest.run(f"send(ERROR, cell, {{}})\nsend(REPLY, cell, {reply})").outcome == "error"


def test_a_flood_of_tiny_frames_passes_complete(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 0})
    code = "many = frame(STDOUT, cell, data=b'x') * 1000\nfor _ in range(100):"
    cell = guest.run(code + " requests.sendall(many)")
    assert cell.end["receipt"]["output_bytes"] == 100_000 == len(cell.stdout)


def test_empty_frames_are_dropped_because_no_budget_counts_them(guest: Guest) -> None:
    cell = guest.run("requests.sendall(frame(STDOUT, cell) * 10000)")
    assert cell.kinds == [Kind.REPLY, Kind.CELL_ENDED]


def test_displays_over_their_number_are_dropped_with_one_notice(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"displays": 10})
    code = "for _ in range(500):\n    send(DISPLAY, cell, {})\n    send(UPDATE_DISPLAY, cell, {})\n"
    cell = guest.run(code + "send(RESULT, cell, {})\n1 / 0")
    assert cell.kinds.count(Kind.DISPLAY) + cell.kinds.count(Kind.UPDATE_DISPLAY) == 10
    assert cell.notice("displays_dropped")["limit"] == 10
    # The result and the error of a cell that displays too much are still seen.
    assert cell.kinds[-4:] == [Kind.RESULT, Kind.ERROR, Kind.REPLY, Kind.CELL_ENDED]
    assert guest.run("send(DISPLAY, cell, {})").kinds[0] == Kind.DISPLAY


def test_a_display_over_its_size_is_dropped_with_its_size(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"artifact_bytes": 3 * 2**20})
    size = 5 * 2**20
    code = f"for n in ({size}, {size + 1}): send(DISPLAY, cell, data=b'x' * n)"
    cell = guest.run(code)
    notice = {"code": "display_too_large", "size": size + 1, "limit_bytes": size}
    assert cell.notice("display_too_large") == notice
    assert cell.kinds.count(Kind.DISPLAY) == 1


def test_a_runner_that_never_reads_costs_bounded_memory_and_can_be_restarted(
    guest: Guest,
) -> None:
    cell = guest.start("send(STDOUT, cell, data=b'deaf')\ntime.sleep(600)")
    guest.wait_kind(Kind.STDOUT)
    for _ in range(100):
        guest.send(Kind.COMM, guest.number(), {}, b"x" * 2**20)
    refusal = guest.wait_kind(Kind.REFUSAL)
    assert "does not read" in refusal.read_meta()["reason"]
    assert guest.request(Kind.RESTART_RUNNER).kind == Kind.ANSWER
    assert guest.finish(cell).outcome == "lost"
    assert guest.run("pass").outcome == "ok"


def test_a_host_that_does_not_read_stops_the_runner_and_still_gets_its_signals_through(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(limits={"output_bytes": 0})
    guest.run("pass")
    code = "block = frame(STDOUT, cell, data=b'x' * 65536)\ncount = 0\n"
    code += "while True:\n    requests.sendall(block)\n    count += 1\n"
    code += "    open('count', 'w').write(str(count))"
    cell = guest.start(code)
    count_file = guest.workspace / "count"
    # 64 KiB each: what lies in sockets and pipes, and the supervisor's 4 MiB.
    assert int(poll(lambda: _steady_text(count_file))) < 200
    assert _memory_bytes(guest.process.pid) < 100 << 20
    number = guest.number()
    guest.send(Kind.RESTART_RUNNER, number)
    assert guest.finish(cell).outcome == "lost"
    assert guest.run("pass").outcome == "ok"


def _steady_text(path: object) -> str:
    """The count in a file, if it has stopped growing for a quarter of a second."""
    text = _read(path)
    deadline = time.monotonic() + 0.25
    while time.monotonic() < deadline:
        if _read(path) != text:
            return ""
    return text


def _read(path: object) -> str:
    try:
        with open(str(path)) as file:
            return file.read()
    except OSError:
        return ""


def _memory_bytes(pid: int) -> int:
    return int(_read(f"/proc/{pid}/statm").split()[1]) * 4096
