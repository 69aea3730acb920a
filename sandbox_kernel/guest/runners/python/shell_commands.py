"""`!command`, and the order of what a cell prints and what its processes write.

The output of processes comes as it is written, through the cell's own descriptors.
"""

import functools
import os
import sys
from typing import Any

from .streams import Sink

# From SIGINT to SIGKILL. The supervisor's signal reached the command, too.
_GRACE_S = 0.5


def flush_before_processes(sink: Sink) -> None:
    """What a cell printed before it starts a process is sent before that process writes."""
    for name in ("system", "posix_spawn", "posix_spawnp"):
        setattr(os, name, _flushing(getattr(os, name), sink))


def flush_before_fork_exec(sink: Sink) -> None:
    """The same for what subprocess, multiprocessing and asyncio start processes with.

    Called once, right after `_posixsubprocess` was imported.
    """
    module = sys.modules["_posixsubprocess"]
    module.fork_exec = _flushing(module.fork_exec, sink)  # type: ignore[attr-defined]
    if hasattr(sys.modules.get("subprocess"), "_fork_exec"):
        sys.modules["subprocess"]._fork_exec = module.fork_exec  # type: ignore[attr-defined]


def _flushing(function: Any, sink: Sink) -> Any:
    @functools.wraps(function)
    def flush_first(*arguments: Any, **options: Any) -> Any:
        sink.flush()
        return function(*arguments, **options)

    return flush_first


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
