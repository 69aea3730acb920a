"""The pipes behind descriptors 1 and 2 of the cells.

Every EXECUTE has two pipes of its own. Whoever inherited their write ends, and however
late they write, what comes out belongs to that cell for certain.

Rule 1: small writes are joined: after a read the pipe rests for `REST_S`, in which the
kernel collects. A million one-byte writes are a hundred frames a second.
Rule 2: a pipe may stay open for ever (a daemon). `OLD_PAIRS` of them are listened to.
Rule 3: nothing here waits for a pipe.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Deque, Dict, List

if TYPE_CHECKING:
    from sandbox_kernel.guest.cells import Cell
    from sandbox_kernel.guest.framing import Kind
else:
    from framing import Kind

# Longer is fewer messages, shorter is livelier; nobody sees 10 ms.
REST_S = 0.010
# A pipe that was found full once has a fast writer, which rests while we do.
_SHORT_REST_S = 0.001
# A daemon whose output is dropped anyway is not worth the time of reading it fast.
_LONG_REST_S = 0.1
# Worth a frame of its own: more comes at once.
_MUCH_BYTES = 16 * 1024
# The size of a new pipe. A fast writer's gets four times that.
_PIPE_BYTES = 64 * 1024
_FAST_PIPE_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031  # `fcntl` names it from Python 3.10 on
OLD_PAIRS = 64

_WAITING = select.EPOLLIN | select.EPOLLONESHOT


class CellPipe:
    """The read end of one pipe of one cell."""

    __slots__ = ("cell", "due_s", "fd", "is_fast", "kind")

    def __init__(self, cell: Cell, kind: int, fd: int) -> None:
        self.cell = cell
        self.kind = kind
        self.fd = fd
        self.due_s = 0.0  # until when it rests
        self.is_fast = False

    def read(self) -> bytes:
        """What is there now; b"" for nothing. Raises `EOFError` when all writers are gone."""
        try:
            data = os.read(self.fd, _FAST_PIPE_BYTES if self.is_fast else _PIPE_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise EOFError
        if len(data) >= _PIPE_BYTES and not self.is_fast:
            self._widen()
        return data

    def _widen(self) -> None:
        self.is_fast = True
        with suppress(OSError):  # the user's total of pipe memory is used up
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _FAST_PIPE_BYTES)


class Streams:
    """All pipes that are still open, the current cell's and the old ones'."""

    def __init__(self, poller: select.epoll, emit: Callable[[Cell, int, bytes], None]) -> None:
        self._poller = poller
        self._emit = emit
        self._pipes: Dict[int, CellPipe] = {}
        self._resting: List[CellPipe] = []
        self._old: Deque[Cell] = deque()
        self.is_paused = False

    def open(self, cell: Cell) -> "tuple[int, int]":
        """Two new pipes for `cell`; the write ends, for the caller to pass on and close."""
        write_fds = []
        for kind in (Kind.STDOUT, Kind.STDERR):
            read_fd, write_fd = os.pipe()
            self.watch(cell, kind, read_fd)
            write_fds.append(write_fd)
        return write_fds[0], write_fds[1]

    def hand_over(self, old: Cell, new: Cell) -> bool:
        """`new` goes on with the pipes of `old`, which has ended; False if they are gone.

        Only for when no process but the runner can hold them: what a process writes that
        an earlier cell started would be taken for the new one's.
        """
        self.drain(old)
        if len(old.pipes) != 2:
            return False
        for pipe in old.pipes:
            pipe.cell = new
        new.pipes, old.pipes = old.pipes, []
        return True

    def watch(self, cell: Cell, kind: int, fd: int) -> None:
        """Emit what comes out of `fd` as `cell`'s. The descriptor is ours from now on."""
        os.set_blocking(fd, False)
        pipe = self._pipes[fd] = CellPipe(cell, kind, fd)
        cell.pipes.append(pipe)
        if not self.is_paused:
            self._poller.register(fd, _WAITING)

    def owns(self, fd: int) -> bool:
        return fd in self._pipes

    def on_readable(self, fd: int, now_s: float) -> None:
        """A pipe has something or lost its last writer. Now it is disarmed (one shot)."""
        pipe = self._pipes[fd]
        size = self._collect(pipe)
        if size < 0:
            return
        if pipe.cell.budget.is_exhausted:
            pipe.due_s = now_s + _LONG_REST_S
        elif size >= _MUCH_BYTES:
            self._poller.modify(fd, _WAITING)
            return
        else:
            pipe.due_s = now_s + (_SHORT_REST_S if pipe.is_fast else REST_S)
        self._resting.append(pipe)

    def next_due_s(self) -> float:
        """When `wake` has something to do; infinite for never."""
        if not self._resting or self.is_paused:
            return float("inf")
        return min(pipe.due_s for pipe in self._resting)

    def wake(self, now_s: float) -> None:
        """Listen again to the pipes that rested enough."""
        if not self._resting or self.is_paused:
            return
        still_resting = []
        for pipe in self._resting:
            if pipe.due_s > now_s:
                still_resting.append(pipe)
            elif pipe.fd >= 0:
                self._poller.modify(pipe.fd, _WAITING)
        self._resting = still_resting

    def drain(self, cell: Cell) -> None:
        """Emit what `cell` wrote until now: before any other event of it, and at its end."""
        for pipe in cell.pipes[:]:
            # A full pipe may be refilled while we read, for ever: look a few times only.
            for _ in range(4):
                if self._collect(pipe) < _PIPE_BYTES:
                    break

    def retire(self, cell: Cell) -> None:
        """`cell` ended: go on listening, until there are too many."""
        self._old.append(cell)
        self._old = deque(old for old in self._old if old.pipes)
        while len(self._old) > OLD_PAIRS:
            self.close(self._old.popleft())

    def close(self, cell: Cell) -> None:
        for pipe in cell.pipes[:]:
            self._close(pipe)

    def close_all(self) -> None:
        for pipe in list(self._pipes.values()):
            self._close(pipe)
        self._old.clear()

    def pause(self, is_paused: bool) -> None:
        """Stop or resume reading all pipes: their writers wait when the host doesn't read."""
        if is_paused == self.is_paused:
            return
        self.is_paused = is_paused
        self._resting = []
        for fd in self._pipes:
            if is_paused:
                self._poller.unregister(fd)
            else:
                self._poller.register(fd, _WAITING)

    def _collect(self, pipe: CellPipe) -> int:
        """Read once and emit: how many bytes, -1 when the pipe was closed."""
        try:
            data = pipe.read()
        except (EOFError, OSError):
            self._close(pipe)
            return -1
        if data:
            self._emit(pipe.cell, pipe.kind, data)
        return len(data)

    def _close(self, pipe: CellPipe) -> None:
        if not self.is_paused:
            self._poller.unregister(pipe.fd)
        del self._pipes[pipe.fd]
        pipe.cell.pipes.remove(pipe)
        os.close(pipe.fd)
        pipe.fd = -1
