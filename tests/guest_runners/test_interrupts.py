"""SIGINT ends what user code does, and never the runner."""

from __future__ import annotations

import signal

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner

LOOPS = {
    "sleep": "import time\nprint('go')\ntime.sleep(60)",
    "busy": "print('go')\nwhile True: pass",
    "await": "import asyncio\nprint('go')\nawait asyncio.sleep(60)",
    "busy in an async cell": "import asyncio\nawait asyncio.sleep(0)\nprint('go')\n"
    "while True: pass",
    "gather": "import asyncio\nprint('go')\nawait asyncio.gather(*map(asyncio.sleep, [60, 61]))",
    "future": "import asyncio\nprint('go')\nawait asyncio.get_running_loop().create_future()",
    "sleep in the loop": "import asyncio, time\nprint('go')\ntime.sleep(60)",
    "join": "import threading, time\nprint('go')\n"
    "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start(); t.join()",
    "lock": "import threading\nprint('go')\nl = threading.Lock(); l.acquire(); l.acquire()",
    "subprocess": "import subprocess\nprint('go')\nsubprocess.run(['sleep', '60'])",
    "printing": "while True: print('go')",
    "async for": "import asyncio\nasync def f():\n    while True:\n        yield 1\n"
    "        await asyncio.sleep(0.01)\nprint('go')\nasync for i in f(): pass",
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_cell_is_interrupted(runner: Runner, name: str) -> None:
    cell = runner.begin(LOOPS[name])
    runner.wait_for(lambda: cell.stdout.startswith("go"))
    runner.interrupt()
    runner.finish(cell)
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert cell.reply["status"] == "error"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_a_cell_that_has_not_begun_yet_is_interrupted(runner: Runner) -> None:
    for number in range(20):
        if number % 2:  # then both have come when it looks
            runner.process.send_signal(signal.SIGSTOP)
        cell = runner.begin("while True: pass")
        runner.interrupt()
        runner.process.send_signal(signal.SIGCONT)
        runner.finish(cell)
        assert cell.error["ename"] == "KeyboardInterrupt"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_an_interrupt_that_a_finalizer_swallowed_is_none_of_the_next_cells(runner: Runner) -> None:
    last = "class Last:\n    def __del__(self):\n        import time; print('go'); time.sleep(60)\n"
    for _ in range(10):
        cell = runner.begin(f"{last}Last()\nNone")
        runner.wait_for(lambda cell=cell: cell.stdout == "go\n")
        runner.interrupt()
        runner.finish(cell)
        slow = runner.execute("for _ in range(300_000): pass")
        assert slow.reply["status"] == "ok"


def test_user_code_may_catch_an_interrupt(runner: Runner) -> None:
    cell = runner.begin(
        "import time\ntry:\n    print('go'); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('saved')"
    )
    runner.wait_for(lambda: cell.stdout == "go\n")
    runner.interrupt()
    assert runner.finish(cell).stdout == "go\nsaved\n"
    assert cell.reply["status"] == "ok"


def test_interrupts_of_an_idle_runner_do_nothing(runner: Runner) -> None:
    for code in ("1", "import asyncio; await asyncio.sleep(0)", "2"):
        for _ in range(20):
            runner.interrupt()
        # One of them may arrive when this cell already runs; the next ones cannot.
        runner.execute(code)
        assert runner.execute("print('alive')").reply["status"] == "ok"
    assert runner.process.poll() is None


def test_interrupts_at_any_moment_leave_one_reply_a_cell(runner: Runner) -> None:
    for number in range(60):
        cell = runner.begin("print('x' * 10)\nsum(range(1000))" if number % 2 else "pass")
        for _ in range(number % 7):
            runner.interrupt()
        runner.finish(cell)
        assert len(cell.of(Kind.REPLY)) == 1
    assert runner.execute("print('alive')").stdout in ("alive\n", "alive", "")
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_frames_stay_whole_when_printing_is_interrupted(runner: Runner) -> None:
    for _ in range(5):
        cell = runner.begin("while True: print('y' * 70_000)")
        runner.wait_for(lambda cell=cell: bool(cell.frames))
        runner.interrupt()
        runner.finish(cell)  # would fail on a frame that was cut
        assert cell.error["ename"] == "KeyboardInterrupt"
        assert set(cell.stdout) <= {"y", "\n"}


def test_signal_handlers_that_raise_while_printing_cut_no_frame(runner: Runner) -> None:
    cell = runner.execute(
        "import signal\nclass Alarm(Exception): pass\n"
        "armed, n = False, 0\n"
        "def ring(*_):\n    global armed\n"
        "    if armed:\n        armed = False; raise Alarm\n"
        "signal.signal(signal.SIGALRM, ring)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)\n"
        "while n < 40:\n"
        "    try:\n        armed = True\n        while True: print('z' * 100_000)\n"
        "    except Alarm: n += 1\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    assert set(cell.stdout) <= {"z", "\n"}
    assert cell.reply["status"] == "ok"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_a_handler_of_the_users_lasts_for_its_cell(runner: Runner) -> None:
    cell = runner.begin(
        "import signal, time\nhits = []\nsignal.signal(signal.SIGINT, lambda *_: hits.append(1))\n"
        "print('go')\nwhile not hits: time.sleep(0.01)"
    )
    runner.wait_for(lambda: cell.stdout == "go\n")
    runner.interrupt()
    assert runner.finish(cell).reply["status"] == "ok"
    later = runner.begin("print('go')\nwhile True: pass")
    runner.wait_for(lambda: later.stdout == "go\n")
    runner.interrupt()
    assert runner.finish(later).error["ename"] == "KeyboardInterrupt"


def test_a_background_task_survives_the_interrupt_of_a_cell(runner: Runner) -> None:
    runner.execute(
        "import asyncio\nticks = 0\nasync def tick():\n    global ticks\n    while True:\n"
        "        ticks += 1; await asyncio.sleep(0.005)\ntask = asyncio.create_task(tick())"
    )
    cell = runner.begin("print('go')\nawait asyncio.sleep(60)")
    runner.wait_for(lambda: cell.stdout == "go\n")
    runner.interrupt()
    assert runner.finish(cell).error["ename"] == "KeyboardInterrupt"
    assert (
        runner.execute("before = ticks; await asyncio.sleep(0.05); ticks > before").result == "True"
    )


@pytest.mark.parametrize("code", ["!echo go; sleep 60", "%%bash\necho go; sleep 60"])
def test_a_shell_command_is_interrupted(ipython: Runner, code: str) -> None:
    cell = ipython.begin(code)
    ipython.wait_for(lambda: "go\n" in (cell.stdout, cell.piped))
    ipython.interrupt()
    ipython.finish(cell)
    assert ipython.execute("print('alive')").stdout == "alive\n"


def test_completion_is_interrupted(plain: Runner) -> None:
    plain.execute(
        "class S:\n    def __dir__(self):\n        print('go')\n        while True: pass\ns = S()"
    )
    cell = plain.request(Kind.COMPLETE, b"s.", {"cursor_pos": 2})
    plain.wait_for(lambda: cell.stdout.startswith("go"))
    plain.interrupt()
    assert plain.finish(cell).reply["matches"] == []
