"""The engine without `await`: `from sandbox_kernel.sync import Engine`.

Everything runs on one event loop in a thread of its own; a call waits for its end, and an
exception in the caller (Ctrl-C) stops what it waited for. Callbacks are called in that
thread. Names, arguments, results and errors are those of `sandbox_kernel.engine`.

Rule: no behaviour of its own: each method hands over to the asynchronous one of its name.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sandbox_kernel import engine
from sandbox_kernel.engine import (
    DependencyReport,
    Display,
    GeneratedFile,
    Result,
    RunError,
    SandboxRecord,
    SessionInfo,
    Strategy,
)
from sandbox_kernel.engine.files import FileChange, SessionFiles
from sandbox_kernel.engine.session import Kept

__all__ = [
    "DependencyReport",
    "Display",
    "Engine",
    "Files",
    "GeneratedFile",
    "Result",
    "RunError",
    "SandboxRecord",
    "Session",
    "SessionInfo",
    "Strategy",
]

T = TypeVar("T")
P = ParamSpec("P")


class _Loop:
    """An event loop in a thread. Daemonic: a program that forgets to close it ends all the same."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sandbox-kernel", daemon=True
        )
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` there, and what comes of it here."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                self._cancel(future)
            raise

    def _cancel(self, future: Any) -> None:
        """End it as a cancelled task ends: the code inside is stopped first."""
        future.cancel()
        settled = asyncio.run_coroutine_threadsafe(_settle(), self._loop)
        settled.result()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what is no coroutine, but belongs to the loop."""

        async def called() -> T:
            return function(*args, **kwargs)

        return self.wait(called())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _settle() -> None:
    """Let what was cancelled see it."""
    await asyncio.sleep(0)


class Files:
    """The workspace of a session. See `engine.files.SessionFiles`."""

    def __init__(self, loop: _Loop, files: SessionFiles) -> None:
        self._loop = loop
        self._files = files

    def list(self) -> Any:
        return self._loop.wait(self._files.list())

    def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return self._loop.wait(self._files.read(name, limit_bytes=limit_bytes))

    def read_text(self, name: str, *, limit_bytes: int | None = None) -> str:
        return self._loop.wait(self._files.read_text(name, limit_bytes=limit_bytes))

    def read_base64(self, name: str, *, limit_bytes: int | None = None) -> str:
        return self._loop.wait(self._files.read_base64(name, limit_bytes=limit_bytes))

    def write(self, name: str, content: bytes | str) -> None:
        self._loop.wait(self._files.write(name, content))

    def remove(self, name: str) -> None:
        self._loop.wait(self._files.remove(name))

    def copy_in(self, host_path: str | Path, name: str | None = None) -> str:
        return self._loop.wait(self._files.copy_in(host_path, name))

    def copy_out(self, name: str, host_path: str | Path, *, allow_overwrite: bool = False) -> Path:
        work = self._files.copy_out(name, host_path, allow_overwrite=allow_overwrite)
        return self._loop.wait(work)

    def watch(self, **options: Any) -> Iterator[FileChange]:
        changes = self._files.watch(**options)
        while True:
            yield self._loop.wait(anext(changes))  # type: ignore[arg-type]


class Session:
    """See `engine.Session`."""

    def __init__(self, loop: _Loop, session: engine.Session) -> None:
        self._loop = loop
        self._session = session
        self.files = Files(loop, session.files)

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def labels(self) -> dict[str, str]:
        return self._session.labels

    @property
    def language(self) -> str:
        return self._session.language

    @property
    def is_busy(self) -> bool:
        return self._session.is_busy

    @property
    def is_closed(self) -> bool:
        return self._session.is_closed

    def execute(self, code: str, **options: Any) -> Result:
        return self._loop.wait(self._session.execute(code, **options))

    def run(self, command: str, **options: Any) -> Result:
        return self._loop.wait(self._session.run(command, **options))

    def run_app(
        self, source: str | Path | Mapping[str, bytes | str], *, entry: str, **options: Any
    ) -> Result:
        return self._loop.wait(self._session.run_app(source, entry=entry, **options))

    @contextmanager
    def forward(self, guest_port: int, **options: Any) -> Iterator[Any]:
        forward = self._loop.call(self._session.forward, guest_port, **options)
        opened = self._loop.wait(forward.__aenter__())
        try:
            yield opened
        finally:
            self._loop.wait(forward.__aexit__(None, None, None))

    def complete(self, code: str, cursor_pos: int | None = None, **options: Any) -> Any:
        return self._loop.wait(self._session.complete(code, cursor_pos, **options))

    def inspect(
        self, code: str, cursor_pos: int | None = None, detail_level: int = 0, **options: Any
    ) -> Any:
        return self._loop.wait(self._session.inspect(code, cursor_pos, detail_level, **options))

    def interrupt(self) -> None:
        """From another thread than the one that waits in `execute`."""
        self._loop.wait(self._session.interrupt())

    def restart(self) -> None:
        self._loop.wait(self._session.restart())

    def info(self) -> SessionInfo:
        return self._loop.call(self._session.info)

    def close(self, *, keep_generated: str | Path | None = None) -> list[Kept]:
        return self._loop.wait(self._session.close(keep_generated=keep_generated))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine:
    """See `engine.Engine`, whose arguments it takes. A context that leaves nothing behind."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = _Loop()
        try:
            self._engine = self._loop.call(engine.Engine, *args, **options)
        except BaseException:
            self._loop.stop()
            raise
        self._is_closed = False

    def create_session(self, language: str | None = None, **options: Any) -> Session:
        made = self._loop.wait(self._engine.create_session(language, **options))
        return Session(self._loop, made)

    def attach(self, session_id: str, **options: Any) -> Session:
        return Session(self._loop, self._loop.wait(self._engine.attach(session_id, **options)))

    def get(self, session_id: str) -> Session:
        return Session(self._loop, self._engine.get(session_id))

    def sessions(self, labels: Mapping[str, str] | None = None) -> list[Session]:
        return [Session(self._loop, one) for one in self._engine.sessions(labels)]

    def close_session(self, session_id: str, **options: Any) -> None:
        self._loop.wait(self._engine.close_session(session_id, **options))

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.wait(self._engine.close())
            self._loop.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
