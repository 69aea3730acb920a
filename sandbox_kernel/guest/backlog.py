"""Requests that wait until a runner can take them, in the order in which they came."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Deque, List

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import Frame, Kind
else:
    from framing import Kind

# A host queues a notebook's cells itself; this bounds one that went wrong.
_MAX_FRAMES = 10_000
_MAX_BYTES = 64 * 1024 * 1024


class Backlog:
    """One runner's."""

    def __init__(self) -> None:
        self._frames: Deque[Frame] = deque()
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def is_cell_first(self) -> bool:
        return self._frames[0].kind == Kind.EXECUTE

    @property
    def has_cells(self) -> bool:
        return any(frame.kind == Kind.EXECUTE for frame in self._frames)

    def put(self, frame: Frame) -> bool:
        """Keep a request; False when there are too many already."""
        size = self._size + _size(frame)
        if len(self._frames) >= _MAX_FRAMES or size > _MAX_BYTES:
            return False
        self._frames.append(frame)
        self._size = size
        return True

    def pop(self) -> Frame:
        frame = self._frames.popleft()
        self._size -= _size(frame)
        return frame

    def take_all(self) -> List[Frame]:
        taken = list(self._frames)
        self._frames.clear()
        self._size = 0
        return taken

    def take_cells(self) -> List[Frame]:
        """The cells; what is no cell waits on."""
        frames = self.take_all()
        for frame in frames:
            if frame.kind != Kind.EXECUTE:
                self.put(frame)
        return [frame for frame in frames if frame.kind == Kind.EXECUTE]


def _size(frame: Frame) -> int:
    return len(frame.meta) + len(frame.data)
