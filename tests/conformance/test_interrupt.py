"""Interrupts: what they end, and what survives them."""

from __future__ import annotations

import pytest

from tests.support.kernels import IS_OURS, Kernel
from tests.support.waiting import DEADLINE_S

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")

ENDLESS = {
    "a sleep": "import time; print('begun', flush=True); time.sleep(3600)",
    "a busy loop": "print('begun', flush=True)\nwhile True: pass",
    "an await": "import asyncio; print('begun', flush=True); await asyncio.sleep(3600)",
    "a child process": (
        "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '3600'])"
    ),
    "a lock": (
        "import threading; lock = threading.Lock(); lock.acquire()\n"
        "print('begun', flush=True); lock.acquire()"
    ),
    "endless printing": "print('begun', flush=True)\nwhile True: print('x' * 100)",
}


def begin(kernel: Kernel, code: str) -> str:
    """Run `code` up to the word it prints when it is in its endless part."""
    message_id = kernel.raw.execute(code, allow_stdin=False)
    kernel.wait_for(
        lambda m: (
            m["msg_type"] == "stream"
            and m["parent_header"].get("msg_id") == message_id
            and "begun" in m["content"]["text"]
        ),
        "'begun'",
    )
    return message_id


def interrupt_and_wait(kernel: Kernel) -> None:
    """Interrupt, and wait for the answer where there is one: channels keep no order."""
    if kernel.manager.kernel_spec.interrupt_mode == "message":
        kernel.request("interrupt_request", {}, channel="control")
    else:
        kernel.interrupt()


@pytest.mark.parametrize("what", ENDLESS)
def test_an_interrupt_ends(shared_kernel: Kernel, what: str):
    shared_kernel.run("kept = 'kept'")
    message_id = begin(shared_kernel, ENDLESS[what])
    shared_kernel.interrupt()
    run = shared_kernel.finish(message_id)
    assert run.status == "error"
    # asyncio turns the interrupt of an await into a cancellation when it likes to.
    assert run.error["ename"] in {"KeyboardInterrupt", "CancelledError"}
    assert shared_kernel.run("kept").result["text/plain"] == "'kept'"


@ours_only
@pytest.mark.parametrize(
    "makes_garbage",
    ["", "self.me = self"],  # freed at once, or found by the collector
    ids=["of an object", "during a collection"],
)
def test_an_interrupt_in_a_finalizer_which_would_swallow_it_ends_the_cell(
    shared_kernel: Kernel, makes_garbage: str
):
    shared_kernel.run("kept = 'kept'")
    code = (
        "import gc, time\n"
        "class Last:\n"
        f"    def __init__(self): {makes_garbage or 'pass'}\n"
        "    def __del__(self): print('begun', flush=True); time.sleep(3600)\n"
        "Last(); gc.collect()\n"
        "while True: pass"
    )
    message_id = begin(shared_kernel, code)
    shared_kernel.interrupt()
    run = shared_kernel.finish(message_id)
    assert run.error["ename"] == "KeyboardInterrupt"
    assert "Exception ignored" not in run.stderr
    assert shared_kernel.run("kept").result["text/plain"] == "'kept'"


def test_an_interrupt_is_answered_on_control(shared_kernel: Kernel):
    if shared_kernel.manager.kernel_spec.interrupt_mode != "message":
        pytest.skip("this kernelspec is interrupted by signal")
    message_id = begin(shared_kernel, ENDLESS["a sleep"])
    reply = shared_kernel.request("interrupt_request", {}, channel="control")
    assert reply["msg_type"] == "interrupt_reply"
    assert reply["content"]["status"] == "ok"
    assert shared_kernel.finish(message_id).status == "error"


def test_an_interrupt_of_an_idle_kernel_changes_nothing(shared_kernel: Kernel):
    shared_kernel.run("kept = 'still'")
    for _ in range(3):
        interrupt_and_wait(shared_kernel)
    assert shared_kernel.run("kept").result["text/plain"] == "'still'"


def test_an_interrupt_aborts_what_is_queued(shared_kernel: Kernel):
    message_id = begin(shared_kernel, ENDLESS["a sleep"])
    queued = shared_kernel.raw.execute("ran_anyway = True")
    shared_kernel.interrupt()
    assert shared_kernel.finish(message_id).status == "error"
    assert shared_kernel.finish(queued).status in {"aborted", "error"}
    assert shared_kernel.run("'ran_anyway' in globals()").result["text/plain"] == "False"


def test_a_handler_of_the_users_runs_to_its_end(shared_kernel: Kernel):
    code = (
        "import time\ntry:\n    print('begun', flush=True); time.sleep(3600)\n"
        "except KeyboardInterrupt:\n    print('cleaned up')"
    )
    message_id = begin(shared_kernel, code)
    shared_kernel.interrupt()
    run = shared_kernel.finish(message_id)
    assert run.status == "ok"
    assert "cleaned up" in run.stdout


def test_many_interrupts_in_a_row_leave_a_working_kernel(shared_kernel: Kernel):
    for _ in range(5):
        message_id = begin(shared_kernel, ENDLESS["a sleep"])
        interrupt_and_wait(shared_kernel)
        assert shared_kernel.finish(message_id).status == "error"
    assert shared_kernel.run("1 + 1").result["text/plain"] == "2"


@ours_only
@pytest.mark.parametrize(
    "stubborn",
    [
        "import signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "print('begun', flush=True)\nwhile True: time.sleep(1)",
        # Not `except KeyboardInterrupt: pass` in a loop: CPython looks at signals at the jump
        # back, too, which is outside of the try.
        "import signal\nsignal.signal(signal.SIGINT, lambda *_: None)\n"
        "print('begun', flush=True)\nwhile True: sum(range(99))",
        # A loop in C that never looks at signals; a child says when it has begun.
        "import itertools, subprocess\n"
        "subprocess.Popen(['sh', '-c', 'sleep 0.5; echo begun'])\nsum(itertools.repeat(0))",
    ],
    ids=["ignores signals", "has a handler that does nothing", "hangs in C"],
)
def test_a_cell_that_ignores_the_interrupt_is_killed_and_says_what_was_lost(
    start_kernel, stubborn: str
):
    kernel = start_kernel(env={"SANDBOX_KERNEL_INTERRUPT_GRACE": "2"})
    kernel.run("lost = 1\nwith open('survivor.txt', 'w') as f:\n    _ = f.write('file')")
    message_id = begin(kernel, stubborn)
    kernel.interrupt()
    run = kernel.finish(message_id)
    assert run.status == "error"
    said = " ".join([run.error["ename"], run.error["evalue"], *run.error["traceback"]])
    assert "variables" in said.lower()
    assert kernel.run("'lost' in globals()").result["text/plain"] == "False"
    assert kernel.run("open('survivor.txt').read()").result["text/plain"] == "'file'"


@ours_only
def test_a_cell_timeout_ends_the_cell_and_names_the_limit(start_kernel):
    kernel = start_kernel(env={"SANDBOX_KERNEL_TIMEOUT": "2"})
    run = kernel.run("import time; time.sleep(3600)")
    assert run.status == "error"
    assert "2" in " ".join([run.error["evalue"], *run.error["traceback"]])
    assert kernel.run("'next works'").status == "ok"


@ours_only
def test_out_of_memory_ends_the_cell_and_names_the_limit(start_kernel):
    kernel = start_kernel(env={"SANDBOX_KERNEL_MEMORY": "256m"})
    run = kernel.run("hog = bytearray(2 * 2**30)\nfor n in range(0, len(hog), 4096): hog[n] = 1")
    assert run.status == "error"
    said = " ".join([run.error["ename"], run.error["evalue"], *run.error["traceback"]])
    assert "memory" in said.lower()
    assert kernel.run("'next works'", timeout_s=DEADLINE_S).status == "ok"


@ours_only
@pytest.mark.parametrize(
    "death",
    ["import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["os._exit", "SIGKILL"],
)
def test_a_dead_runner_fails_its_cell_and_the_kernel_lives_on(kernel: Kernel, death: str):
    kernel.run("lost = 1")
    run = kernel.run(death)
    assert run.status == "error"
    said = " ".join([run.error["evalue"], *run.error["traceback"]])
    assert "variables" in said.lower()
    assert kernel.run("'lost' in globals()").result["text/plain"] == "False"
    assert kernel.manager.is_alive()


def test_sys_exit_ends_the_cell_and_not_the_kernel(shared_kernel: Kernel):
    shared_kernel.run("kept = 'kept'")
    shared_kernel.run("import sys; sys.exit(4)")
    assert shared_kernel.run("kept").result["text/plain"] == "'kept'"
