"""The interpreter's process, and the two pipes that join us to it.

Rule 1: it is in this process's group: the supervisor's signals reach it and its children.
Rule 2: when it ends, we end in the same way, so that the supervisor sees its exit code or
its signal. Who holds its pipes open meanwhile doesn't matter.
"""

import fcntl
import os
import select
import signal
from contextlib import suppress
from typing import List, Optional

_REQUESTS, _EVENTS = 3, 4
_READ_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1024 * 1024


class Child:
    """One interpreter. `events` is readable when it said something, `deaths` when it ended."""

    def __init__(self, argv: List[str]) -> None:
        """Raises OSError: it cannot be started."""
        self.deaths = _watch_children()
        request_read, self.requests = os.pipe()
        self.events, event_write = os.pipe()
        with suppress(OSError):  # over the user's share: slower, no more
            fcntl.fcntl(self.events, _F_SETPIPE_SZ, _PIPE_BYTES)
        self.pid = _spawn(argv, request_read, event_write)
        os.close(request_read)
        os.close(event_write)
        os.set_blocking(self.events, False)
        os.set_blocking(self.requests, False)
        self.unsent = bytearray()

    def send(self, request: bytes) -> None:
        """Write a request; waits while the interpreter doesn't read. Nothing if it is gone."""
        self.post(request)
        while self.unsent:
            select.select([], [self.requests], [])
            self.flush()

    def post(self, message: bytes) -> None:
        """The same without waiting: `flush` writes what is `unsent` when `requests` takes it."""
        self.unsent += message
        self.flush()

    def flush(self) -> None:
        """Write what it reads now."""
        try:
            while self.unsent:
                del self.unsent[: os.write(self.requests, self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()  # it is dying: `deaths` tells

    def read(self) -> Optional[bytes]:
        """What it said: None for nothing now, b"" when nobody is left who could."""
        try:
            return os.read(self.events, _READ_BYTES)
        except BlockingIOError:
            return None

    def read_last(self) -> bytes:
        """All that is left of what a dead one said.

        That is a pipe full at most, read at once: who still holds it open may fill it again
        faster than it is understood, for ever.
        """
        with suppress(BlockingIOError):
            return os.read(self.events, _PIPE_BYTES)
        return b""

    def interrupt(self) -> None:
        """SIGINT once more to our whole group, for one that came before it could be heard.

        An interpreter that waits for a child ignores it meanwhile, and the child may not have
        been there at first.
        """
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # we are in the group, too
        os.killpg(os.getpgrp(), signal.SIGINT)
        signal.signal(signal.SIGINT, handler)

    def poll(self) -> Optional[int]:
        """Its wait status, once it has ended."""
        with suppress(BlockingIOError):
            while os.read(self.deaths, 4096):
                pass
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None


def end_like(status: int) -> None:
    """End this process as the interpreter ended. Never returns."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128)


def _watch_children() -> int:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return read_fd


def _spawn(argv: List[str], requests: int, events: int) -> int:
    """posix_spawn, in two hops: the pipes may have each other's final numbers."""
    high_requests = fcntl.fcntl(requests, fcntl.F_DUPFD_CLOEXEC, 10)
    high_events = fcntl.fcntl(events, fcntl.F_DUPFD_CLOEXEC, 10)
    environment = dict(os.environ, SANDBOX_ADAPTER=str(os.getpid()))
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, high_requests, _REQUESTS),
                (os.POSIX_SPAWN_DUP2, high_events, _EVENTS),
            ],
            # What Python ignores, and what it handles, a program starts without.
            setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
        )
    finally:
        os.close(high_requests)
        os.close(high_events)
