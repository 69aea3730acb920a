"""Files of the workspace, as a session's user moves them. They travel as frames.

Rule 1: the host never opens a path in the guest's filesystem; the supervisor does, inside.
Rule 2: names and sizes are the guest's word, good for showing and asking again only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from sandbox_kernel import events
from sandbox_kernel.errors import FileTooLarge, RequestRefused
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.limits import format_size

# One frame holds up to 16 MiB; pieces of one keep the stream free for an interrupt.
PIECE_BYTES = 1024 * 1024
MAX_LISTED = 10_000
_KINDS = (Kind.FILE_LIST, Kind.FILE_READ, Kind.FILE_WRITE, Kind.FILE_REMOVE)


class FileEntry(NamedTuple):
    """A regular file in the workspace. `name` is relative to it, with `/` between parts."""

    name: str
    size: int
    mtime_s: float


class Ask(Protocol):
    def __call__(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> Awaitable[events.Answered | events.Replied]: ...


class Files:
    """The workspace of one session. Every method raises `SandboxDied` when there is none."""

    def __init__(self, ask: Ask, limit_bytes: int) -> None:
        self._ask = ask
        self._limit_bytes = limit_bytes

    async def pass_on(
        self, kind: int, meta: dict[str, Any], data: bytes
    ) -> events.Answered | events.Replied:
        """A request of another process's `Files`, and its answer as it is.

        Raises:
            RequestRefused: it is about no file; or as the methods below.
        """
        if kind not in _KINDS:
            raise RequestRefused("That is no request about files.")
        return await self._ask(kind, meta, data)

    async def list(self) -> list[FileEntry]:
        """Regular files in the workspace, at most 10,000."""
        answer = await self._ask(Kind.FILE_LIST)
        items = answer.content.get("files")
        if not isinstance(items, list):
            return []
        return [entry for item in items[:MAX_LISTED] if (entry := _entry(item))]

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """The content of the file `name`.

        Raises:
            RequestRefused: it is not there, or no regular file inside the workspace.
            FileTooLarge: it is over `limit_bytes` (default: the workspace's limit).
        """
        content = bytearray()
        async for piece in self.pieces(name, limit_bytes=limit_bytes):
            content += piece
        return bytes(content)

    async def pieces(
        self, name: str, *, limit_bytes: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """As `read`, a piece at a time: what is large need not pass through memory whole."""
        limit = self._limit_bytes if limit_bytes is None else limit_bytes
        offset = 0
        while True:
            meta = {"name": name, "offset": offset, "length": PIECE_BYTES}
            answer = await self._ask(Kind.FILE_READ, meta)
            data = answer.data if isinstance(answer, events.Answered) else b""
            offset += len(data)
            if offset > limit:
                raise FileTooLarge(f"The file {name!r} is over the limit of {format_size(limit)}.")
            yield data
            if not data or answer.content.get("eof"):
                return

    async def write(self, name: str, content: bytes) -> None:
        """Write `content` to the file `name`, replacing it.

        Raises:
            RequestRefused: the name leaves the workspace, or the workspace is full.
        """
        await self.write_pieces(name, len(content), lambda start, stop: content[start:stop])

    async def write_pieces(self, name: str, size: int, part: Callable[[int, int], bytes]) -> None:
        """As `write`, of `size` bytes; `part` gives those from one offset to another."""
        for offset in range(0, max(size, 1), PIECE_BYTES):
            meta = {"name": name, "offset": offset, "truncate": offset == 0}
            await self._ask(Kind.FILE_WRITE, meta, part(offset, min(offset + PIECE_BYTES, size)))

    async def remove(self, name: str) -> None:
        """Remove the file `name`. Raises `RequestRefused` when it can't be."""
        await self._ask(Kind.FILE_REMOVE, {"name": name})


def _entry(item: Any) -> FileEntry | None:
    """One line of a listing, or None when the guest made it up wrong."""
    match item:
        # No file is larger; an int of a thousand digits could not even be shown.
        case {"name": str(name), "size": int(size)} if 0 <= size < 2**63:
            mtime = item.get("mtime_s", 0)
            is_time = isinstance(mtime, int | float) and abs(mtime) < 1e12
            return FileEntry(name[:4096], size, float(mtime) if is_time else 0.0)
    return None
