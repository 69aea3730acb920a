"""What processes write to descriptors 1 and 2, and to which cell it belongs."""

from __future__ import annotations

import os
from collections.abc import Callable

from sandbox_kernel.guest.framing import Kind
from tests.guest.support import Guest, poll

StartGuest = Callable[..., Guest]

DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while not os.path.exists('go'): time.sleep(0.01)
        os.write(1, b'late out')
        os.write(2, b'late err')
    os._exit(0)
os.wait()
"""


def test_stdout_and_stderr_of_a_child_arrive_apart_and_whole(guest: Guest) -> None:
    cell = guest.run("os.system('echo out; echo err >&2; head -c 300000 /dev/zero')")
    assert cell.stdout == b"out\n" + bytes(300000)
    assert cell.stderr == b"err\n"
    assert cell.kinds[-2:] == [Kind.REPLY, Kind.CELL_ENDED]


def test_ten_thousand_small_writes_are_a_handful_of_frames(guest: Guest) -> None:
    cell = guest.run("for n in range(10000): os.write(1, b'line %d\\n' % n)")
    assert cell.stdout == b"".join(b"line %d\n" % n for n in range(10000))
    assert cell.end["receipt"]["output_bytes"] == len(cell.stdout)
    # One each 10 ms at most; a busy machine needs longer, which `wall_s` says.
    assert cell.kinds.count(Kind.STDOUT) <= 5 + cell.end["receipt"]["wall_s"] / 0.008


def test_a_pipe_and_the_runners_own_output_keep_their_order(guest: Guest) -> None:
    code = "for n in range(200):\n    os.write(1, b'p%d ' % n)\n"
    cell = guest.run(code + "    send(STDOUT, cell, data=b'r%d ' % n)")
    words = cell.stdout.split()
    assert sorted(words) == sorted(
        [b"p%d" % n for n in range(200)] + [b"r%d" % n for n in range(200)]
    )
    place = {word: index for index, word in enumerate(words)}
    assert all(place[b"p%d" % n] < place[b"r%d" % n] for n in range(200))


def test_output_of_a_quiet_child_is_seen_while_the_cell_runs(guest: Guest) -> None:
    cell = guest.start("os.write(1, b'at once')\nask('', cell)")
    assert guest.wait_kind(Kind.STDOUT).data == b"at once"
    guest.wait_kind(Kind.INPUT_REQUEST)
    guest.send(Kind.INPUT_REPLY, cell)
    guest.finish(cell)


def test_a_child_that_holds_stdout_open_holds_up_no_cell(guest: Guest) -> None:
    code = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])"
    assert guest.run(code).outcome == "ok"
    for _ in range(3):
        assert guest.run("os.write(1, b'x')").stdout == b"x"
    guest.run("child.kill()\nchild.wait()")


def test_late_output_of_a_daemon_keeps_the_number_of_its_cell(guest: Guest) -> None:
    first = guest.run(DAEMON)
    assert first.stdout == b""
    guest.run("open('go', 'w').close()\nos.write(1, b'second')")
    late = guest.wait(lambda frame: frame.kind == Kind.STDERR)
    assert (late.cell, late.data) == (1, b"late err")
    late = guest.wait(lambda frame: frame.data == b"late out")
    assert late.cell == 1
    assert [f.data for f in guest.of_kind(Kind.STDOUT) if f.cell == 2] == [b"second"]


def test_late_output_between_cells_arrives_without_another_request(guest: Guest) -> None:
    guest.run(DAEMON)
    (guest.workspace / "go").touch()
    assert guest.wait(lambda frame: frame.data == b"late out").cell == 1


def test_of_very_many_daemons_only_the_newest_are_listened_to(guest: Guest) -> None:
    code = "if os.fork() == 0:\n    os.setsid()\n    signal.signal(13, signal.SIG_IGN)\n"
    code += "    requests.close()\n    while not os.path.exists('go'): time.sleep(0.05)\n"
    code += "    try: os.write(1, b'late')\n    except OSError: pass\n    os._exit(0)"
    cells = [guest.start(code) for _ in range(70)]
    guest.finish(cells[-1])
    fds = len(list(_fds(guest)))
    (guest.workspace / "go").touch()
    late = [guest.wait_kind(Kind.STDOUT, count=n).cell for n in range(1, 65)]
    assert sorted(late) == cells[-64:]
    assert fds < 64 * 2 + 40


def _fds(guest: Guest) -> list[str]:
    return os.listdir(f"/proc/{guest.process.pid}/fd")


def test_a_flooding_daemon_does_not_hold_up_the_next_cells(start_guest: StartGuest) -> None:
    guest = start_guest()
    code = "import subprocess\n"
    code += "child = subprocess.Popen(['sh', '-c', 'exec yes'], start_new_session=True)"
    guest.run(code)
    for n in range(5):
        cell = guest.run(f"os.write(1, b'cell {n}')")
        assert cell.stdout == b"cell %d" % n
    guest.run("child.kill()\nchild.wait()")
    flood = sum(len(f.data) for f in guest.of_kind(Kind.STDOUT) if f.cell == 1)
    assert flood <= 2 * 2**20


def test_fast_writers_are_read_fast(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 0})
    cell = guest.run("os.system('head -c 52428800 /dev/zero')")
    assert len(cell.stdout) == 52428800
    assert cell.kinds.count(Kind.STDOUT) < 4000


def test_background_children_of_many_cells_leave_no_descriptors(guest: Guest) -> None:
    guest.run("pass")
    before = len(_fds(guest))
    for _ in range(30):
        guest.run("os.write(1, b'x')")
    # A pipe that rests is found closed a moment later.
    poll(lambda: len(_fds(guest)) <= before + 2)
