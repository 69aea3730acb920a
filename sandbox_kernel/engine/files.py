"""The workspace of a session, as its caller moves files.

Rule: names are the guest's word. Whatever goes to the host goes where the caller says, by
way of `exchange`, which refuses what the host would run by itself.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from sandbox_kernel.errors import FileRefused, FileTooLarge, RequestRefused, SettingsError
from sandbox_kernel.exchange import Exchange
from sandbox_kernel.limits import format_size
from sandbox_kernel.outputs.streams import clean_name
from sandbox_kernel.session import FileEntry

WATCH_INTERVAL_S = 0.5


class Store(Protocol):
    """Where the files are: a sandbox's workspace, or what the host carries from run to run."""

    async def list(self) -> list[FileEntry]: ...

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes: ...

    async def write(self, name: str, content: bytes) -> None: ...

    async def remove(self, name: str) -> None: ...


def as_bytes(name: object, content: object) -> bytes:
    """What is to be written; texts as UTF-8.

    Raises:
        SettingsError: it is neither bytes nor a text.
    """
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError:
            raise SettingsError(
                f"The text for {name!r:.80} has half characters (lone surrogates). Give bytes."
            ) from None
    if not isinstance(content, bytes | bytearray | memoryview):
        raise SettingsError(f"The content of {name!r:.80} is {content!r:.80}; give text or bytes.")
    return bytes(content)


class FileChange(NamedTuple):
    """What became of a file: `kind` is "created", "changed" or "removed"."""

    kind: str
    entry: FileEntry


class SessionFiles:
    """Files of one session's workspace. Names are relative to it, with `/` between parts.

    Args:
        store: gives the place where they are now.
        limit_bytes: of one file that is copied in.
        used: called when a caller asks for something.
        touched: called when a caller changed something.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        limit_bytes: int,
        *,
        used: Callable[[], None],
        touched: Callable[[], None],
    ) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._used = used
        self._touched = touched

    async def list(self) -> list[FileEntry]:
        """Regular files, at most 10,000."""
        self._used()
        return await self._store().list()

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """The content of a file.

        Raises:
            RequestRefused: it is not there, or no regular file inside the workspace.
            FileTooLarge: it is over `limit_bytes` (default: the workspace's limit).
        """
        self._used()
        with _about(name):
            return await self._store().read(name, limit_bytes=limit_bytes)

    async def read_text(self, name: str, *, limit_bytes: int | None = None) -> str:
        """As `read`; what is no UTF-8 is replaced."""
        return (await self.read(name, limit_bytes=limit_bytes)).decode("utf-8", "replace")

    async def read_base64(self, name: str, *, limit_bytes: int | None = None) -> str:
        """As `read`, in base64."""
        return base64.b64encode(await self.read(name, limit_bytes=limit_bytes)).decode("ascii")

    async def write(self, name: str, content: bytes | str) -> None:
        """Write a file, replacing it; directories on its way are made.

        Raises:
            RequestRefused: the name leaves the workspace, or the workspace is full.
        """
        self._used()
        self._touched()
        data = as_bytes(name, content)
        with _about(name):
            await self._store().write(name, data)

    async def remove(self, name: str) -> None:
        """Remove a file. Raises `RequestRefused` when it can't be."""
        self._used()
        self._touched()
        with _about(name):
            await self._store().remove(name)

    async def copy_in(self, host_path: str | Path, name: str | None = None) -> str:
        """Copy a file of the host into the workspace; its name there.

        Raises:
            FileRefused: there is no such regular file, or it cannot be read.
            FileTooLarge: it is over the workspace's limit.
            RequestRefused: as `write`.
        """
        chosen = name or Path(host_path).name
        await self.write(chosen, await asyncio.to_thread(self._host_content, Path(host_path)))
        return chosen

    def _host_content(self, path: Path) -> bytes:
        if not path.is_file():
            raise FileRefused(f"{str(path)!r} is no file on this host. Name a regular file.")
        if path.stat().st_size > self._limit_bytes:
            limit = format_size(self._limit_bytes)
            raise FileTooLarge(f"{str(path)!r} is over the workspace's limit of {limit}.")
        try:
            return path.read_bytes()
        except OSError as error:
            raise FileRefused(f"{str(path)!r} cannot be read: {error.strerror}.") from None

    async def copy_out(
        self, name: str, host_path: str | Path, *, allow_overwrite: bool = False
    ) -> Path:
        """Copy a file to the host; where it is there.

        Args:
            host_path: a file's path, in a directory that exists.

        Raises:
            FileRefused: it exists, its directory does not, or the host would run it by itself.
            RequestRefused, FileTooLarge: as `read`.
        """
        content = await self.read(name)
        return await asyncio.to_thread(
            write_at, Path(host_path), content, allow_overwrite=allow_overwrite
        )

    async def watch(
        self, *, interval_s: float = WATCH_INTERVAL_S
    ) -> AsyncGenerator[FileChange, None]:
        """Changes from now on, oldest first, looked for every `interval_s`.

        It ends by `SessionClosed` with the session, which it does not keep from being idle.
        """
        before = {entry.name: entry for entry in await self._store().list()}
        while True:
            await asyncio.sleep(interval_s)
            now = {entry.name: entry for entry in await self._store().list()}
            for change in changes(before, now):
                yield change
            before = now


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Say which file was refused: the guest's reason may not."""
    try:
        yield
    except RequestRefused as error:
        told = str(error)
        shown = repr(clean_name(name) if isinstance(name, str) else name)
        if shown in told:
            raise
        raise RequestRefused(f"The file {shown} of the workspace cannot be had: {told}") from None


def changes(before: dict[str, FileEntry], now: dict[str, FileEntry]) -> list[FileChange]:
    """What happened between two listings, oldest first; what is gone comes first."""
    gone = [FileChange("removed", entry) for name, entry in before.items() if name not in now]
    made = [
        FileChange("changed" if name in before else "created", entry)
        for name, entry in now.items()
        if entry != before.get(name)
    ]
    return [*gone, *sorted(made, key=lambda change: change.entry.mtime_s)]


def made_directory(directory: Path) -> Path:
    """`directory`, there now.

    Raises:
        FileRefused: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileRefused(
            f"The directory {str(directory)!r} cannot be made: {error.strerror}. Choose another."
        ) from None
    return directory


def write_new(directory: Path, guest_name: str, content: bytes) -> Path:
    """Write `content` under `directory`, which is made when it isn't there.

    Raises:
        FileRefused: the name leaves the directory, the host would run it, or it exists; or
            `directory` cannot be made.
    """
    made_directory(directory)
    with closing(Exchange(str(directory))) as exchange:
        return directory / exchange.write(guest_name, content, allow_new_directories=True)


def write_at(host_path: Path, content: bytes, *, allow_overwrite: bool = False) -> Path:
    """Write `content` to a file in a directory that exists; its absolute path.

    Raises:
        FileRefused: as `SessionFiles.copy_out`.
    """
    target = host_path.absolute()
    if not target.parent.is_dir():
        raise FileRefused(f"There is no directory {str(target.parent)!r}. Make it first.")
    with closing(Exchange(str(target.parent))) as exchange:
        exchange.write(target.name, content, allow_overwrite=allow_overwrite)
    return target
