"""Shutdown and restart: answered, in time, and nothing of them left behind.

A kernel's containers are looked for where it ends: in `running_kernel`.
"""

from __future__ import annotations

import pytest

from tests.support import docker_engine
from tests.support.kernels import IS_OURS, Family, Kernel, environment, running_kernel
from tests.support.waiting import DEADLINE_S, until

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("channel", ["control", "shell"])
def test_shutdown_is_answered_and_the_process_ends(kernel: Kernel, channel: str, restart: bool):
    family = Family(kernel.pid)
    kernel.run("1")
    family.note()
    reply = kernel.request("shutdown_request", {"restart": restart}, channel=channel)
    assert reply["msg_type"] == "shutdown_reply"
    assert reply["content"] == {"status": "ok", "restart": restart}
    until(lambda: not kernel.manager.is_alive(), "the kernel's end")
    until(lambda: not family.alive(), "the end of its processes")


@ours_only
def test_shutdown_during_a_busy_cell_leaves_nothing(kernel: Kernel):
    family = Family(kernel.pid)
    kernel.start_running("import subprocess\nsubprocess.run(['sleep', '3600'])")
    family.note()
    reply = kernel.request("shutdown_request", {"restart": False}, channel="control")
    assert reply["content"]["status"] == "ok"
    until(lambda: not kernel.manager.is_alive(), "the kernel's end")
    until(lambda: not family.alive(), "the end of its processes")


def test_the_managers_shutdown_needs_no_force(kernel: Kernel):
    """A kernel that ended by itself exits with 0. A busy machine gets more than the usual 5 s."""
    family = Family(kernel.pid)
    kernel.run("1")
    family.note()
    process = kernel.manager.provisioner.process
    kernel.manager.shutdown_wait_time = DEADLINE_S
    kernel.manager.shutdown_kernel()
    assert process.poll() == 0
    until(lambda: not family.alive(), "the end of its processes")


def test_the_managers_kill_leaves_no_process(kernel: Kernel):
    """`now=True` is SIGKILL: no cleanup of ours runs."""
    family = Family(kernel.pid)
    kernel.run("import subprocess; child = subprocess.Popen(['sleep', '3600'])")
    family.note()
    kernel.manager.shutdown_kernel(now=True)
    until(lambda: not family.alive(), "the end of its processes")


def test_a_restart_forgets_the_variables_and_takes_a_new_session_id(kernel: Kernel):
    before = kernel.run("forgotten = 1")
    family = Family(kernel.pid)
    family.note()
    kernel.manager.restart_kernel()
    kernel.wait_until_ready()
    after = kernel.run("'forgotten' in globals()")
    assert after.result["text/plain"] == "False"
    assert after.content["execution_count"] == 1
    assert after.reply["header"]["session"] != before.reply["header"]["session"]
    until(lambda: not family.alive(), "the end of the old processes")


def test_status_starting_is_said_once(kernel: Kernel):
    kernel.run("1")
    starting = [m for m in kernel.heard if m["content"].get("execution_state") == "starting"]
    assert len(starting) <= 1


@ours_only
def test_a_client_with_a_dead_parent_is_noticed(tmp_path, kernel_backend):
    """JPY_PARENT_PID: when who started the kernel is gone, the kernel ends."""
    import subprocess
    import sys

    script = (
        "import os, sys\n"
        "from jupyter_client.manager import start_new_kernel\n"
        f"manager, client = start_new_kernel(kernel_name={_name()!r})\n"
        "print(manager.provisioner.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    starter = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env=environment(kernel_backend),
        check=False,
    )
    assert starter.returncode == 0, starter.stderr
    family = Family(int(starter.stdout))
    family.note()
    try:
        until(lambda: not family.alive(), "the orphan's end")
        if kernel_backend == "docker":
            owners = family.pids
            until(lambda: not docker_engine.containers_of(*owners), "its container's end")
    finally:
        family.end()


def _name() -> str:
    from tests.support.kernels import KERNEL_NAME

    return KERNEL_NAME


@ours_only
def test_the_kernel_ends_by_sigterm_with_everything(tmp_path, kernel_backend):
    import signal

    with running_kernel(backend=kernel_backend, cwd=tmp_path) as kernel:
        kernel.run("import subprocess; child = subprocess.Popen(['sleep', '3600'])")
        family = Family(kernel.pid)
        family.note()
        kernel.manager.provisioner.process.send_signal(signal.SIGTERM)
        until(lambda: not family.alive(), "the end of its processes")
