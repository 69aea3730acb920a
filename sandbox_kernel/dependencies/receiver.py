"""Writes a layer that a builder hands over: the one place where its bytes become files here.

A builder ran strangers' code. It names files; this decides which names are names.

Rule 1: regular files and the directories above them, below one directory, and nothing else: no
link, no device, no owner, no time, no mode but 0644 and 0755.
Rule 2: every component is opened from the directory above it, without following links, and
every file is made new.
Rule 3: the first lie ends it: `LayerRefused`. Then, or when it is left unfinished, everything
that was written is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

from sandbox_kernel.limits import GIB, MIB, format_size

_FILE, _PROGRAM, _DIRECTORY = 0o644, 0o755, 0o755
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Bounds(NamedTuple):
    """How large a layer may be.

    Args:
        bytes: of all files; what a builder's own disk holds.
        files: a scientific environment has 50,000, an application of npm's 60,000.
        depth: npm's deepest trees have 30.
    """

    bytes: int = 4 * GIB
    files: int = 200_000
    depth: int = 64
    name_bytes: int = 255  # NAME_MAX
    path_bytes: int = 4000  # PATH_MAX, less what stands before it
    all_paths_bytes: int = 64 * MIB  # held here; 60,000 files of npm's have 6 MiB


class LayerRefused(Exception):
    """The builder described what no layer is; the text says what, for the log."""


class Received(NamedTuple):
    """A whole layer."""

    files: int
    size_bytes: int
    digest: str  # of all paths, modes and contents


class _Entry(NamedTuple):
    parts: tuple[str, ...]
    is_executable: bool
    size: int


class Receiver:
    """Takes a layer piece by piece: entries, and the bytes of their contents in order.

    Args:
        directory: where it goes; made if it isn't there, else empty.

    Raises:
        LayerRefused: there is something in `directory`.
        OSError: it cannot be made.
    """

    def __init__(self, directory: Path, bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self._directory = directory
        self._bounds = bounds
        self._entries: deque[_Entry] = deque()
        self._known: set[tuple[str, ...]] = set()  # files
        self._folders: set[tuple[str, ...]] = {()}
        self._sums: list[tuple[str, bool, str]] = []
        self._announced_bytes = 0
        self._paths_bytes = 0
        self._file = -1
        self._left = 0
        self._sum = sha256()
        self._is_finished = False
        self._is_ours = not os.path.lexists(directory)
        if self._is_ours:
            os.mkdir(directory, _DIRECTORY)
        self._root = os.open(directory, _OPEN)
        if os.listdir(self._root):
            os.close(self._root)
            raise LayerRefused(f"The directory {directory} is not empty.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave a finished layer, and nothing of any other."""
        self._close_file()
        os.close(self._root)
        if not self._is_finished:
            shutil.rmtree(self._directory, ignore_errors=True)
            if not self._is_ours:
                os.mkdir(self._directory, 0o700)

    def take(self, entries: Any, content: bytes) -> None:
        """The next piece, as the guest sent it: any value at all.

        Raises:
            LayerRefused: it breaks a rule.
            OSError: the disk is full.
        """
        if not isinstance(entries, list):
            raise LayerRefused("The entries are no list.")
        for item in entries:
            self._announce(item)
        view = memoryview(content)
        while len(view) or self._has_empty_file():
            view = view[self._write(view) :]

    def finish(self) -> Received:
        """It is whole.

        Raises:
            LayerRefused: something that was announced is missing.
        """
        if self._file >= 0 or self._entries:
            raise LayerRefused("A file ended before its announced size.")
        total = sha256()
        for path, is_executable, digest in sorted(self._sums):
            total.update(f"{len(path)}:{path}\0{is_executable:d}{digest}\n".encode())
        self._is_finished = True
        return Received(len(self._sums), self._announced_bytes, total.hexdigest())

    # -- what is announced

    def _announce(self, item: Any) -> None:
        match item:
            case {"path": str(path), "is_executable": bool(is_executable), "size": int(size)}:
                entry = _Entry(self._parts(path), is_executable, self._size(size))
            case _:
                raise LayerRefused("An entry is none.")
        self._announced_bytes += size
        if self._announced_bytes > self._bounds.bytes:
            raise LayerRefused(f"The installed files are over {format_size(self._bounds.bytes)}.")
        if len(self._known) >= self._bounds.files:
            raise LayerRefused(f"There are over {self._bounds.files:,} installed files.")
        self._paths_bytes += len(path)
        if self._paths_bytes > self._bounds.all_paths_bytes:
            limit = format_size(self._bounds.all_paths_bytes)
            raise LayerRefused(f"The names of the installed files are over {limit}.")
        self._claim(entry.parts)
        self._entries.append(entry)

    def _size(self, size: int) -> int:
        if isinstance(size, bool) or not 0 <= size <= self._bounds.bytes:
            raise LayerRefused(f"A file has {size} bytes.")
        return size

    def _parts(self, path: str) -> tuple[str, ...]:
        try:
            encoded = path.encode("utf-8")
        except UnicodeEncodeError:
            raise LayerRefused(f"The name {ascii(path)[:200]} is not UTF-8.") from None
        parts = tuple(path.split("/"))
        bounds = self._bounds
        if (
            len(encoded) > bounds.path_bytes
            or len(parts) > bounds.depth
            or _CONTROL.search(path)
            or any(part in ("", ".", "..") for part in parts)
            or any(len(part.encode()) > bounds.name_bytes for part in parts)
        ):
            raise LayerRefused(f"The name {ascii(path)[:200]} is none for a file of a layer.")
        return parts

    def _claim(self, parts: tuple[str, ...]) -> None:
        """No file twice, none that is a directory as well."""
        above = [parts[:depth] for depth in range(1, len(parts))]
        if parts in self._known or parts in self._folders or self._known.intersection(above):
            raise LayerRefused(f"The name {ascii('/'.join(parts))[:200]} comes twice.")
        self._known.add(parts)
        for folder in above:
            if folder not in self._folders:
                self._folders.add(folder)
                if len(self._folders) > self._bounds.files:
                    raise LayerRefused(f"There are over {self._bounds.files:,} directories.")

    # -- what is written

    def _has_empty_file(self) -> bool:
        return self._file < 0 and bool(self._entries) and self._entries[0].size == 0

    def _write(self, view: memoryview) -> int:
        """Write what belongs to the current file; how many bytes that were."""
        if self._file < 0:
            if not self._entries:
                raise LayerRefused("There are bytes that belong to no file.")
            self._begin(self._entries[0])
        taken = view[: self._left]
        self._sum.update(taken)
        left = taken
        while len(left):
            left = left[os.write(self._file, left) :]
        self._left -= len(taken)
        if not self._left:
            self._end(self._entries.popleft())
        return len(taken)

    def _begin(self, entry: _Entry) -> None:
        with self._opened(entry.parts[:-1]) as folder:
            mode = _PROGRAM if entry.is_executable else _FILE
            self._file = os.open(entry.parts[-1], _NEW, mode, dir_fd=folder)
        os.fchmod(self._file, mode)  # whatever our umask is
        self._left = entry.size
        self._sum = sha256()

    def _end(self, entry: _Entry) -> None:
        self._close_file()
        self._sums.append(("/".join(entry.parts), entry.is_executable, self._sum.hexdigest()))

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @contextlib.contextmanager
    def _opened(self, parts: tuple[str, ...]) -> Any:
        """The directory at `parts`, made on the way down."""
        current = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, _DIRECTORY, dir_fd=current)
                below = os.open(part, _OPEN, dir_fd=current)
                os.close(current)
                current = below
                os.fchmod(current, _DIRECTORY)
            yield current
        finally:
            os.close(current)
