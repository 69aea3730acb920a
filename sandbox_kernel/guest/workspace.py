"""The workspace: what a cell made in it, and the host's requests for files.

Rule 1: every path is walked from the workspace's own descriptor, component by component,
with O_NOFOLLOW: no symlink, wherever and whenever it is planted, leads anywhere.
Rule 2: only regular files are opened, without blocking and checked once more when open:
a FIFO or a device under a promising name costs nothing.
Rule 3: every walk is bounded in entries, depth, bytes of names and time.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

MAX_ENTRIES = 10_000
MAX_DEPTH = 16
MAX_SCAN_S = 0.1
# Escaped for JSON a byte is six; a list stays well under a frame.
MAX_NAME_BYTES = 2 * 1024 * 1024
READ_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024

# File times tick with the kernel's timer: 10 ms at the slowest.
_TICK_NS = 10_000_000
_CLOCK_REALTIME_COARSE = 5

_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | _OPEN

Fingerprint = Tuple[int, int, int, int]


class FileRefused(Exception):
    """A request for a file that cannot be met; the text says why in whole sentences."""


class Entry(NamedTuple):
    """A regular file as a walk found it."""

    name: str  # relative to the workspace
    status: os.stat_result


def file_clock_ns() -> int:
    """Now, by the clock that the kernel stamps files with."""
    try:
        return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    except OSError:
        return time.time_ns() - _TICK_NS


class Walk:
    """Lists regular files below a directory, within the bounds. Use once."""

    def __init__(self, is_visible: Callable[[str], bool], deadline_s: float = MAX_SCAN_S) -> None:
        self.is_complete = True
        self._is_visible = is_visible
        self._deadline_s = time.monotonic() + deadline_s
        self._entries_left = MAX_ENTRIES
        self._name_bytes_left = MAX_NAME_BYTES

    def files(self, directory: int, prefix: str = "", depth: int = 1) -> Iterator[Entry]:
        """The files, those of a directory before those of its subdirectories."""
        subdirectories: List[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not self._may_go_on(prefix, entry.name):
                        return
                    if not self._is_visible(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        subdirectories.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        yield Entry(prefix + entry.name, entry.stat(follow_symlinks=False))
        except OSError:  # removed or locked away while we look
            self.is_complete = False
        for name in subdirectories:
            yield from self._descend(directory, name, prefix, depth)

    def _descend(self, directory: int, name: str, prefix: str, depth: int) -> Iterator[Entry]:
        if depth >= MAX_DEPTH or not self._entries_left:
            self.is_complete = False
            return
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
        except OSError:
            return  # swapped for something else, or closed to us
        try:
            yield from self.files(inner, prefix + name + "/", depth + 1)
        finally:
            os.close(inner)

    def _may_go_on(self, prefix: str, name: str) -> bool:
        self._entries_left -= 1
        self._name_bytes_left -= len(prefix) + len(name)
        # The clock is asked for every 64th entry; an entry takes microseconds.
        is_late = self._entries_left % 64 == 0 and time.monotonic() > self._deadline_s
        if self._entries_left < 0 or self._name_bytes_left < 0 or is_late:
            self._entries_left = 0
            self.is_complete = False
        return self.is_complete or self._entries_left > 0


class GeneratedFile(NamedTuple):
    name: str
    size: int
    is_whole: bool
    content: bytes


class Workspace:
    """The directory that is the runner's working directory and the host's file store."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Files within a tick of a cell's beginning: made before it, or by the host.
        self._known: Dict[str, Fingerprint] = {}

    # -- what a cell made

    def changes(self, since_ns: int) -> "tuple[list[Entry], bool]":
        """Files new or changed since a cell began, oldest first; and whether that is all.

        Nothing can set a file's ctime back, so it alone says what changed since; what the
        previous cell or the host wrote in the same tick is told apart by its fingerprint.
        """
        walk = Walk(_is_watched)
        since_ns -= _TICK_NS
        recent = [entry for entry in walk.files(self.fd) if entry.status.st_ctime_ns >= since_ns]
        known, self._known = self._known, {}
        changed = []
        for entry in recent:
            mark = self._known[entry.name] = _fingerprint(entry.status)
            if known.get(entry.name) != mark:
                changed.append(entry)
        changed.sort(key=lambda entry: (entry.status.st_mtime_ns, entry.name))
        return changed, walk.is_complete

    def collect(self, entry: Entry, whole_bytes: int) -> GeneratedFile:
        """The bytes of `entry` that are offered: all of a picture, else the head."""
        try:
            fd = self._open_file(entry.name, os.O_RDONLY)
        except (FileRefused, OSError, ValueError):  # mode 000, or gone already
            return GeneratedFile(entry.name, entry.status.st_size, False, b"")
        try:
            size = os.fstat(fd).st_size
            content = _read_at(fd, 0, min(size, HEAD_BYTES))
            if HEAD_BYTES < size <= whole_bytes and looks_like_picture(content):
                content = _read_at(fd, 0, size)
            return GeneratedFile(entry.name, size, len(content) == size, content)
        except OSError:
            return GeneratedFile(entry.name, entry.status.st_size, False, b"")
        finally:
            os.close(fd)

    # -- requests of the host

    def list_files(self) -> Dict[str, Any]:
        walk = Walk(lambda name: True, deadline_s=1.0)
        files = [
            {"name": name, "size": status.st_size, "mtime_s": status.st_mtime}
            for name, status in walk.files(self.fd)
        ]
        return {"files": files, "is_complete": walk.is_complete}

    def read_file(self, name: str, offset: int, length: int) -> "tuple[dict[str, Any], bytes]":
        fd = self._open_file(name, os.O_RDONLY)
        try:
            content = _read_at(fd, offset, min(length, READ_BYTES))
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        return {"size": size, "eof": offset + len(content) >= size}, content

    def write_file(self, name: str, offset: int, is_truncating: bool, data: bytes) -> int:
        """Write at `offset`, after cutting the file there if asked; the new size."""
        fd = self._open_file(name, os.O_WRONLY | os.O_CREAT, is_making_parents=True)
        try:
            if is_truncating:
                os.ftruncate(fd, offset)
            view = memoryview(data)
            while view:
                count = os.pwrite(fd, view, offset)
                offset += count
                view = view[count:]
            status = os.fstat(fd)
        finally:
            os.close(fd)
        self._known[name] = _fingerprint(status)
        return status.st_size

    def remove_file(self, name: str) -> None:
        parents, last = _split(name)
        directory = self._open_directory(parents, False)
        try:
            os.unlink(last, dir_fd=directory)
        finally:
            os.close(directory)

    def _open_file(self, name: str, flags: int, is_making_parents: bool = False) -> int:
        parents, last = _split(name)
        directory = self._open_directory(parents, is_making_parents)
        try:
            fd = os.open(last, flags | _OPEN, 0o644, dir_fd=directory)
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileRefused("%r is not a regular file." % name)
        return fd

    def _open_directory(self, parents: List[str], is_making: bool) -> int:
        directory = os.dup(self.fd)
        for parent in parents:
            try:
                if is_making:
                    _make_directory(parent, directory)
                inner = os.open(parent, _DIRECTORY, dir_fd=directory)
            finally:
                os.close(directory)
            directory = inner
        return directory


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes are those of a picture. The host checks; this only offers."""
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    start = head[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in start


def _is_watched(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__"


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _split(name: str) -> "tuple[list[str], str]":
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise FileRefused("%r is not a path inside the workspace." % name)
    if len(parts) > MAX_DEPTH:
        raise FileRefused("%r has more than %d levels." % (name, MAX_DEPTH))
    return parts[:-1], parts[-1]


def _make_directory(name: str, directory: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)


def _read_at(fd: int, offset: int, length: int) -> bytes:
    pieces = []
    while length > 0:
        piece = os.pread(fd, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
