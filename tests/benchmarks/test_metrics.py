"""One metric on each kernel: that it measures, not how fast."""

import os
from pathlib import Path

import pytest

from sandbox_kernel.bench import against_ipykernel, client, measure, metrics, suite
from sandbox_kernel.errors import SandboxKernelError


@pytest.fixture
def reference():
    return client.contender("ipykernel", suite.REFERENCE)


def test_a_round_trip_is_measured_for_both(monkeypatch):
    monkeypatch.setattr(metrics, "ROUND_TRIPS", 3)
    told: list[str] = []
    [measured] = measure(against_ipykernel("auto"), ["round_trip"], 1, told.append)
    assert measured.median("sandbox", "seconds") > 0
    assert measured.median("ipykernel", "seconds") > 0
    assert told[-2:] == [
        "round_trip: round 1 of 1, sandbox",
        "round_trip: round 1 of 1, ipykernel",
    ]


def test_a_kernel_that_was_measured_is_gone_with_its_files(reference):
    with client.fresh_session(reference) as kernel:
        number, directory = kernel.process.pid, Path(kernel._directory)
        assert directory.exists()
    assert not Path(f"/proc/{number}").exists()
    assert not directory.exists()


def test_a_kernel_that_ignores_everything_is_ended_all_the_same(reference):
    """A stopped process answers nothing, and SIGTERM waits until it is continued."""
    import signal

    with client.fresh_session(reference) as kernel:
        os.kill(kernel.process.pid, signal.SIGSTOP)
    assert kernel.process.returncode == -signal.SIGKILL


def test_a_cell_that_fails_is_no_measurement(reference):
    with (
        client.fresh_session(reference) as kernel,
        pytest.raises(SandboxKernelError, match="division by zero"),
    ):
        kernel.run("1/0")


def test_a_kernel_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(SandboxKernelError, match="sandbox-kernel install --name nobody"):
        client.contender("x", "nobody")
