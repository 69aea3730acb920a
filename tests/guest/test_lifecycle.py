"""Runners that die, do not start, or are restarted."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest.support import PRELUDE, Guest, poll

StartGuest = Callable[..., Guest]


def exits(guest: Guest) -> list[dict[str, object]]:
    return [frame.read_meta() for frame in guest.of_kind(Kind.RUNNER_EXITED)]


@pytest.mark.parametrize(
    ("code", "cause", "exit_code", "number"),
    [
        ("os._exit(7)", "exited", 7, None),
        ("os.kill(os.getpid(), 9)", "signalled", None, signal.SIGKILL),
        ("os.kill(os.getpid(), 11)", "signalled", None, signal.SIGSEGV),
        ("os.execv('/bin/true', ['true'])", "exited", 0, None),
    ],
)
def test_a_runner_that_dies_in_a_cell_is_reported_and_replaced(
    guest: Guest, code: str, cause: str, exit_code: int | None, number: int | None
) -> None:
    cell = guest.run(f"name = 1\nsend(STDOUT, cell, data=b'last words')\n{code}")
    [exit_] = exits(guest)
    assert (exit_["cause"], exit_["exit_code"], exit_["signal"]) == (cause, exit_code, number)
    assert exit_["generation"] == 1
    assert cell.stdout == b"last words"
    assert cell.outcome == "lost"
    assert cell.end["receipt"]["peak_memory_bytes"] > 0
    assert guest.wait_kind(Kind.RUNNER_STARTED, generation=2)
    assert guest.run("name").outcome == "error"


def test_the_order_of_a_death_is_exit_then_the_cells_end_then_a_fresh_runner(guest: Guest) -> None:
    guest.run("send(STDOUT, cell, data=b'words')\nos.write(1, b'pipe')\nos._exit(1)")
    guest.wait_kind(Kind.RUNNER_STARTED, generation=2)
    kinds = [frame.kind for frame in guest.frames[2:]]
    assert kinds.index(Kind.STDOUT) < kinds.index(Kind.RUNNER_EXITED)
    rest = kinds[kinds.index(Kind.RUNNER_EXITED) :]
    rest = [kind for kind in rest if kind != Kind.STDOUT]
    assert rest[:3] == [Kind.RUNNER_EXITED, Kind.CELL_ENDED, Kind.RUNNER_STARTED]


def test_a_reply_sent_just_before_death_still_counts(guest: Guest) -> None:
    cell = guest.run("send(REPLY, cell, {'status': 'ok'})\nos._exit(0)")
    assert cell.outcome == "ok"
    assert guest.wait_kind(Kind.RUNNER_EXITED).read_meta()["cause"] == "exited"
    assert guest.run("pass").outcome == "ok"


def test_a_death_between_cells_is_reported_and_the_next_cell_runs(guest: Guest) -> None:
    guest.run("threading.Timer(0.05, os._exit, [3]).start()")
    assert guest.wait_kind(Kind.RUNNER_EXITED).read_meta()["exit_code"] == 3
    assert guest.run("pass").outcome == "ok"


def test_other_requests_of_a_dead_runner_are_refused(guest: Guest) -> None:
    cell = guest.start("receive()\nreceive()\nos._exit(1)")
    numbers = [guest.number(), guest.number()]
    for number in numbers:
        guest.send(Kind.IS_COMPLETE, number, {}, b"1")
    guest.finish(cell)
    refused = {frame.cell for frame in guest.of_kind(Kind.REFUSAL)}
    assert refused == set(numbers)


def test_children_in_the_runners_group_die_with_it(guest: Guest) -> None:
    code = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
    code += "send(DISPLAY, cell, {'pid': child.pid})\nos._exit(1)"
    pid = guest.run(code).frames[0].read_meta()["pid"]
    poll(lambda: _state(pid) in "ZX")


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def test_a_runner_that_cannot_be_executed_is_missing(start_guest: StartGuest) -> None:
    guest = start_guest(runner=["/nowhere/python", "x"])
    cell = guest.start("pass")
    exit_ = guest.wait_kind(Kind.RUNNER_EXITED).read_meta()
    assert exit_["cause"] == "missing"
    assert "/nowhere/python" in exit_["detail"]
    refusal = guest.wait(lambda frame: frame.cell == cell and frame.kind == Kind.REFUSAL)
    assert "/nowhere/python" in refusal.read_meta()["reason"]
    assert guest.request(Kind.COMPLETE).kind == Kind.REFUSAL
    assert guest.request(Kind.STATUS).read_meta()["runner"]["state"] == "missing"
    assert guest.request(Kind.FILE_LIST).kind == Kind.ANSWER


def test_a_runner_that_dies_before_it_is_ready_is_tried_three_times(
    start_guest: StartGuest,
) -> None:
    guest = start_guest("import sys\nsys.exit('no such module: numpy')")
    causes = []
    for count in (1, 2, 3):
        exit_ = guest.wait_kind(Kind.RUNNER_EXITED, count=count).read_meta()
        causes.append(exit_["cause"])
        assert exit_["detail"] == "no such module: numpy"
        assert exit_["exit_code"] == 1
    assert causes == ["exited", "exited", "missing"]
    refusal = guest.request(Kind.EXECUTE)
    assert "no such module: numpy" in refusal.read_meta()["reason"]


def test_a_restart_tries_a_missing_runner_again(start_guest: StartGuest) -> None:
    source = PRELUDE + "\nos.path.exists('fixed') or os._exit(1)\nserve()\n"
    guest = start_guest(source)
    guest.wait_kind(Kind.RUNNER_EXITED, cause="missing")
    (guest.workspace / "fixed").touch()
    assert guest.request(Kind.RESTART_RUNNER).read_meta() == {"generation": 4}
    assert guest.run("pass").outcome == "ok"


def test_a_chatty_start_does_not_block_the_runner(start_guest: StartGuest) -> None:
    source = PRELUDE + "\nfor _ in range(100): os.write(2, b'warning ' * 1000)\nserve()\n"
    guest = start_guest(source)
    assert guest.run("pass").outcome == "ok"
    assert not guest.of_kind(Kind.STDERR)


def test_a_restart_loses_variables_and_keeps_files(guest: Guest) -> None:
    guest.run("name = 1\nopen('kept.txt', 'w').write('kept')")
    assert guest.request(Kind.RESTART_RUNNER).read_meta() == {"generation": 2}
    assert [exit_["cause"] for exit_ in exits(guest)] == ["restarted"]
    cell = guest.run("send(STDOUT, cell, data=open('kept.txt').read().encode())\nname")
    assert cell.stdout == b"kept"
    assert cell.outcome == "error"


def test_a_restart_ends_a_cell_that_ignores_every_signal(guest: Guest) -> None:
    code = "for n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"
    code += "send(STDOUT, cell, data=b'on')\nwhile True: pass"
    cell = guest.start(code)
    waiting = guest.start("pass")
    guest.wait_kind(Kind.STDOUT)
    answer = guest.request(Kind.RESTART_RUNNER)
    assert answer.read_meta() == {"generation": 2}
    ended = guest.finish(cell)
    assert ended.outcome == "lost"
    assert guest.frames.index(ended.frames[-1]) < guest.frames.index(answer)
    assert [f.cell for f in guest.of_kind(Kind.REFUSAL)] == [waiting]
    assert guest.run("pass").outcome == "ok"


def test_a_restart_before_the_runner_is_ready_is_answered(start_guest: StartGuest) -> None:
    source = PRELUDE + "\nwhile not os.path.exists('go'): time.sleep(0.01)\nserve()\n"
    guest = start_guest(source)
    guest.wait_kind(Kind.RUNNER_STARTED)
    answers = [guest.request(Kind.RESTART_RUNNER).read_meta() for _ in range(3)]
    assert answers == [{"generation": 2}, {"generation": 3}, {"generation": 4}]
    (guest.workspace / "go").touch()
    assert guest.run("pass").outcome == "ok"


def test_sigkill_from_the_host_is_a_death_by_signal(guest: Guest) -> None:
    cell = guest.start("send(STDOUT, cell, data=b'on')\ntime.sleep(60)")
    guest.wait_kind(Kind.STDOUT)
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGKILL"})
    assert guest.finish(cell).outcome == "lost"
    assert [exit_["cause"] for exit_ in exits(guest)] == ["signalled"]


def test_a_runner_that_hangs_up_and_lives_on_is_killed(guest: Guest) -> None:
    cell = guest.run("requests.close()\nsignal.signal(15, signal.SIG_IGN)\nwhile True: pass")
    assert cell.outcome == "lost"
    [exit_] = exits(guest)
    assert (exit_["cause"], exit_["signal"]) == ("protocol", signal.SIGKILL)
    assert guest.run("pass").outcome == "ok"


def test_a_runner_that_becomes_another_program_can_be_replaced(guest: Guest) -> None:
    cell = guest.run("os.execv('/bin/sleep', ['sleep', '60'])")
    assert cell.outcome == "lost"
    assert guest.run("pass").outcome == "ok"


def test_late_frames_of_the_dead_are_none_of_the_fresh_runners(guest: Guest) -> None:
    """A fork keeps the dead runner's socket open and goes on writing into it."""
    code = "if os.fork() == 0:\n    os.setsid()\n    signal.signal(13, signal.SIG_IGN)\n"
    code += (
        "    while True:\n        try:\n            send(STDOUT, cell, data=b'from the grave')\n"
    )
    code += "        except OSError:\n            os._exit(0)\nos._exit(1)"
    cell = guest.run(code)
    assert cell.outcome == "lost"
    guest.wait_kind(Kind.RUNNER_READY, count=2)
    seen = len(guest.frames)
    assert guest.run("send(STDOUT, cell, data=b'fresh')").stdout == b"fresh"
    later = [frame for frame in guest.frames[seen:] if frame.kind == Kind.STDOUT]
    assert [frame.data for frame in later] == [b"fresh"]
