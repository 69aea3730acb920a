"""`kill -9` of the host kernel, which runs no cleanup of ours, leaves nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from sandbox_kernel import backends
from tests.support.kernels import IS_OURS, KERNEL_NAME, Kernel, environment
from tests.support.traces import Traces
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")

LONG = os.environ.get("SANDBOX_TEST_LONG") == "1"
# A start on docker costs a second; all three moments come twice.
ROUNDS = {"docker": 100 if LONG else 6}
ROUNDS_ELSEWHERE = 100 if LONG else 20

# A daemon that left its parent's session, a thread, and output that never ends.
RESTLESS = """\
import os, subprocess, threading, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "3600"])
    os._exit(0)
children = [subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"])
            for _ in range(3)]
with open("big.bin", "wb") as f:
    _ = f.write(bytes(2**20))
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
print("restless", flush=True)
time.sleep(3600)
"""


def while_it_starts(_manager: KernelManager, traces: Traces) -> None:
    """As soon as it has started anything at all."""
    until(lambda: traces.count > 1, "a process of the kernel's", every_s=0.002)


def while_it_is_idle(manager: KernelManager, _traces: Traces) -> None:
    with_client(manager, lambda kernel: kernel.run("1"))


def while_a_cell_runs(manager: KernelManager, _traces: Traces) -> None:
    def run(kernel: Kernel) -> None:
        kernel.raw.execute(RESTLESS)
        kernel.wait_for_text("restless")

    with_client(manager, run)


def with_client(manager: KernelManager, use: Callable[[Kernel], object]) -> None:
    kernel = Kernel(manager)
    try:
        kernel.wait_until_ready()
        use(kernel)
    finally:
        kernel.stop()


@pytest.mark.timeout(60 + 20 * ROUNDS_ELSEWHERE)
def test_killing_the_kernel_leaves_no_process_group_mount_container_or_file(
    tmp_path: Path, kernel_backend: str
):
    rounds = ROUNDS.get(kernel_backend, ROUNDS_ELSEWHERE)
    moments = [while_it_starts, while_it_is_idle, while_a_cell_runs]
    for number, moment in enumerate(islice(cycle(moments), rounds)):
        temporary = tmp_path / str(number)
        temporary.mkdir()
        kill_at(moment, temporary, kernel_backend)


def kill_at(moment: Callable[[KernelManager, Traces], None], temporary: Path, backend: str) -> None:
    manager = KernelManager(kernel_name=KERNEL_NAME)
    manager.start_kernel(env=environment(backend, {"TMPDIR": str(temporary)}))
    pid = manager.provisioner.pid
    traces = Traces(pid, temporary, backend)
    try:
        moment(manager, traces)
        traces.look()
        os.kill(pid, signal.SIGKILL)
        manager.provisioner.process.wait()
        until(
            lambda: not left_after_the_next_start(traces),
            f"nothing of kernel {pid} to be left after a kill {moment.__name__}",
        )
    except AssertionError as error:
        raise AssertionError(f"{error} Left: {traces.left()}") from None
    finally:
        traces.end()
        manager.shutdown_kernel(now=True)


def left_after_the_next_start(traces: Traces) -> list[str]:
    """What a kernel killed between two calls to its engine left goes with the next start.

    The engine removes a container when it ends: one that never ran does not.
    """
    left = traces.left()
    if any(line.endswith("created") for line in left):
        backends.get("docker").collect_garbage()
    return left


def test_a_killed_kernel_is_restarted_by_its_manager(kernel: Kernel):
    """What JupyterLab does after a crash."""
    old = kernel.pid
    kernel.run("lost = 1")
    os.kill(old, signal.SIGKILL)
    until(lambda: not kernel.manager.is_alive(), "the kernel's end")
    kernel.manager.restart_kernel(now=True)
    kernel.wait_until_ready()
    assert kernel.run("'lost' in globals()").result["text/plain"] == "False"


def test_the_probe_sees_what_is_there(kernel: Kernel, kernel_backend: str, tmp_path: Path):
    """The twin: while the kernel lives there is something to see."""
    traces = Traces(kernel.pid, tmp_path, kernel_backend)
    kernel.run("import subprocess; child = subprocess.Popen(['sleep', '3600'])")
    traces.look()
    (tmp_path / "left.txt").touch()
    kinds = {line.split()[0] for line in traces.left()}
    assert {"process", "file"} <= kinds
    if kernel_backend == "docker":  # its processes are the engine's, and end with the container
        assert "container" in kinds
    else:
        assert any("sleep 3600" in line for line in traces.left())
