"""Whatever ends a container in the middle of a cell: the reason is told, the next cell works."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sandbox_kernel.backends.docker import engine as engines
from sandbox_kernel.backends.docker import sandbox as sandboxes
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.errors import SandboxDied
from tests.support.engines import containers, known
from tests.support.waiting import DEADLINE_S, until

WAIT = "kept = 1; print('up', flush=True)\nimport time; time.sleep(600)"
PROBE = "print('kept' in globals())"
MIB = 2**20
LOST = "The variables and the files in the workspace are lost; the next cell gets a new sandbox."


async def gone(api, container_id):
    """Wait until the engine knows the container no more."""
    await asyncio.to_thread(
        until, lambda: container_id not in known(api), f"the end of {container_id}"
    )


def wait_for_engine(docked, timeout_s):
    """From here on so long. What starts a container on a busy machine gets the usual time."""
    docked.backend.engine.timeout_s = timeout_s
    docked.backend.engine._pinger = None
    docked.backend.engine.forget()


# --- memory ---------------------------------------------------------------------------


async def test_cell_over_the_memory_limit_loses_its_variables_and_keeps_its_files(dock):
    docked = dock(memory_bytes=128 * MIB)
    await docked.run("kept = 1; open('note.txt', 'w').write('x')")
    before = docked.container_id
    error = (await docked.run("block = bytearray(400 << 20)")).error
    assert error.name == "MemoryLimitExceeded"
    assert "the limit is 128 MiB (memory)" in error.value
    assert "files in the workspace are kept" in error.value
    after = await docked.run(f"{PROBE}; import os; print(os.listdir())")
    assert "False" in after.text()
    assert "note.txt" in after.text()
    assert docked.container_id == before


async def test_first_process_killed_for_memory_is_told_as_the_memory_limit(dock, engine):
    docked = dock(memory_bytes=128 * MIB)
    await docked.run("kept = 1")
    before = docked.container_id
    # Whom the kernel would kill last of all is killed first: the others hold little themselves.
    first = engine.api().inspect_container(before)["State"]["Pid"]
    Path(f"/proc/{first}/oom_score_adj").write_text("1000")
    code = "with open('/dev/shm/f', 'wb') as f:\n  while True: f.write(bytes(1 << 20))"
    error = (await docked.run(code)).error
    assert error.name == "MemoryLimitExceeded"
    assert "the limit is 128 MiB (memory)" in error.value
    assert LOST in error.value
    assert (await docked.run(PROBE)).text() == "False\n"
    assert docked.container_id != before
    await gone(engine.api(), before)


async def test_files_that_fill_the_memory_end_in_a_new_sandbox_at_the_latest(dock, engine):
    """Files stay when their writer is killed, so a fresh runner may not have any room."""
    docked = dock(memory_bytes=96 * MIB)
    code = "open('/dev/shm/big', 'wb').write(bytes(1 << 20) * 90)\nblock = bytearray(90 << 20)"
    error = (await docked.run(code)).error
    assert "MemoryLimitExceeded" in error.name, error
    for _ in range(3):  # it may not be the first that finds a sandbox with room
        if (await docked.run("print('well')")).text() == "well\n":
            return
    pytest.fail("no cell works any more")


# --- somebody else ends it ------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop", "remove"])
async def test_container_ended_from_outside_is_told_and_replaced(how, dock, engine):
    docked = dock()
    running = await docked.begin(WAIT)
    before = docked.container_id
    api = engine.api()
    ends = {
        "kill": lambda: api.kill(before),
        "stop": lambda: api.stop(before, timeout=1),
        "remove": lambda: api.remove_container(before, force=True),
    }
    await asyncio.to_thread(ends[how])
    error = (await asyncio.wait_for(running, DEADLINE_S)).error
    assert error.name == "SandboxDied"
    assert "Somebody stopped or removed the container from outside." in error.value
    assert LOST in error.value
    after = await docked.run(PROBE)
    assert after.text() == "False\n"
    assert docked.container_id != before
    await gone(api, before)


async def test_container_that_ends_between_cells_is_told_with_the_next_one(dock, engine):
    docked = dock()
    await docked.run("kept = 1")
    before = docked.container_id
    await asyncio.to_thread(engine.api().kill, before)
    await asyncio.to_thread(until, lambda: docked.session.state.value == "dead", "its end")
    after = await docked.run(PROBE)
    assert "Somebody stopped or removed the container" in after.text("stderr")
    assert after.text() == "False\n"


async def test_paused_container_goes_on_where_it_was(dock, engine):
    docked = dock()
    code = "import os, time\nprint('up', flush=True)\n"
    code += "while not os.path.exists('go'): time.sleep(0.01)\nprint('later')"
    running = await docked.begin(code)
    await asyncio.to_thread(engine.api().pause, docked.container_id)
    going = asyncio.create_task(docked.session.files.write("go", b""))
    done, _ = await asyncio.wait([running], timeout=0.5)
    assert not done
    await asyncio.to_thread(engine.api().unpause, docked.container_id)
    await going
    cell = await asyncio.wait_for(running, DEADLINE_S)
    assert cell.outcome.status == "ok"
    assert cell.text().split() == ["up", "later"]


async def test_paused_container_is_replaced_when_its_cell_is_interrupted(dock, engine):
    docked = dock(interrupt_grace_s=0.3)
    running = await docked.begin(WAIT)
    before = docked.container_id
    await asyncio.to_thread(engine.api().pause, before)
    await docked.session.interrupt()
    error = (await asyncio.wait_for(running, DEADLINE_S)).error
    assert error.name == "KeyboardInterrupt"
    assert LOST in error.value
    assert (await docked.run(PROBE)).text() == "False\n"
    assert docked.container_id != before
    await gone(engine.api(), before)


# --- the engine goes ------------------------------------------------------------------


async def test_engine_restarted_in_the_middle_of_a_cell(dock, use_private):
    docked = dock()
    running = await docked.begin(WAIT)
    before = docked.container_id
    await asyncio.to_thread(use_private.stop)
    error = (await asyncio.wait_for(running, DEADLINE_S)).error
    assert error.name == "SandboxDied"
    assert "engine" in error.value
    assert LOST in error.value
    with pytest.raises(SandboxDied, match="There is no engine at unix://"):
        await docked.run("1")
    await asyncio.to_thread(use_private.start)
    assert (await docked.run(PROBE)).text() == "False\n"
    assert docked.container_id != before
    await gone(use_private.client(), before)


async def test_engine_that_crashed_leaves_no_container_when_it_is_back(dock, use_private):
    docked = dock()
    running = await docked.begin(WAIT)
    before = docked.container_id
    await asyncio.to_thread(use_private.crash)
    error = (await asyncio.wait_for(running, DEADLINE_S)).error
    assert "engine" in error.value
    assert LOST in error.value
    await asyncio.to_thread(use_private.start)
    assert (await docked.run(PROBE)).text() == "False\n"
    await docked.session.close()
    await gone(use_private.client(), before)


async def test_engine_that_hangs_ends_the_cell_and_not_the_kernel(dock, use_private, monkeypatch):
    monkeypatch.setattr(sandboxes, "ASK_AFTER_S", 0.5)
    docked = dock()
    running = await docked.begin(WAIT)
    before = docked.container_id
    monkeypatch.setattr(engines, "PING_TIMEOUT_S", 0.5)
    wait_for_engine(docked, 2)
    use_private.hang()
    try:
        error = (await asyncio.wait_for(running, DEADLINE_S)).error
        assert "The engine did not answer within" in error.value
        assert LOST in error.value
        with pytest.raises(SandboxDied, match="does not answer"):
            await asyncio.wait_for(docked.run("1"), DEADLINE_S)
    finally:
        use_private.wake()
    monkeypatch.setattr(engines, "PING_TIMEOUT_S", 5)
    wait_for_engine(docked, engines.TIMEOUT_S)
    assert (await docked.run(PROBE)).text() == "False\n"
    assert docked.container_id != before
    await gone(use_private.client(), before)


async def test_silent_cell_is_left_alone_while_the_engine_answers(dock, engine, monkeypatch):
    monkeypatch.setattr(sandboxes, "ASK_AFTER_S", 0.1)
    docked = dock()
    cell = await docked.run("import time; time.sleep(1.5); print('well')")
    assert cell.text() == "well\n"


async def test_no_engine_at_the_start_is_told_with_the_remedy(dock, monkeypatch, tmp_path):
    docked = dock()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    docked.backend.engine.forget()
    with pytest.raises(SandboxDied, match=r"There is no engine at unix://.*none\.sock.*Start it"):
        await docked.session.start()


async def test_closing_does_not_wait_for_an_engine_that_hangs(dock, use_private, monkeypatch):
    monkeypatch.setattr(sandboxes, "CLOSE_TIMEOUT_S", 0.5)
    docked = dock()
    await docked.run("1")
    before = docked.container_id
    wait_for_engine(docked, 2)
    use_private.hang()
    try:
        await asyncio.wait_for(docked.session.close(), 30)
    finally:
        use_private.wake()
    await gone(use_private.client(), before)


# --- a runtime that never starts ------------------------------------------------------


async def test_runtime_that_never_starts_is_given_up_and_leaves_nothing(dock, use_private):
    docked = dock(engine=Engine(timeout_s=4), spec={"runtime": "sleeper"})
    with pytest.raises(SandboxDied, match=r"did not start a container within 4 s.*sleeper"):
        await asyncio.wait_for(docked.session.start(), DEADLINE_S)
    sleepers = (use_private.directory / "sleepers").read_text().split()
    assert sleepers
    for pid in sleepers:
        os.kill(int(pid), signal.SIGKILL)
    api = use_private.client()
    await asyncio.to_thread(until, lambda: not containers(api), "its container's end")
