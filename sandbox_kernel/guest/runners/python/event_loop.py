"""Runs user code, inside asyncio's event loop once a cell needs one, and waits between cells.

asyncio costs a quarter of a runner's start, and most cells don't use it: until something
has imported it there is no loop. From then on all cells run inside of one loop, which
also turns while the runner waits, so that tasks go on between cells.
"""

import contextvars
import select
import sys
from typing import Any, Callable, Coroutine, Optional

from .interrupts import Interrupts

Start = Callable[[], Optional["Coroutine[Any, Any, Any]"]]
Finish = Callable[[], None]


class EventLoop:
    """One per process, in the main thread.

    Attributes:
        was_cancelled: the running cell's task was cancelled because of SIGINT.
    """

    def __init__(self, descriptor: int, interrupts: Interrupts) -> None:
        self.was_cancelled = False
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._interrupts = interrupts
        interrupts.cancel = self._cancel
        # One for all cells: what a cell sets in a ContextVar, the next one finds.
        self._context = contextvars.copy_context()
        self._loop: Any = None
        self._task: Any = None
        self._is_cancelling = False
        self._is_bare = False

    def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Turn until the descriptor can be read: True, or `timeout_s` passed without a loop."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return bool(self._poll.poll(None if timeout_s is None else timeout_s * 1000))
        is_ready = False

        def stop() -> None:
            nonlocal is_ready
            is_ready = True
            loop.stop()

        loop.add_reader(self._descriptor, stop)
        try:
            while not is_ready and not loop.is_closed():
                loop.run_forever()
        finally:
            if not loop.is_closed():
                loop.remove_reader(self._descriptor)
        return True

    def run(self, start: Start, finish: Finish) -> None:
        """Call `start`, await what it returns if anything, call `finish`. Raises what they do."""
        self.was_cancelled = False
        if self._loop is None and "asyncio" not in sys.modules:
            coroutine = self._run_bare(start)
            if coroutine is None:
                self._context.run(finish)
                return
            self._run_in_loop(lambda: coroutine, finish)
        else:
            self._run_in_loop(start, finish)

    def _run_bare(self, start: Start) -> Optional["Coroutine[Any, Any, Any]"]:
        self._is_bare = True
        try:
            return self._context.run(start)
        finally:
            self._is_bare = False
            if self._loop is not None:
                sys.modules["asyncio"]._set_running_loop(None)

    def asyncio_imported(self) -> None:
        """A cell that began without a loop imports asyncio: give it the loop it expects."""
        if self._is_bare and self._interrupts.is_main_thread:
            import asyncio

            asyncio._set_running_loop(self._living_loop())

    def _living_loop(self) -> Any:
        if self._loop is None or self._loop.is_closed():
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _run_in_loop(self, start: Start, finish: Finish) -> None:
        loop = self._living_loop()
        run = _Run(loop, start, finish)
        loop.call_soon(lambda: run.begin(self._make_task), context=self._context)
        try:
            # User code may stop the loop; the cell goes on all the same.
            while not run.is_done and not loop.is_closed():
                loop.run_forever()
        finally:
            self._task = None
        if run.error is not None:
            raise run.error

    def _make_task(self, coroutine: "Coroutine[Any, Any, None]") -> None:
        if sys.version_info >= (3, 11):
            self._task = self._loop.create_task(coroutine, context=self._context)
        else:
            self._task = self._loop.create_task(coroutine)
        self._is_cancelling = False

    def _cancel(self) -> bool:
        """Called for SIGINT. False: the cell is in the middle of a step, so raise there."""
        if self._task is None or self._is_cancelling:
            return False
        if sys.modules["asyncio"].current_task(self._loop) is self._task:
            return False
        self._is_cancelling = self.was_cancelled = True
        self._loop.call_soon_threadsafe(self._cancel_task)
        return True

    def _cancel_task(self) -> None:
        self._is_cancelling = False
        if self._task is not None:
            self._task.cancel()


class _Run:
    """One call of `EventLoop.run`, as the loop sees it."""

    def __init__(self, loop: Any, start: Start, finish: Finish) -> None:
        self.is_done = False
        self.error: Optional[BaseException] = None
        self._loop, self._start, self._finish = loop, start, finish

    def begin(self, make_task: Callable[["Coroutine[Any, Any, None]"], None]) -> None:
        """The first step, in the loop."""
        try:
            coroutine = self._start()
            if coroutine is not None:
                make_task(self._await(coroutine))
                return
            self._finish()
        except BaseException as error:  # `run` raises it again
            self.error = error
        self._end()

    async def _await(self, coroutine: "Coroutine[Any, Any, Any]") -> None:
        try:
            await coroutine
            self._finish()
        except BaseException as error:  # `run` raises it again
            self.error = error
        self._end()

    def _end(self) -> None:
        self.is_done = True
        self._loop.stop()
