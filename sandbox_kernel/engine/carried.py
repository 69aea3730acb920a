"""Files that the host keeps between runs in fresh sandboxes.

What a caller writes is there in every run; what runs make can be read afterwards, and goes
into the next run where the workspace is shared. Where it is not, a run that changes a
caller's file changes nothing for the next one.

Rule 1: names are the guest's word: keys of a dictionary, never paths of the host. Contents
lie in one anonymous file, which is gone with this process however that ends.
Rule 2: no more is kept than one workspace may hold.
Rule 3: what no sandbox would take is refused when it is written, not in every run after it.
Rule 4: a run chooses how many files there are and how large: a file costs the same however
many others there are, and passes through memory a piece at a time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, NamedTuple

from sandbox_kernel.errors import (
    FileTooLarge,
    RequestRefused,
    SandboxKernelError,
    SessionClosed,
)
from sandbox_kernel.limits import Limits, format_size
from sandbox_kernel.session import FileEntry, Files

# Rewritten without what was replaced, when that is more than this and than what is kept.
WASTE_BYTES = 64 * 1024 * 1024
# While runs overlap without a pause nothing can be moved: then the file ends at so many times
# what may be kept.
MAX_WASTE = 4
_PIECE_BYTES = 1024 * 1024
# As the supervisor and every file system have it.
_MAX_PARTS, _MAX_PART_BYTES = 16, 255


class _Kept(NamedTuple):
    entry: FileEntry
    offset: int


class Carried:
    """The workspace of a session whose runs begin anew.

    Args:
        limits: of a sandbox: bytes and number of files.
        is_shared: whether what runs make goes into the next run.
    """

    def __init__(self, limits: Limits, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self.limits = limits
        self._given: dict[str, _Kept] = {}  # as the caller wrote them
        self._made: dict[str, _Kept] = {}  # by runs; read before a given one of that name
        self._bytes = 0  # of all that is kept
        self._file: IO[bytes] | None = None
        self._end = 0
        self._holders = 0  # who relies on offsets now
        self._is_closed = False

    @property
    def is_empty(self) -> bool:
        return not self._given and not self._made

    # -- as `session.Files` has it

    async def list(self) -> list[FileEntry]:
        return sorted(kept.entry for kept in {**self._given, **self._made}.values())

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """
        Raises:
            RequestRefused: there is no such file.
            FileTooLarge: it is over `limit_bytes`.
        """
        kept = self._made.get(name) or self._given.get(name)
        if kept is None:
            raise RequestRefused(f"There is no file {name!r} in the workspace.")
        if limit_bytes is not None and kept.entry.size > limit_bytes:
            limit = format_size(limit_bytes)
            raise FileTooLarge(f"The file {name!r} is over the limit of {limit}.")
        return self._part(kept, 0, kept.entry.size)

    async def write(self, name: str, content: bytes) -> None:
        """
        Raises:
            RequestRefused: the name leaves the workspace, or the workspace is full.
        """
        _check_name(name)
        self._check_place(name)
        self._check_room(self._given, name, len(content))
        with self._held():
            offset = self._reserve(name, len(content))
            self._write(name, offset, content)
            self._keep(self._given, name, len(content), offset)
            self._drop(self._made, name)

    async def remove(self, name: str) -> None:
        """
        Raises:
            RequestRefused: there is no such file.
        """
        found = [self._drop(where, name) for where in (self._given, self._made)]
        if not any(found):
            raise RequestRefused(f"There is no file {name!r} in the workspace.")

    # -- to and from a sandbox

    async def give(self, files: Files) -> None:
        """Write what a run finds into the workspace of its sandbox.

        Raises:
            RequestRefused: it does not take what the caller wrote.
            SandboxDied: it is gone.
        """
        with self._held():
            for name, kept in list(self._given.items()):
                await files.write_pieces(name, kept.entry.size, partial(self._part, kept))
            for name, kept in list(self._made.items()) if self.is_shared else ():
                try:
                    await files.write_pieces(name, kept.entry.size, partial(self._part, kept))
                except RequestRefused:  # a run made what no run can have: a name below a file's
                    self._drop(self._made, name)

    async def take(self, files: Files, entries: Iterable[FileEntry]) -> dict[str, str]:
        """Keep what a run made before its sandbox goes; those that were not, and why."""
        problems = {}
        for entry in entries:
            is_replacing = self.is_shared and entry.name in self._given
            where = self._given if is_replacing else self._made
            try:
                self._check_room(where, entry.name, entry.size)
                await self._take_one(where, files, entry)
            except SandboxKernelError as error:
                problems[entry.name] = str(error)
        return problems

    async def _take_one(self, where: dict[str, _Kept], files: Files, entry: FileEntry) -> None:
        with self._held():
            offset, size = self._reserve(entry.name, entry.size), 0
            async for piece in files.pieces(entry.name, limit_bytes=entry.size):
                self._write(entry.name, offset + size, piece)
                size += len(piece)
            self._check_room(where, entry.name, size)  # others kept theirs meanwhile
            self._keep(where, entry.name, size, offset)

    async def forget(self, files: Files, names: Iterable[str]) -> None:
        """Where the workspace is shared, let go of what a run removed; `files` is asked again."""
        for name in names if self.is_shared else ():
            if (name in self._given or name in self._made) and await _is_gone(files, name):
                self._drop(self._given, name)
                self._drop(self._made, name)

    def close(self) -> None:
        self._is_closed = True
        self._bytes = 0
        self._given.clear()
        self._made.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- parts

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nothing is moved within the file meanwhile."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders and self._end - self._bytes > max(WASTE_BYTES, self._bytes):
                self._compact()

    def _part(self, kept: _Kept, start: int, stop: int) -> bytes:
        """Raises `SessionClosed` when it is gone with the session."""
        if stop <= start:
            return b""
        if self._file is None:
            raise SessionClosed("The session is closed. Create another one.")
        return os.pread(self._file.fileno(), stop - start, kept.offset + start)

    def _check_place(self, name: str) -> None:
        """A name is a file's or a directory's."""
        for other in (*self._given, *self._made):
            if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
                raise RequestRefused(
                    f"{name!r} cannot be beside {other!r}: one of them would be a directory. "
                    "Choose another name, or remove that file."
                )

    def _check_room(self, where: Mapping[str, _Kept], name: str, size: int) -> None:
        old = where.get(name)
        total = self._bytes + size - (old.entry.size if old else 0)
        count = len(self._given) + len(self._made) + (old is None)
        is_full = count > self.limits.workspace_inodes
        if total > self.limits.workspace_bytes or is_full:
            raise RequestRefused(
                f"The file {name!r} does not fit: the workspace holds "
                f"{format_size(self.limits.workspace_bytes)} (workspace) and "
                f"{self.limits.workspace_inodes} files. Remove others, or raise the limit."
            )

    def _keep(self, where: dict[str, _Kept], name: str, size: int, offset: int) -> None:
        if not self._is_closed:
            self._drop(where, name)
            where[name] = _Kept(FileEntry(name, size, time.time()), offset)
            self._bytes += size

    def _drop(self, where: dict[str, _Kept], name: str) -> bool:
        """Whether there was one."""
        kept = where.pop(name, None)
        if kept is not None:
            self._bytes -= kept.entry.size
        return kept is not None

    def _reserve(self, name: str, size: int) -> int:
        """The offset of `size` bytes that are nobody else's."""
        offset = self._end
        if offset + size > MAX_WASTE * self.limits.workspace_bytes + WASTE_BYTES:
            raise RequestRefused(
                f"The file {name!r} does not fit now: runs that overlap have replaced too many "
                "files. Let them end, and try again."
            )
        self._end += size
        return offset

    def _write(self, name: str, offset: int, content: bytes) -> None:
        if self._is_closed:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - until `close`
        try:
            while content:
                written = os.pwrite(self._file.fileno(), content, offset)
                content, offset = content[written:], offset + written
        except OSError as error:
            raise RequestRefused(
                f"The file {name!r} cannot be kept on this host: {error.strerror}. Make room in "
                f"{tempfile.gettempdir()}."
            ) from None

    def _compact(self) -> None:
        """Move what is kept into a new file, without what was replaced."""
        old, end = self._file, self._end
        if old is None:
            return
        self._file, self._end = None, 0
        try:
            moved = [
                {name: kept._replace(offset=self._moved(old, name, kept)) for name, kept in of}
                for of in (self._given.items(), self._made.items())
            ]
        except RequestRefused:  # this host has no room for both; nothing is lost
            if self._file is not None:
                self._file.close()
            self._file, self._end = old, end
            return
        self._given, self._made = moved
        old.close()

    def _moved(self, old: IO[bytes], name: str, kept: _Kept) -> int:
        offset, size = self._end, kept.entry.size
        for start in range(0, size, _PIECE_BYTES):
            count = min(_PIECE_BYTES, size - start)
            self._write(name, offset + start, os.pread(old.fileno(), count, kept.offset + start))
        self._end += size
        return offset


def _check_name(name: str) -> None:
    """
    Raises:
        RequestRefused: no sandbox would take it.
    """
    parts = name.split("/")
    is_inside = not any(part in ("", ".", "..") for part in parts) and "\0" not in name
    try:
        is_short = all(len(part.encode()) <= _MAX_PART_BYTES for part in parts)
    except UnicodeEncodeError:
        is_short = False
    if not is_inside or not is_short or len(parts) > _MAX_PARTS:
        raise RequestRefused(f"{name!r} is no name of a file inside the workspace.")


async def _is_gone(files: Files, name: str) -> bool:
    """A listing ends somewhere; the question does not."""
    try:
        await files.read(name, limit_bytes=0)
    except RequestRefused:
        return True
    except SandboxKernelError:
        return False
    return False
