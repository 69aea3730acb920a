"""The output budget of one cell: head to the host, everything to a file, tail at the end.

A cell may write `limit_bytes` to its streams. Three quarters are shown as they come; from
there on all goes to `output-<n>.txt` in the workspace, which begins with what was shown,
and the last quarter is shown when the cell ends.

Rule 1: the file is made with O_EXCL and O_NOFOLLOW beneath an open directory: whatever
the guest put under that name stays what it was.
Rule 2: a full disk never stops a cell. The file ends early, the counting goes on.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from typing import Deque, List, Optional

# What was shown is kept in memory until it is needed for the file. With a larger budget
# the file is begun early instead, and removed again when the budget was enough.
_KEPT_BYTES = 8 * 1024 * 1024
# The tail is kept in memory, so a budget of gigabytes gets less than a quarter of it.
_TAIL_BYTES = 16 * 1024 * 1024
_NAMES = 100


class OutputBudget:
    """Decides for every piece of stream output whether it is shown, filed or dropped."""

    def __init__(self, limit_bytes: int, file_bytes: int, directory: int, name: str) -> None:
        self.limit_bytes = limit_bytes  # 0: no budget
        self.written_bytes = 0
        self.is_truncated = False
        self.is_over = False  # the cell ended: nothing is filed any more
        self.file_name: Optional[str] = None
        self._threshold = limit_bytes // 4 * 3
        self._shown = 0
        self._shown_pieces: List[bytes] = []
        self._tail = _Tail(min(limit_bytes // 4, _TAIL_BYTES))
        self._file = _SpillFile(directory, name, file_bytes)

    def admits(self, size: int) -> bool:
        """Whether `size` more bytes may be shown whole. Then call `show`."""
        if not self.limit_bytes:
            return True
        return not self.is_truncated and self._shown + size <= self._threshold

    def show(self, data: bytes) -> None:
        """Note `data` as shown."""
        self.written_bytes += len(data)
        if not self.limit_bytes:
            return
        self._shown += len(data)
        if self.is_over:
            return
        if self._file.is_begun:
            self._file.write(data)
            return
        self._shown_pieces.append(data)
        if self._shown > _KEPT_BYTES:
            self._begin_file()

    def cut(self, data: bytes) -> bytes:
        """Take output that is not admitted; the part of it that is still to be shown."""
        if self.is_truncated:
            self._keep(data)
            return b""
        head = data[: _cut_point(data, self._threshold - self._shown)]
        self.show(head)
        self.is_truncated = True
        if not self.is_over:
            if not self._file.is_begun:
                self._begin_file()
            self.file_name = self._file.name
        self._keep(data[len(head) :])
        return head

    @property
    def is_exhausted(self) -> bool:
        """Whether all that is still to come will be dropped."""
        return self.is_over and self.is_truncated

    def finish(self) -> "tuple[int, bytes]":
        """The cell ended: (bytes omitted, the tail), and everything held is let go."""
        self.is_over = True
        omitted, tail = self._tail.take()
        self._shown_pieces = []
        self._file.close(is_wanted=self.is_truncated)
        return omitted, tail

    def _keep(self, data: bytes) -> None:
        self.written_bytes += len(data)
        if not self.is_over:
            self._file.write(data)
            self._tail.add(data)

    def _begin_file(self) -> None:
        self._file.begin()
        for piece in self._shown_pieces:
            self._file.write(piece)
        self._shown_pieces = []


class _Tail:
    """The last bytes of what was added."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: Deque[bytes] = deque()
        self._size = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        if len(data) > self._limit:
            self._dropped += len(data) - self._limit
            data = data[len(data) - self._limit :]
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= self._limit:
            piece = self._pieces.popleft()
            self._size -= len(piece)
            self._dropped += len(piece)

    def take(self) -> "tuple[int, bytes]":
        """(bytes dropped before it, the tail from the first whole line or character on)."""
        tail = b"".join(self._pieces)
        self._pieces.clear()
        excess = max(len(tail) - self._limit, 0)
        if excess or self._dropped:
            line = tail.find(b"\n", excess, excess + 4096)
            excess = line + 1 if line >= 0 else _character_start(tail, excess)
        return self._dropped + excess, tail[excess:]


class _SpillFile:
    """The file in the workspace. Every failure means a shorter file, never an error."""

    def __init__(self, directory: int, name: str, limit_bytes: int) -> None:
        self.name: Optional[str] = None
        self.is_begun = False
        self._directory = directory
        self._wanted_name = name
        self._room = limit_bytes
        self._fd = -1

    def begin(self) -> None:
        self.is_begun = True
        if not self._room:  # a budget without a file
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        stem = self._wanted_name
        for number in range(1, _NAMES):
            name = stem + ".txt" if number == 1 else "%s-%d.txt" % (stem, number)
            try:
                self._fd = os.open(name, flags, 0o644, dir_fd=self._directory)
            except FileExistsError:
                continue
            except OSError:
                return
            self.name = name
            return

    def write(self, data: bytes) -> None:
        data = data[: self._room]
        if self._fd < 0 or not data:
            return
        try:
            written = os.write(self._fd, data)
        except OSError:  # full, or over a quota
            written = 0
        # A short write is a full disk too: what follows would leave a gap.
        self._room = self._room - written if written == len(data) else 0

    def close(self, is_wanted: bool) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if not is_wanted and self.name is not None:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._directory)


def _cut_point(data: bytes, limit: int) -> int:
    """At most `limit`: after the last line that fits, else between two characters."""
    line = data.rfind(b"\n", max(limit - 4096, 0), limit)
    return line + 1 if line >= 0 else _character_end(data, limit)


def _character_end(data: bytes, position: int) -> int:
    while position > 0 and position < len(data) and data[position] & 0xC0 == 0x80:
        position -= 1
    return position


def _character_start(data: bytes, position: int) -> int:
    stop = min(position + 3, len(data))
    while position < stop and data[position] & 0xC0 == 0x80:
        position += 1
    return position
