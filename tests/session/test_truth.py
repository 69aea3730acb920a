"""Each limit ends a cell with its name, its value, and whether the variables survived."""

import asyncio

import pytest

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused
from sandbox_kernel.limits import GIB, MIB
from tests.support.waiting import DEADLINE_S

IGNORES_SIGINT = (
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n"
    "while True: time.sleep(0.01)"
)
# Ends its runner between cells, as soon as there is a file called so.
EXITS_LATER = (
    "import os, threading, time\ndef leave():\n"
    "    while not os.path.exists('go'): time.sleep(0.01)\n"
    "    os._exit(5)\n"
    "threading.Thread(target=leave).start()"
)


async def interrupt_when_it_prints(driver, code):
    """Run `code` and interrupt it as soon as it says something."""

    def hear(event):
        if isinstance(event, events.TextWritten) and "on" in event.text:
            asyncio.get_running_loop().create_task(driver.session.interrupt())

    return await driver.run(code, hear)


@pytest.mark.parametrize(
    "wait",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import asyncio; await asyncio.sleep(60)",
        "import subprocess; subprocess.run(['sleep', '60'])",
        "import threading; threading.Event().wait()",
    ],
)
async def test_an_interrupt_ends_a_cell_and_keeps_the_variables(open_session, wait):
    driver = await open_session()
    cell = await interrupt_when_it_prints(driver, f"x = 5\nprint('on', flush=True)\n{wait}")
    assert cell.error.name == "KeyboardInterrupt"
    assert (await driver.run("print(x)")).text() == "5\n"


async def test_an_interrupt_at_the_very_beginning_ends_the_cell_and_keeps_the_variables(
    open_session,
):
    driver = await open_session()
    await driver.run("x = 5")
    for turns in range(12):
        begun = asyncio.Event()
        code = "while True: pass"
        cell = driver.run(code, on_cell=lambda _, begun=begun: begun.set())
        running = asyncio.ensure_future(cell)
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        await driver.session.interrupt()
        assert (await running).error.name == "KeyboardInterrupt"
    assert (await driver.run("print(x)")).text() == "5\n"


async def test_an_interrupt_right_before_a_cell_is_none_of_the_cells(open_session):
    driver = await open_session()
    for _ in range(12):
        await driver.run("pass")
        await driver.session.interrupt()
        assert (await driver.run("print('on')")).text() == "on\n"


async def test_a_cell_that_ignores_interrupts_is_killed_after_the_grace(open_session):
    driver = await open_session(interrupt_grace_s=0.5)
    cell = await interrupt_when_it_prints(driver, IGNORES_SIGINT)
    assert cell.error.name == "KeyboardInterrupt"
    assert "0.5 s" in cell.error.value
    assert "variables are lost" in cell.error.value
    assert (await driver.run("print('fresh')")).text() == "fresh\n"


async def test_a_timeout_names_its_value_and_says_that_the_variables_survived(open_session):
    driver = await open_session(timeout_s=0.5)
    await driver.run("import time; x = 7", timeout_s=None)
    cell = await driver.run("time.sleep(60)")
    assert cell.error.name == "CellTimeout"
    assert "0.5 s" in cell.error.value
    assert "variables survived" in cell.error.value
    assert len(cell.of(events.CellFailed)) == 1
    assert (await driver.run("print(x)", timeout_s=None)).text() == "7\n"


async def test_a_timeout_that_the_cell_swallows_is_still_told(open_session):
    driver = await open_session(timeout_s=2)
    cell = await driver.run(
        "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('caught')"
    )
    assert cell.text() == "caught\n"
    assert cell.error.name == "CellTimeout"


async def test_a_timeout_of_a_cell_that_ignores_it_loses_the_variables_and_says_so(open_session):
    driver = await open_session(timeout_s=2, interrupt_grace_s=0.3)
    cell = await driver.run(IGNORES_SIGINT)
    assert cell.error.name == "CellTimeout"
    assert "variables are lost" in cell.error.value


async def test_memory_over_the_limit_kills_the_cell_and_names_limit_and_peak(open_session):
    driver = await open_session(memory_bytes=256 * MIB)
    cell = await driver.run(
        "import mmap\nhoard = []\nwhile True:\n"
        "    m = mmap.mmap(-1, 16 << 20); m.write(b'x' * (16 << 20)); hoard.append(m)"
    )
    assert cell.error.name == "MemoryLimitExceeded"
    assert "256 MiB" in cell.error.value
    assert (await driver.run("print('still here')")).text() == "still here\n"


async def test_a_full_disk_is_an_error_that_names_the_limit(open_session):
    driver = await open_session(workspace_bytes=20 * MIB)
    cell = await driver.run("x = 1\nopen('big', 'wb').write(bytes(40 << 20))")
    assert cell.error.name == "OSError"
    assert "20 MiB" in cell.error.traceback[-1]
    assert (await driver.run("print(x)")).text() == "1\n"


async def test_too_many_threads_are_an_error_that_names_the_limit(open_session):
    driver = await open_session(processes=40)
    cell = await driver.run(
        "import threading\ngo = threading.Event()\n"
        "try:\n    for _ in range(200): threading.Thread(target=go.wait).start()\n"
        "finally: go.set()"
    )
    assert cell.error.name == "RuntimeError"
    assert "40 processes" in cell.error.traceback[-1]


async def test_a_fork_bomb_meets_the_process_limit_and_the_next_cell_works(open_session):
    driver = await open_session(processes=40, timeout_s=60)
    cell = await driver.run(
        "import os, time\nchildren = []\n"
        "try:\n    while True:\n        pid = os.fork()\n"
        "        if pid == 0:\n            time.sleep(60); os._exit(0)\n"
        "        children.append(pid)\n"
        "except BlockingIOError:\n    print(len(children) < 40)\n"
    )
    assert cell.text() == "True\n"
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_the_network_is_off_and_the_error_says_so(open_session):
    driver = await open_session()
    cell = await driver.run("import socket; socket.create_connection(('192.0.2.1', 80), 5)")
    assert cell.error.name == "OSError"
    assert "network is off" in cell.error.traceback[-1]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.closerange(0, 4096)\nwhile True: pass", "variables are lost"),
        ("import os; os.execv('/bin/sleep', ['sleep', '600'])", "variables are lost"),
    ],
)
async def test_a_runner_that_goes_away_ends_its_cell_with_the_reason(open_session, code, said):
    driver = await open_session()
    cell = await driver.run(code)
    assert cell.error.name == "RunnerExited"
    assert said in cell.error.value
    assert (await driver.run("print(1)")).text() == "1\n"


async def test_sys_exit_ends_the_cell_and_not_the_runner(open_session):
    driver = await open_session()
    await driver.run("x = 3")
    cell = await driver.run("import sys; sys.exit(2)")
    assert cell.error.name == "SystemExit"
    assert (await driver.run("print(x)")).text() == "3\n"


async def test_a_dead_sandbox_fails_the_cell_and_is_replaced(open_session):
    driver = await open_session()

    def kill(event):
        if isinstance(event, events.TextWritten):
            driver.sandbox.kill()

    cell = await driver.run("print('on', flush=True)\nwhile True: pass", kill)
    assert cell.error.name == "SandboxDied"
    assert "files in the workspace are lost" in cell.error.value
    assert (await driver.run("print('new')")).text() == "new\n"


async def test_what_happened_while_no_cell_ran_is_told_with_the_next(open_session):
    driver = await open_session()
    await driver.run(EXITS_LATER)
    await driver.session.files.write("go", b"")
    await driver.heard(events.RunnerReady, count=2)
    cell = await driver.run("print('x')")
    assert "exit code 5" in cell.text("stderr")
    assert cell.text() == "x\n"


async def test_the_defaults_let_ordinary_work_through(open_session):
    """The twin of all of the above."""
    driver = await open_session(memory_bytes=2 * GIB)
    cell = await driver.run(
        "import threading, subprocess\n"
        "threads = [threading.Thread(target=lambda: None) for _ in range(50)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "block = bytearray(200 << 20); open('f', 'wb').write(block)\n"
        "print(subprocess.run(['true']).returncode)"
    )
    assert cell.text() == "0\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_defect_of_the_host_ends_the_cell_and_nobody_waits_for_ever(
    open_session, monkeypatch
):
    driver = await open_session()

    def broken(_self, _batch):
        raise TypeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr("sandbox_kernel.session.gate.Gate.admit", broken)
        cell = await driver.run("print('x')")
    assert cell.error.name == "SandboxDied"
    assert "host failed" in cell.error.value
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_a_stuck_completion_is_interrupted_and_the_next_cell_works(open_session):
    driver = await open_session(interrupt_grace_s=0.5)
    await driver.run(
        "import time\nclass Slow:\n    def __dir__(self):\n"
        "        print('on', flush=True); time.sleep(600)\nslow = Slow(); x = 1"
    )
    asking = asyncio.ensure_future(driver.session.complete("slow.a", 6))
    await driver.heard(events.TextWritten)
    await driver.session.interrupt()
    await asyncio.wait_for(asking, DEADLINE_S)
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_code_that_is_too_long_is_refused_and_the_next_cell_works(open_session):
    driver = await open_session()
    with pytest.raises(RequestRefused, match="too large"):
        await driver.run("x" * (17 * MIB))
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_an_interrupts_traceback_ends_in_the_cell(open_session):
    driver = await open_session()
    cell = await interrupt_when_it_prints(driver, "print('on', flush=True)\nwhile True: pass")
    assert "line 2" in "\n".join(cell.error.traceback)
    assert "sandbox-kernel" not in "\n".join(cell.error.traceback)
