"""Files that the host keeps between runs in fresh sandboxes.

What a caller writes is there in every run; what runs generate can be read afterwards, and
goes into the next run where the workspace is shared.

Rule 1: names are the guest's word: keys of a dictionary, never paths of the host. Contents
lie in one anonymous file, which is gone with this process however that ends.
Rule 2: no more is kept than one workspace may hold.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from typing import IO, NamedTuple

from sandbox_kernel.errors import FileTooLarge, RequestRefused, SandboxKernelError
from sandbox_kernel.limits import Limits, format_size
from sandbox_kernel.session import FileEntry, Files

# Rewritten without what was replaced, when that is more than this and than what is kept.
WASTE_BYTES = 64 * 1024 * 1024


class _Kept(NamedTuple):
    entry: FileEntry
    offset: int
    is_input: bool  # the caller wrote it


class Carried:
    """The workspace of a session whose sandboxes live for one run.

    Args:
        limits: of a sandbox: bytes and number of files.
        is_shared: whether generated files go into the next run.
    """

    def __init__(self, limits: Limits, *, is_shared: bool) -> None:
        self._limits = limits
        self._is_shared = is_shared
        self._kept: dict[str, _Kept] = {}
        self._file: IO[bytes] | None = None
        self._end = 0

    # -- as `session.Files` has it

    async def list(self) -> list[FileEntry]:
        return sorted(kept.entry for kept in self._kept.values())

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """
        Raises:
            RequestRefused: there is no such file.
            FileTooLarge: it is over `limit_bytes`.
        """
        kept = self._kept.get(name)
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
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise RequestRefused(f"{name!r} is no name of a file inside the workspace.")
        self._keep(name, content, is_input=True)

    async def remove(self, name: str) -> None:
        """
        Raises:
            RequestRefused: there is no such file.
        """
        if self._kept.pop(name, None) is None:
            raise RequestRefused(f"There is no file {name!r} in the workspace.")

    # -- to and from a sandbox

    async def give(self, files: Files) -> None:
        """Write what a run finds into the workspace of its sandbox."""
        for name, kept in list(self._kept.items()):
            if kept.is_input or self._is_shared:
                await files.write(name, self._content(kept))

    async def take(self, files: Files, entries: Iterable[FileEntry]) -> str:
        """Keep generated files before their sandbox goes; why some were not, or ""."""
        problem = ""
        for entry in entries:
            try:
                content = await files.read(entry.name)
                self._keep(entry.name, content, is_input=False)
            except SandboxKernelError as error:
                problem = str(error)
        return problem

    def close(self) -> None:
        self._kept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- parts

    def _content(self, kept: _Kept) -> bytes:
        assert self._file is not None
        self._file.seek(kept.offset)
        return self._file.read(kept.entry.size)

    def _keep(self, name: str, content: bytes, *, is_input: bool) -> None:
        old = self._kept.pop(name, None)
        total = sum(kept.entry.size for kept in self._kept.values()) + len(content)
        if total > self._limits.workspace_bytes or len(self._kept) >= self._limits.workspace_inodes:
            if old is not None:
                self._kept[name] = old
            raise RequestRefused(
                f"The file {name!r} does not fit: the workspace holds "
                f"{format_size(self._limits.workspace_bytes)} (workspace) and "
                f"{self._limits.workspace_inodes} files. Remove others, or raise the limit."
            )
        entry = FileEntry(name, len(content), time.time())
        was_input = old is not None and old.is_input
        self._kept[name] = _Kept(entry, self._append(content), is_input or was_input)
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
            for name, kept in self._kept.items():
                old.seek(kept.offset)
                offset = self._append(old.read(kept.entry.size))
                self._kept[name] = kept._replace(offset=offset)
