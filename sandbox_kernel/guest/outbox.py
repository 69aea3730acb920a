"""What waits to go to the host. Never blocks; says when others should stop producing.

Rule 1: only whole frames are put in, so the host never sees one inside another.
Rule 2: what is put in is kept until it is written; the bound is the producers' to keep,
by looking at `is_full` before they read more from a runner or a pipe.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Deque, Dict, Optional, Union

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import HEADER, pack
else:
    from framing import HEADER, pack

Bytes = Union[bytes, memoryview]

# Past this nothing more is read from runner and pipes until half of it is written. It is
# a fraction of a second of a fast host's reading, and small beside any memory limit.
FULL_BYTES = 4 * 1024 * 1024
# The kernel takes at most 1024 pieces at once (IOV_MAX).
_PIECES = 256
# From here on a copy costs more than a system call.
_DIRECT_BYTES = 32 * 1024


class Outbox:
    """A queue of frames in front of one non-blocking descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: Deque[memoryview] = deque()
        self.size = 0
        self.is_stuck = False  # the descriptor took less than it was given
        self._was_full = False

    @property
    def is_full(self) -> bool:
        """With hysteresis, so that producers are not stopped and started for each write."""
        limit = FULL_BYTES // 2 if self._was_full else FULL_BYTES
        self._was_full = self.size > limit
        return self._was_full

    def put(self, frame: bytes) -> None:
        """Queue bytes that nobody changes any more."""
        self._pieces.append(memoryview(frame))
        self.size += len(frame)

    def put_frame(
        self, kind: int, cell: int, meta: Optional[Dict[str, Any]] = None, data: Bytes = b""
    ) -> None:
        self.put(pack(kind, cell, meta, data))

    def put_data(self, kind: int, cell: int, data: Bytes) -> None:
        """A frame without metadata, its data not copied."""
        self.put(HEADER.pack(len(data), kind, cell, 0))
        self._pieces.append(memoryview(data))
        self.size += len(data)

    def put_borrowed(self, frames: memoryview) -> None:
        """Frames in a buffer that is used again: written now, and copied if that fails."""
        if len(frames) < _DIRECT_BYTES or self.is_stuck:
            self.put(bytes(frames))
            return
        self._pieces.append(frames)
        self.size += len(frames)
        self.flush()
        if self._pieces:
            self._pieces[-1] = memoryview(bytes(self._pieces[-1]))

    def flush(self) -> None:
        """Write what the descriptor takes. Raises `BrokenPipeError` when the host is gone."""
        pieces = self._pieces
        while pieces:
            try:
                written = os.writev(self._fd, list(islice(pieces, _PIECES)))
            except BlockingIOError:
                self.is_stuck = True
                return
            self.size -= written
            self._forget(written)
        self.is_stuck = False

    def _forget(self, written: int) -> None:
        pieces = self._pieces
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.popleft())
        if written:
            pieces[0] = pieces[0][written:]
