"""`!command`: a shell's output comes as it is written, through the cell's own descriptors."""

import os
from typing import Any

from .streams import Sink

# From SIGINT to SIGKILL. The supervisor's signal reached the command, too.
_GRACE_S = 0.5


def run_command(command: str, sink: Sink) -> int:
    """Run `command` in a shell and wait for it; returns its exit code, negative for a signal.

    Raises:
        KeyboardInterrupt: while waiting; the command was ended first.
    """
    import subprocess

    sink.flush()
    executable = os.environ.get("SHELL") or None
    process = subprocess.Popen(command, shell=True, executable=executable)
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: Any) -> None:
    import signal
    import subprocess

    process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
