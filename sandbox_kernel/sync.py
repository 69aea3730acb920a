"""The engine without `await`: `from sandbox_kernel.sync import Engine`.

Everything runs on one event loop in a thread of its own; a call waits for its end, and an
exception in the caller (Ctrl-C) stops what it waited for. Callbacks are called in that
thread. Names, arguments, results and errors are those of `sandbox_kernel.engine`.

Rule: no behaviour of its own: each method hands over to the asynchronous one of its name.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

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
from sandbox_kernel.engine.admission import CLOSED
from sandbox_kernel.engine.files import FileChange, SessionFiles
from sandbox_kernel.engine.session import Kept
from sandbox_kernel.errors import SessionClosed

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

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` there, and what comes of it here.

        Raises:
            RuntimeError: as `require_other_thread`.
            SessionClosed: the engine is closed.
        """
        try:
            self.require_other_thread()
            if self._loop.is_closed():
                raise SessionClosed(CLOSED)
        except BaseException:
            work.close()
            raise
        future: Future[T] = Future()
        task = _Task(self._loop, work, future)
        self._loop.call_soon_threadsafe(task.begin)
        try:
            return future.result()
        except BaseException:
            if not future.done():  # Ctrl-C: the code inside is stopped first; not at a second one
                self._loop.call_soon_threadsafe(task.cancel)
                wait([future])
            raise

    def require_other_thread(self) -> None:
        """
        Raises:
            RuntimeError: this is a callback, which the loop itself waits for.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "A callback cannot wait for its own engine. Let it note what it wants, and do it "
                "after `execute`; or stop the code by raising an exception."
            )

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what is no coroutine, but belongs to the loop."""

        async def called() -> T:
            return function(*args, **kwargs)

        return self.wait(called())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Task(Generic[T]):
    """`work` in the loop's thread; `future` is done when it is over, cancelled or not."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], future: Future[T]
    ) -> None:
        self._loop = loop
        self._work = work
        self._future = future
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._tell)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _tell(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._future.set_exception(CancelledError())
        elif (error := task.exception()) is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(task.result())


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
        try:
            while True:
                yield self._loop.wait(_next(changes))
        finally:
            if not self._loop.is_closed:
                self._loop.wait(changes.aclose())


async def _next(changes: AsyncIterator[T]) -> T:
    return await anext(changes)


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
    def timeout_s(self) -> float | None:
        return self._session.timeout_s

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
            with suppress(SessionClosed):  # and the forward with it
                self._loop.wait(forward.__aexit__(None, None, None))

    def complete(self, code: str, cursor_pos: int | None = None, **options: Any) -> Any:
        return self._loop.wait(self._session.complete(code, cursor_pos, **options))

    def inspect(
        self, code: str, cursor_pos: int | None = None, detail_level: int = 0, **options: Any
    ) -> Any:
        return self._loop.wait(self._session.inspect(code, cursor_pos, detail_level, **options))

    def interrupt(self) -> None:
        """From another thread than the one that waits in `execute`; returns at once."""
        self._loop.wait(self._session.interrupt())

    def restart(self) -> None:
        self._loop.wait(self._session.restart())

    def info(self) -> SessionInfo:
        return self._loop.call(self._session.info)

    def close(self, *, keep_generated: str | Path | None = None) -> list[Kept]:
        if self._loop.is_closed:  # and it with its engine
            return []
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

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        self._loop.wait(self._engine.wait_until_ready(timeout_s))

    def get(self, session_id: str) -> Session:
        return Session(self._loop, self._loop.call(self._engine.get, session_id))

    def sessions(self, labels: Mapping[str, str] | None = None) -> list[Session]:
        found = self._loop.call(self._engine.sessions, labels)
        return [Session(self._loop, one) for one in found]

    def close_session(self, session_id: str, **options: Any) -> None:
        self._loop.wait(self._engine.close_session(session_id, **options))

    def close(self) -> None:
        self._loop.require_other_thread()
        if not self._is_closed:
            self._is_closed = True
            try:
                self._loop.wait(self._engine.close())
            finally:
                self._loop.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
