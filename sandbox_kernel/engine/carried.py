"""Files that the host keeps between runs in fresh sandboxes.

What a caller writes is there in every run; what runs make can be read afterwards, and goes
into the next run where the workspace is shared. Where it is not, a run that changes a
caller's file changes nothing for the next one.

Rule 1: names are the guest's word: keys of a dictionary, never paths of the host. Contents
lie in one anonymous file, which is gone with this process however that ends.
Rule 2: no more is kept than one workspace may hold.
Rule 3: what no sandbox would take is refused when it is written, not in every run after it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import IO, NamedTuple

from sandbox_kernel.errors import FileTooLarge, RequestRefused, SandboxKernelError
from sandbox_kernel.limits import Limits, format_size
from sandbox_kernel.session import FileEntry, Files

# Rewritten without what was replaced, when that is more than this and than what is kept.
WASTE_BYTES = 64 * 1024 * 1024
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
        self._limits = limits
        self._given: dict[str, _Kept] = {}  # as the caller wrote them
        self._made: dict[str, _Kept] = {}  # by runs; read before a given one of that name
        self._file: IO[bytes] | None = None
        self._end = 0
        self._is_closed = False

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
        return self._content(kept)

    async def write(self, name: str, content: bytes) -> None:
        """
        Raises:
            RequestRefused: the name leaves the workspace, or the workspace is full.
        """
        _check_name(name)
        self._check_place(name)
        self._keep(self._given, name, content)
        self._made.pop(name, None)

    async def remove(self, name: str) -> None:
        """
        Raises:
            RequestRefused: there is no such file.
        """
        found = [kept for kept in (self._given, self._made) if kept.pop(name, None)]
        if not found:
            raise RequestRefused(f"There is no file {name!r} in the workspace.")

    # -- to and from a sandbox

    async def give(self, files: Files) -> None:
        """Write what a run finds into the workspace of its sandbox.

        Raises:
            RequestRefused: it does not take what the caller wrote.
            SandboxDied: it is gone.
        """
        for name, kept in list(self._given.items()):
            await files.write(name, self._content(kept))
        for name, kept in list(self._made.items()) if self.is_shared else ():
            try:
                await files.write(name, self._content(kept))
            except RequestRefused:  # a run made what no run can have: a name below a file's
                self._made.pop(name, None)

    async def take(self, files: Files, entries: Iterable[FileEntry]) -> dict[str, str]:
        """Keep what a run made before its sandbox goes; those that were not, and why."""
        problems = {}
        for entry in entries:
            is_replacing = self.is_shared and entry.name in self._given
            where = self._given if is_replacing else self._made
            try:
                self._check_room(where, entry.name, entry.size)
                content = await files.read(entry.name, limit_bytes=entry.size)
                self._keep(where, entry.name, content)
            except SandboxKernelError as error:
                problems[entry.name] = str(error)
        return problems

    async def forget(self, files: Files, names: Iterable[str]) -> None:
        """Where the workspace is shared, let go of what a run removed; `files` is asked again."""
        for name in names if self.is_shared else ():
            if (name in self._given or name in self._made) and await _is_gone(files, name):
                self._given.pop(name, None)
                self._made.pop(name, None)

    def close(self) -> None:
        self._is_closed = True
        self._given.clear()
        self._made.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- parts

    def _content(self, kept: _Kept) -> bytes:
        assert self._file is not None
        self._file.seek(kept.offset)
        return self._file.read(kept.entry.size)

    def _all(self) -> tuple[_Kept, ...]:
        return (*self._given.values(), *self._made.values())

    def _check_place(self, name: str) -> None:
        """A name is a file's or a directory's."""
        for other in (*self._given, *self._made):
            if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
                raise RequestRefused(
                    f"{name!r} cannot be beside {other!r}: one of them would be a directory. "
                    "Choose another name, or remove that file."
                )

    def _check_room(self, where: Mapping[str, _Kept], name: str, size: int) -> None:
        kept = self._all()
        old = where.get(name)
        total = sum(item.entry.size for item in kept) + size - (old.entry.size if old else 0)
        is_full = len(kept) + (old is None) > self._limits.workspace_inodes
        if total > self._limits.workspace_bytes or is_full:
            raise RequestRefused(
                f"The file {name!r} does not fit: the workspace holds "
                f"{format_size(self._limits.workspace_bytes)} (workspace) and "
                f"{self._limits.workspace_inodes} files. Remove others, or raise the limit."
            )

    def _keep(self, where: dict[str, _Kept], name: str, content: bytes) -> None:
        if self._is_closed:
            return
        self._check_room(where, name, len(content))
        entry = FileEntry(name, len(content), time.time())
        where[name] = _Kept(entry, self._append(content))
        total = sum(kept.entry.size for kept in self._all())
        if self._end - total > max(WASTE_BYTES, total):
            self._compact()

    def _append(self, content: bytes) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
        offset = self._end
        self._file.seek(offset)
        self._file.write(content)
        self._end += len(content)
        return offset

    def _compact(self) -> None:
        old, self._file, self._end = self._file, None, 0
        assert old is not None
        with old:
            for where in (self._given, self._made):
                for name, kept in where.items():
                    old.seek(kept.offset)
                    offset = self._append(old.read(kept.entry.size))
                    where[name] = kept._replace(offset=offset)


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
