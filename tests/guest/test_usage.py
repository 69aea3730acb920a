"""The memory watchdog, where no cgroup holds the limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.guest.usage import MemoryWatch, Meter, file_system_use, memory_bytes
from tests.guest.support import Guest, poll

StartGuest = Callable[..., Guest]

LIMIT = 256 << 20
# RLIMIT_DATA stops the heap and private maps by itself; shared memory is the watchdog's.
SHARED = "import mmap\nblock = mmap.mmap(-1, %d)\nfor n in range(0, %d, 4096): block[n] = 1\n"
SHARED %= (LIMIT + (64 << 20), LIMIT + (64 << 20))


def test_the_heap_stops_at_the_limit_with_an_error_the_cell_can_catch(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": LIMIT})
    cell = guest.run(f"block = bytearray({LIMIT + 1})")
    assert cell.frames[0].read_meta()["ename"] == "MemoryError"
    assert cell.outcome == "error"
    assert guest.run(f"block = bytearray({LIMIT // 4})").outcome == "ok"


def test_a_runner_over_the_memory_limit_is_killed_with_the_numbers(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": LIMIT})
    cell = guest.run(SHARED + "time.sleep(60)")
    assert cell.outcome == "lost"
    exit_ = guest.wait_kind(Kind.RUNNER_EXITED).read_meta()
    assert (exit_["cause"], exit_["signal"]) == ("memory", signal.SIGKILL)
    assert str(LIMIT) in exit_["detail"]
    assert cell.end["receipt"]["peak_memory_bytes"] > LIMIT
    assert guest.run("pass").outcome == "ok"


def test_a_memory_file_that_is_mapped_nowhere_counts(start_guest: StartGuest) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": LIMIT})
    code = "import ctypes\nfd = ctypes.CDLL(None).memfd_create(b'hidden', 0)\n"
    code += f"for _ in range({LIMIT >> 20} + 64): os.write(fd, bytes(1 << 20))\ntime.sleep(60)"
    assert guest.run(code).outcome == "lost"
    assert guest.wait_kind(Kind.RUNNER_EXITED).read_meta()["cause"] == "memory"
    assert guest.run("pass").outcome == "ok"


def test_the_same_cell_runs_where_the_limit_allows_it(start_guest: StartGuest) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": 4 * LIMIT})
    assert guest.run(SHARED + "time.sleep(0.5)").outcome == "ok"


def test_memory_of_many_children_counts_together(start_guest: StartGuest) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": LIMIT})
    code = "for _ in range(8):\n    if os.fork() == 0:\n"
    code += f"        block = bytearray(os.urandom(1)) * {LIMIT // 4}\n        time.sleep(60)\n"
    cell = guest.run(code + "time.sleep(60)")
    assert cell.outcome == "lost"
    assert guest.wait_kind(Kind.RUNNER_EXITED).read_meta()["cause"] == "memory"


def test_pages_that_forks_share_count_once(start_guest: StartGuest) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": LIMIT})
    code = f"block = bytearray(b'x') * {LIMIT // 4}\npids = []\nfor _ in range(8):\n"
    code += "    pid = os.fork()\n    if pid == 0:\n        time.sleep(1)\n        os._exit(0)\n"
    code += "    pids.append(pid)\nfor pid in pids: os.waitpid(pid, 0)"
    assert guest.run(code).outcome == "ok"


@pytest.fixture
def big_child() -> Iterator[int]:
    """A process with 64 MiB of its own."""
    code = "block = bytearray(b'x') * (64 << 20); print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def test_files_in_the_scratch_file_system_count_as_memory(big_child: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 << 20))  # where nothing else lies in it
    directory = os.open(tmp_path, os.O_RDONLY)
    total, used, _ = file_system_use(directory)
    # Neither the process nor the files are over it, and both together are.
    limit = max(memory_bytes([big_child]), used) + (32 << 20)
    excess = MemoryWatch(limit, directory, total).check([big_child])
    # A runner much smaller than the limit is not the culprit: the files are.
    assert (excess is not None) == (memory_bytes([big_child]) >= limit // 4)
    # A larger file system is not the scratch one, and its files are not memory.
    assert MemoryWatch(limit, directory, total - (1 << 20)).check([big_child]) is None
    os.close(directory)


def test_the_largest_process_is_named(big_child: int, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    excess = MemoryWatch(32 << 20, directory, 0).check([os.getpid(), big_child, 2**22])
    assert excess is not None
    assert excess.pid in (big_child, os.getpid())
    assert excess.process_bytes > 64 << 20
    os.close(directory)


def test_a_meter_outlives_its_process(big_child: int) -> None:
    meter = Meter(big_child)
    meter.reset_peak()
    assert meter.peak_bytes() > 64 << 20
    assert meter.cpu_s() >= 0
    os.kill(big_child, signal.SIGKILL)
    poll(lambda: meter.peak_bytes() == 0)
    assert meter.cpu_s() >= 0
    meter.close()


def test_a_meter_of_nobody_reads_nothing() -> None:
    meter = Meter(2**22)
    meter.reset_peak()
    assert (meter.cpu_s(), meter.peak_bytes()) == (0, 0)
    meter.close()
