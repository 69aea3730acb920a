"""A hostile cell uses up only its own: THREATS 1-9, 21-24. The next cell works."""

import asyncio
import contextlib
import glob
import resource
import secrets

import pytest

from sandbox_kernel import events
from sandbox_kernel.limits import MIB
from sandbox_kernel.session import State
from tests.support.waiting import until

BOMBS = {
    "heap": "x = []\nwhile True: x.append(bytearray(b'x') * (8 << 20))",
    "anonymous map": (
        "import mmap\nx = []\nwhile True:\n"
        "    m = mmap.mmap(-1, 8 << 20); m.write(b'x' * (8 << 20)); x.append(m)"
    ),
    "memfd": (
        "import os\nx = []\nwhile True:\n"
        "    fd = os.memfd_create('m'); x.append(fd); os.write(fd, b'x' * (8 << 20))"
    ),
    "shared memory": (
        "i = 0\nwhile True:\n    i += 1; open(f'/dev/shm/{i}', 'wb').write(b'x' * (8 << 20))"
    ),
    "children": (
        "import os, time\nwhile True:\n"
        "    if os.fork() == 0:\n        x = bytearray(b'x') * (32 << 20); time.sleep(60)"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_memory_bomb_is_stopped_inside_and_the_host_stays_flat(open_session, backend, name):
    driver = await open_session(
        memory_bytes=192 * MIB, workspace_bytes=1024 * MIB, timeout_s=45, processes=64
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cell = await driver.run(BOMBS[name])
    assert cell.error.name in {"MemoryLimitExceeded", "MemoryError", "SandboxDied", "OSError"} | (
        {"BlockingIOError", "CellTimeout"} if name == "children" else set()
    )
    if backend == "docker" and name != "children":
        # Its cgroup holds everything at one limit, so what ended the cell is always known.
        assert cell.error.name == "MemoryLimitExceeded"
        assert "the limit is 192 MiB (memory), and its peak was" in cell.error.value
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 * 1024  # KiB
    assert (await driver.run("print('next')")).text() == "next\n"


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "~", "/dev/shm"])
async def test_a_disk_fill_meets_the_cap_wherever_it_is(open_session, place):
    """bubblewrap's places share one cap; docker's have one each, and memory bounds their sum
    (test_containers)."""
    driver = await open_session(workspace_bytes=16 * MIB)
    cell = await driver.run(
        f"import os\nbig = os.path.expanduser({place + '/big'!r})\n"
        "open(big, 'wb').write(bytes(32 << 20))"
    )
    assert "[Errno 28]" in cell.error.value
    used = await driver.run("import os; print(os.path.getsize(big) <= 16 << 20); os.remove(big)")
    assert used.text() == "True\n"


async def test_an_inode_fill_meets_the_cap_and_the_watch_stays_bounded(open_session):
    driver = await open_session(workspace_inodes=2_000, artifacts=10)
    cell = await driver.run("for i in range(10_000): open(f'f{i}', 'w').close()")
    assert "[Errno 28]" in cell.error.value
    assert len(cell.of(events.DisplayShown)) <= 10
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_deep_directories_and_long_names_do_no_harm(open_session):
    driver = await open_session()
    await driver.run(
        "import os\nfor _ in range(500):\n    os.mkdir('d' * 255); os.chdir('d' * 255)\n"
        "open('deep', 'w').write('x'); os.chdir('/workspace'); open('n' * 255, 'w').write('x')"
    )
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_descriptors_run_out_inside_only(open_session):
    driver = await open_session(open_files=128)
    cell = await driver.run("import os\nx = []\nwhile True: x.append(os.open('/dev/null', 0))")
    assert "[Errno 24]" in cell.error.value
    assert "128 files" in cell.error.traceback[-1]
    await driver.run("[os.close(fd) for fd in x]")
    assert (await driver.run("print('next')")).text() == "next\n"


async def test_zombies_are_reaped(open_session):
    driver = await open_session()
    cell = await driver.run(
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "deadline = time.monotonic() + 20\n"
        "def zombies():\n"
        "    import glob\n    found = 0\n"
        "    for path in glob.glob('/proc/[0-9]*/stat'):\n"
        "        try: found += open(path).read().rsplit(')', 1)[1].split()[0] == 'Z'\n"
        "        except OSError: pass\n"
        "    return found\n"
        "while zombies() and time.monotonic() < deadline: time.sleep(0.01)\n"
        "print(zombies())"
    )
    assert cell.text() == "0\n"


async def test_a_daemon_that_left_its_session_dies_with_the_sandbox(open_session):
    driver = await open_session()
    name = "canary-" + secrets.token_hex(8)
    cell = await driver.run(
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    if os.fork() == 0: os.execvp('sleep', [{name!r}, '600'])\n"
        "    os._exit(0)\n"
        "os.wait(); print('left')"
    )
    assert cell.text() == "left\n"
    await asyncio.to_thread(until, lambda: _processes_called(name), "the daemon")
    await driver.session.close()
    assert driver.session.state is State.CLOSED
    await asyncio.to_thread(until, lambda: not _processes_called(name), "its end")


def _processes_called(name: str) -> list[str]:
    """As the host sees them, in whatever namespace; a container's, when its engine is local."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read().startswith(name.encode() + b"\0"):
                found.append(path)
    return found


async def test_a_child_that_holds_stdout_open_does_not_hold_the_cell(open_session):
    driver = await open_session(timeout_s=60)
    cell = await driver.run("import subprocess; subprocess.Popen(['sleep', '600']); print('end')")
    assert cell.outcome.status == "ok"
    assert cell.text() == "end\n"


async def test_late_output_of_a_daemon_never_reaches_another_cell(open_session):
    driver = await open_session()
    await driver.run(
        "import os, time\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); os.close(w); os.read(r, 1); os.write(1, b'late'); os._exit(0)\n"
        "os.close(r)"
    )
    cell = await driver.run("os.write(w, b'x'); os.wait(); print('mine')")
    assert cell.text() == "mine\n"
    await driver.heard(events.TextWritten)
    assert [event.text for event in driver.late if isinstance(event, events.TextWritten)] == [
        "late"
    ]


async def test_spinning_threads_keep_to_their_cpus(open_session):
    driver = await open_session(cpus=1, timeout_s=30)
    cell = await driver.run(
        "import os, time\nend = time.monotonic() + 1\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        while time.monotonic() < end: pass\n"
        "        os._exit(0)\n"
        "for _ in range(4): os.wait()\n"
        "used = os.times()\nprint(used.children_user + used.children_system < 1.5)"
    )
    assert cell.text() == "True\n"


async def test_pipes_that_serve_several_cells_never_mix_what_processes_write(open_session):
    """A cell goes on with the pipes of the one before only if no process holds those."""
    driver = await open_session()
    await driver.run("import ctypes, os, subprocess")
    await driver.run("pass")
    for round_ in range(3):
        started = await driver.run(
            "r, w = os.pipe()\nprint('started')\n"
            f"child = subprocess.Popen(['sh', '-c', 'read x; echo late {round_}'], stdin=r)\n"
            "os.close(r)"
        )
        cells = [await driver.run(f"os.write(1, b'own {n}')") for n in range(3)]
        assert [cell.text() for cell in cells] == [f"own {n}" for n in range(3)]
        await driver.run("os.write(w, b'x\\n'); os.close(w); child.wait()")
        await driver.heard(events.TextWritten, count=round_ + 1)
        late = [event for event in driver.late if isinstance(event, events.TextWritten)]
        number = started.of(events.TextWritten)[0].cell
        assert (late[-1].cell, late[-1].text) == (number, f"late {round_}\n")
        assert (await driver.run("ctypes.CDLL(None).puts(b'from C')")).text() == "from C\n"
        assert (await driver.run("print('after')")).text() == "after\n"
