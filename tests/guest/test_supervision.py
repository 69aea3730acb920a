"""The supervisor between a host and a faithful runner."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from sandbox_kernel.guest.framing import MAX_FRAME_BYTES, Kind
from tests.guest.support import PRELUDE, Guest, poll

StartGuest = Callable[..., Guest]


def test_a_runner_starts_gets_ready_and_runs_a_cell(guest: Guest) -> None:
    cell = guest.run("send(STDOUT, cell, data=b'hello')")
    assert [frame.kind for frame in guest.frames[:2]] == [Kind.RUNNER_STARTED, Kind.RUNNER_READY]
    assert cell.stdout == b"hello"
    assert cell.kinds[-2:] == [Kind.REPLY, Kind.CELL_ENDED]
    assert cell.outcome == "ok"


def test_a_cell_that_raises_ends_as_an_error(guest: Guest) -> None:
    cell = guest.run("1 / 0")
    assert cell.kinds == [Kind.ERROR, Kind.REPLY, Kind.CELL_ENDED]
    assert cell.outcome == "error"


def test_requests_sent_before_the_runner_is_ready_are_answered_in_order(guest: Guest) -> None:
    first, second = guest.start("names = ['a']"), guest.start("send(STDOUT, cell, data=b'b')")
    assert guest.request(Kind.IS_COMPLETE, {}, b"1").kind == Kind.REPLY
    replies = [frame.cell for frame in guest.of_kind(Kind.REPLY)]
    assert replies == [first, second, second + 1]


@pytest.mark.parametrize("kind", [Kind.COMPLETE, Kind.INSPECT, Kind.IS_COMPLETE, Kind.COMM])
def test_other_requests_reach_the_runner_as_they_are(guest: Guest, kind: int) -> None:
    reply = guest.request(kind, {"cursor_pos": 3}, "größe".encode())
    assert reply.read_meta() == {"status": "ok", "kind": kind}
    assert not guest.of_kind(Kind.CELL_ENDED)


def test_a_receipt_says_what_the_cell_used(guest: Guest) -> None:
    code = "block = bytearray(64 << 20)\nstop = time.process_time() + 0.2\n"
    code += "while time.process_time() < stop: pass\nsend(STDOUT, cell, data=b'12345')"
    receipt = guest.run(code).end["receipt"]
    assert receipt["wall_s"] >= 0.2
    assert 0.1 < receipt["cpu_s"] < receipt["wall_s"] + 0.1
    assert 64 << 20 < receipt["peak_memory_bytes"] < 256 << 20
    assert receipt["output_bytes"] == 5
    # A cell that does nothing uses nothing, when nobody else holds it up.
    assert min(guest.run("block = None").end["receipt"]["cpu_s"] for _ in range(5)) < 0.1


def test_the_peak_is_the_cells_own(guest: Guest) -> None:
    high = guest.run("block = bytearray(200 << 20)\ndel block").end["receipt"]
    low = guest.run("pass").end["receipt"]
    assert high["peak_memory_bytes"] > 200 << 20 > low["peak_memory_bytes"]


def test_cpu_time_of_a_child_that_ended_counts(guest: Guest) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    receipt = guest.run(f"os.system({sys_command(burn)!r})").end["receipt"]
    assert receipt["cpu_s"] >= 0.25


def sys_command(code: str) -> str:
    return f"{os.path.realpath('/proc/self/exe')} -I -S -c '{code}'"


def test_input_is_asked_for_and_answered_inside_a_cell(guest: Guest) -> None:
    cell = guest.start("send(STDOUT, cell, data=ask('name? ', cell).encode())")
    assert guest.wait_kind(Kind.INPUT_REQUEST).read_meta()["prompt"] == "name? "
    guest.send(Kind.INPUT_REPLY, cell, {}, b"Ada")
    assert guest.finish(cell).stdout == b"Ada"


def test_an_answer_for_another_cell_is_not_taken_for_this_ones(guest: Guest) -> None:
    guest.run("pass")
    cell = guest.start("send(STDOUT, cell, data=ask('', cell).encode())")
    guest.wait_kind(Kind.INPUT_REQUEST)
    guest.send(Kind.INPUT_REPLY, cell - 1, {}, b"old")
    guest.send(Kind.INPUT_REPLY, cell, {}, b"new")
    assert guest.finish(cell).stdout == b"new"


# -- what the runner gets


def test_the_runner_has_three_descriptors_and_its_sockets(guest: Guest) -> None:
    code = "fds = {int(n): os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')"
    code += " if os.path.exists('/proc/self/fd/' + n)}\n"
    code += "send(DISPLAY, cell, {'fds': sorted(fds.values())})"
    names = guest.run(code).frames[0].read_meta()["fds"]
    assert names.count("/dev/null") == 1
    assert sum(name.startswith("pipe:") for name in names) == 2
    assert sum(name.startswith("socket:") for name in names) == 2
    assert len(names) == 5


def test_the_runner_has_the_environment_directory_and_limits_of_the_host(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(
        environment={"GREETING": "grüß"},
        limits={"open_files": 77, "processes": 55, "memory_bytes": 2**30},
        watch_memory=True,
    )
    code = "import resource as r\nsend(DISPLAY, cell, {'environment': dict(os.environ),"
    code += "'directory': os.getcwd(), 'limits': [r.getrlimit(n) for n in "
    code += "(r.RLIMIT_NOFILE, r.RLIMIT_NPROC, r.RLIMIT_CORE, r.RLIMIT_DATA)],"
    code += "'session': os.getsid(0) == os.getpid() == os.getpgrp(),"
    code += "'oom': open('/proc/self/oom_score_adj').read()})"
    meta = guest.run(code).frames[0].read_meta()
    names = {"SANDBOX_RUNNER_FD", "SANDBOX_INPUT_FD", "SANDBOX_MEMORY_BYTES", "LC_CTYPE"}
    assert {k: v for k, v in meta["environment"].items() if k not in names} == {"GREETING": "grüß"}
    assert meta["directory"] == str(guest.workspace)
    assert meta["limits"] == [[77, 77], [55, 55], [0, 0], [2**30, 2**30]]
    assert meta["session"] is True
    assert meta["oom"].strip() == "500"


def test_signals_have_their_defaults_in_the_runner(guest: Guest) -> None:
    code = "status = open('/proc/self/status').read()\n"
    code += "send(DISPLAY, cell, {line.split(':')[0]: line.split()[1] for line in "
    code += "status.splitlines() if line.startswith('Sig')})"
    signals = guest.run(code).frames[0].read_meta()
    assert int(signals["SigBlk"], 16) == 0
    # What the runner's own Python ignores at its start, and no more.
    assert int(signals["SigIgn"], 16) & 1 << signal.SIGINT - 1 == 0


def test_guest_in_the_command_stands_for_the_supervisors_directory(start_guest: StartGuest) -> None:
    guest = start_guest(runner=["/bin/sh", "-c", "echo {guest} >&2; exit 3"])
    detail = guest.wait_kind(Kind.RUNNER_EXITED).read_meta()["detail"]
    assert detail.endswith("/sandbox_kernel/guest")


# -- signals


def test_sigint_interrupts_the_cell_and_the_next_one_runs(guest: Guest) -> None:
    cell = guest.start("send(STDOUT, cell, data=b'on')\ntime.sleep(60)")
    guest.wait_kind(Kind.STDOUT)
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT"})
    ended = guest.finish(cell)
    assert ended.frames[1].read_meta()["ename"] == "KeyboardInterrupt"
    assert ended.outcome == "error"
    assert guest.run("pass").outcome == "ok"


def test_sigint_reaches_a_child_in_the_group_but_none_outside_of_it(guest: Guest) -> None:
    code = "import subprocess as s\ninner = s.Popen(['sleep', '60'])\n"
    code += "outer = s.Popen(['sleep', '60'], start_new_session=True)\n"
    code += "send(STDOUT, cell, data=b'on')\ntime.sleep(60)"
    cell = guest.start(code)
    guest.wait_kind(Kind.STDOUT)
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT"})
    guest.finish(cell)
    code = "inner_code = inner.wait(50)\nouter_code = outer.poll()\nouter.kill()\nouter.wait()\n"
    code += "send(DISPLAY, cell, {'inner': inner_code, 'outer': outer_code})"
    assert guest.run(code).frames[0].read_meta() == {"inner": -signal.SIGINT, "outer": None}


def test_sigint_between_cells_reaches_nobody(guest: Guest) -> None:
    guest.run("import subprocess as s\ninner = s.Popen(['sleep', '60'])")
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT"})
    code = "code = inner.poll()\ninner.kill()\ninner.wait()\n"
    code += "send(DISPLAY, cell, {'inner': code})"
    assert guest.run(code).frames[0].read_meta() == {"inner": None}


def test_sigint_before_the_runner_is_ready_cancels_what_waits(start_guest: StartGuest) -> None:
    slow = PRELUDE + "\nopen('started', 'w').close()\nwhile not os.path.exists('go'):"
    slow += " time.sleep(0.01)\nserve()\n"
    guest = start_guest(slow)
    cell = guest.start("send(STDOUT, cell, data=b'ran')")
    poll((guest.workspace / "started").exists)
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT"})
    cancelled = guest.finish(cell)
    assert cancelled.kinds == [Kind.ERROR, Kind.REPLY, Kind.CELL_ENDED]
    assert cancelled.outcome == "error"
    (guest.workspace / "go").touch()
    assert guest.run("send(STDOUT, cell, data=b'next')").stdout == b"next"
    assert not guest.of_kind(Kind.RUNNER_EXITED)


@pytest.mark.parametrize("name", ["SIGSTOP", "", None, 9, ["SIGINT"]])
def test_another_signal_is_refused(guest: Guest, name: Any) -> None:
    answer = guest.request(Kind.SIGNAL, {"signal": name})
    assert answer.kind == Kind.REFUSAL
    assert repr(name) in answer.read_meta()["reason"]


# -- the stream


def test_the_supervisor_and_its_runner_end_with_the_stream(guest: Guest) -> None:
    meta = guest.run("send(DISPLAY, cell, {'pid': os.getpid()})").frames[0].read_meta()
    guest.start("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass")
    guest.close_stream()
    assert guest.wait_exit() == (0, "")
    poll(lambda: not is_running(meta["pid"]))


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_host_that_stops_reading_for_good_ends_the_supervisor(guest: Guest) -> None:
    guest.run("pass")
    assert guest.process.stdout is not None
    guest.process.stdout.close()
    assert guest.wait_exit() == (0, "")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\0\0\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\0\x02\0\0\0\0\0\0\0\0",
        b"\0\0\0\2\x01\0\0\0\0\0\0\0\2[]",
        b"\0\0\0\2\x01\0\0\0\0\0\0\0\2{}",
        b"\0\0\0\2\x01\0\0\0\0\0\0\0\2{:",
    ],
)
def test_a_first_frame_that_is_no_configuration_ends_it_with_one_line(
    start_raw: Callable[[bytes], tuple[int, bytes, str]], stream: bytes
) -> None:
    code, output, errors = start_raw(stream)
    assert code == 70
    assert output == b""
    assert errors.startswith("supervisor: ConfigurationError: ")
    assert errors.count("\n") == 1


def test_a_host_that_sends_no_frames_ends_it_with_one_line(guest: Guest) -> None:
    guest.run("pass")
    guest.send_bytes(b"\xff" * 100)
    code, errors = guest.wait_exit()
    assert code == 70
    assert errors.startswith("supervisor: FramingError: ")


def test_metadata_that_is_no_json_is_refused(guest: Guest) -> None:
    for kind in (Kind.EXECUTE, Kind.SIGNAL, Kind.FILE_READ):
        cell = guest.number()
        body = b"{nonsense"
        guest.send_bytes(len(body).to_bytes(4, "big") + bytes([kind]))
        guest.send_bytes(cell.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body)
        guest.wait_kind(Kind.REFUSAL, count=len(guest.of_kind(Kind.REFUSAL)) + 1)
    assert guest.run("pass").outcome == "ok"


def test_status_tells_processes_memory_files_and_the_runner(guest: Guest) -> None:
    guest.run("block = bytearray(64 << 20)")
    status = guest.request(Kind.STATUS).read_meta()
    assert status["processes"] == 1
    assert status["memory_bytes"] > 64 << 20
    assert status["peak_memory_bytes"] > 64 << 20
    assert status["workspace_used_bytes"] >= 0
    assert status["workspace_inodes_used"] >= 0
    assert status["runner"]["state"] == "idle"
    assert status["runner"]["generation"] == 1
    assert status["uptime_s"] > 0
    cell = guest.start("ask('', cell)")
    guest.wait_kind(Kind.INPUT_REQUEST)
    assert guest.request(Kind.STATUS).read_meta()["runner"]["state"] == "busy"
    guest.send(Kind.INPUT_REPLY, cell)
    guest.finish(cell)


def test_a_request_as_large_as_a_frame_may_be_arrives_whole(guest: Guest) -> None:
    code = b"#" * (MAX_FRAME_BYTES - 1000) + b"\nsend(STDOUT, cell, data=b'done')"
    assert guest.run(code.decode()).stdout == b"done"
