"""Puts the runner together: its socket, the engine that is there, the thread, the server."""

import os
import signal

from ...framing import Kind
from ..python.channel import Channel
from ..python.interrupts import Interrupts
from . import engines
from .server import Server
from .worker import Worker


def main() -> None:
    """Serve until the supervisor closes its end, then end the process."""
    channel = Channel(_take_fd("SANDBOX_RUNNER_FD"), Interrupts())
    os.close(_take_fd("SANDBOX_INPUT_FD"))  # SQL asks nothing
    choice = engines.choose()
    worker = Worker(choice.open)
    signal.signal(signal.SIGINT, worker.note_interrupt)
    server = Server(channel, worker, choice)
    channel.send(Kind.RUNNER_READY, 0, server.info())
    # DuckDB takes longer to import than all the rest: it may come while the host prepares.
    worker.start()
    server.serve()
    # An engine may be at work still, and nobody is left to see what it finds.
    os._exit(0)


def _take_fd(name: str) -> int:
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd
