"""Memory of processes, as the benches count it."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from sandbox_kernel.bench.memory import descendants, proportional_mebibytes
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may read it of others")


def test_a_process_uses_something_and_one_that_has_ended_nothing():
    process = subprocess.Popen(["sleep", "600"])
    try:
        until(lambda: proportional_mebibytes([process.pid]) > 0, "its memory")
        process.send_signal(signal.SIGKILL)
        until(lambda: proportional_mebibytes([process.pid]) == 0, "its end")
        # A zombie, which is still a child of ours.
        assert process.pid in descendants(os.getpid())
    finally:
        process.kill()
        process.wait()
    assert proportional_mebibytes([process.pid]) == 0
