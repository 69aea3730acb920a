"""Processes that a cell starts, C code, and forks: their output, and what they must not touch."""

from __future__ import annotations

import os
import signal

import pytest

from tests.guest_runners.support import DEADLINE_S, Runner


def test_a_subprocess_writes_to_its_cells_pipes(runner: Runner) -> None:
    cell = runner.execute(
        "import subprocess\nsubprocess.run('echo out; echo err >&2', shell=True);"
    )
    assert (cell.piped, cell.piped_errors, cell.stdout) == ("out\n", "err\n", "")


def test_a_daemons_late_output_stays_its_cells(runner: Runner, tmp_path) -> None:
    first = runner.execute(
        "import subprocess\n"
        "subprocess.Popen('while [ ! -e go ]; do :; done; echo late', shell=True);"
    )
    second = runner.execute("subprocess.run(['echo', 'second']); open('go', 'w').close()")
    runner.wait_for(lambda: first.piped == "late\n")
    assert second.piped == "second\n"


def test_what_was_printed_before_a_subprocess_is_sent_before_it_runs(runner: Runner) -> None:
    cell = runner.begin(
        "import subprocess\nprint('before')\nsubprocess.run('echo inside; sleep 60', shell=True)"
    )
    runner.wait_for(lambda: cell.piped == "inside\n")
    runner.take()
    assert cell.stdout == "before\n"


def test_c_code_that_prints_is_captured_in_its_cell(runner: Runner) -> None:
    runner.execute("import ctypes\nlibc = ctypes.CDLL(None)")
    cell = runner.execute("libc.printf(b'from C\\n'); libc.puts(b'more');")
    assert cell.piped == "from C\nmore\n"
    assert runner.execute("1").piped == ""


def test_descriptors_written_directly_are_captured(runner: Runner) -> None:
    cell = runner.execute(
        "import os\nos.write(1, b'one'); os.write(2, b'two'); os.system('echo three');"
    )
    assert (cell.piped, cell.piped_errors) == ("onethree\n", "two")


def test_a_fork_prints_through_its_descriptors(runner: Runner) -> None:
    cell = runner.execute(
        "import os, sys\nprint('parent')\npid = os.fork()\n"
        "if pid == 0:\n    print('child'); print('half', end=''); sys.stdout.flush()\n"
        "    print('child err', file=sys.stderr); os._exit(0)\n"
        "os.waitpid(pid, 0); print('done')"
    )
    assert cell.stdout == "parent\ndone\n"
    assert cell.piped == "child\nhalf"
    assert cell.piped_errors == "child err\n"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_a_fork_neither_holds_nor_hurts_the_runners_sockets(runner: Runner) -> None:
    cell = runner.execute(
        "import os, signal\npid = os.fork()\n"
        "if pid == 0:\n    display('child'); signal.pause()\n"
        "pid"
    )
    assert not cell.displays
    os.kill(runner.process.pid, signal.SIGKILL)
    runner.wait_for(lambda: runner.is_gone)


def test_a_fork_in_a_thread_while_others_print(runner: Runner) -> None:
    cell = runner.execute(
        "import os, threading\nstop = []\n"
        "def chat():\n    while not stop: print('x' * 1000)\n"
        "t = threading.Thread(target=chat); t.start()\n"
        "for i in range(20):\n    pid = os.fork()\n"
        "    if pid == 0:\n        print('c'); os._exit(0)\n"
        "    os.waitpid(pid, 0)\nstop.append(1); t.join()"
    )
    assert cell.piped == "c\n" * 20
    assert set(cell.stdout) == {"x", "\n"}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works(runner: Runner, method: str) -> None:
    cell = runner.execute(
        "import multiprocessing, math\n"
        f"context = multiprocessing.get_context('{method}')\n"
        "def own(x):\n    print('worker', x); return x + 1\n"
        f"function = own if '{method}' == 'fork' else math.factorial\n"
        "with context.Pool(2) as pool: result = pool.map(function, [3, 4])\nresult"
    )
    assert cell.reply["status"] == "ok", cell
    if method == "fork":
        assert sorted(cell.piped.splitlines()) == ["worker 3", "worker 4"]
        assert cell.result == "[4, 5]"
    else:
        assert cell.result == "[6, 24]"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_a_process_pool_of_futures_works(runner: Runner) -> None:
    cell = runner.execute(
        "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n"
        "def f(x): return x * 2\n"
        "with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('fork')) as pool:\n"
        "    values = list(pool.map(f, range(4)))\nvalues"
    )
    assert cell.result == "[0, 2, 4, 6]"


def test_the_runner_ends_when_the_supervisor_is_gone(runner: Runner) -> None:
    runner.execute(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()"
    )
    runner._socket.close()
    runner.is_gone = True
    assert runner.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    "code", ["import os; os._exit(7)", "import os; os.closerange(0, 256)", "import os; os.abort()"]
)
def test_code_that_ends_the_process_ends_the_runner_and_no_more(runner: Runner, code: str) -> None:
    cell = runner.begin("print('last words')\n" + code)
    with pytest.raises(AssertionError, match="the runner is gone"):
        runner.wait_for(lambda: cell.is_answered)
    runner.process.wait(DEADLINE_S)


def test_exec_of_another_program_ends_the_runner(runner: Runner) -> None:
    cell = runner.begin("import os; os.execvp('true', ['true'])")
    with pytest.raises(AssertionError, match="the runner is gone"):
        runner.wait_for(lambda: cell.is_answered)


@pytest.mark.parametrize(
    "damage",
    [
        "import os; os.close(1); os.close(2)",
        "import os; os.close(0)",
        "import sys; sys.stdout = sys.stderr = sys.stdin = None",
        "import sys; del sys.stdout, sys.stderr",
        "import json; json.dumps = json.loads = json.JSONEncoder = None",
        "import os; os.write = os.dup2 = os.close = None",
        "import builtins; del builtins.input, builtins.display",
        "import sys; sys.path.clear()",
        "import threading; threading.Thread.start = None",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "import gc; gc.disable()",
        "import sys; sys.setrecursionlimit(60)",
        "import sys\ndef t(*a): raise ValueError\nsys.settrace(t)",
        "import sys; sys.excepthook = sys.displayhook = None",
        "import atexit; atexit.register(print, 'x')",
        "import threading, sys\nt = threading.Thread(target=sys.exit); t.start(); t.join()",
    ],
)
def test_a_user_who_breaks_things_hurts_nobody_else(runner: Runner, damage: str) -> None:
    runner.begin(damage)
    runner.wait_for(lambda: runner.is_gone or runner.cells[runner.latest].is_answered)
    # Whatever it says now, it says in whole frames and answers every request.
    if not runner.is_gone:
        runner.begin("x = 1 + 1")
        runner.wait_for(lambda: runner.is_gone or runner.cells[runner.latest].is_answered)
