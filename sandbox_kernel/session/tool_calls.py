"""The calls of one session's cells to the functions of a `Toolbox`.

A call is answered while a cell runs, and counts for that cell, also when an earlier one's
thread makes it. When no cell runs it is refused; when the cell ends, is interrupted or meets
its timeout, what is under way is cancelled (a thread goes on, and nobody hears of it).

Rule 1: every call is one task, and of tasks there are `MAX_TASKS` at most; a sandbox that
calls without reading its answers gets none for the rest.
Rule 2: a call costs its budget before anything is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from sandbox_kernel import events, frames
from sandbox_kernel.errors import (
    GuestProtocolError,
    RequestRefused,
    SandboxKernelError,
    ToolError,
)
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.session import tools
from sandbox_kernel.session.guest import Guest
from sandbox_kernel.session.run import Run
from sandbox_kernel.session.tool_failures import explain
from sandbox_kernel.session.tool_functions import Tool
from sandbox_kernel.session.tools import Toolbox

# A refusal that waits to be sent is a few kB.
MAX_TASKS = 1000
# Results that wait to be sent, in calls at once: each may be as long as a result can be.
MAX_UNSENT = 2

_CANCELLED = "The call was given up: its cell has ended or was interrupted."


class ToolCalls:
    """What one session does with its toolbox."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self._told: Guest | None = None
        self._telling = asyncio.Lock()
        self._run: Run | None = None
        self._newest = 0  # the highest number of a cell
        self._counts: Counter[str] = Counter()
        self._total = self._of_cell = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[tuple[int, int], asyncio.Task[bytes]] = {}
        self._unsent = 0
        self._threads = 0

    @property
    def calls(self) -> dict[str, int]:
        """How often this session has called each tool."""
        return {name: self._counts[name] for name in self.toolbox.names}

    @property
    def total(self) -> int:
        """All that counts against the budget, calls of no tool included."""
        return self._total

    async def announce(self, guest: Guest, next_cell: Callable[[], int]) -> None:
        """Tell `guest` which tools there are, once: runners to come hear it from there.

        Raises:
            RequestRefused: its main runner takes no tools.
            SandboxDied: it went away meanwhile.
        """
        async with self._telling:
            if self._told is guest:
                return
            meta = {"tools": self.toolbox.describe(), "concurrency": self.toolbox.max_concurrent}
            has_tools = guest.info is not None and guest.info.get("tools") is True
            answer = await guest.ask(Kind.TOOLS, next_cell(), meta) if has_tools else None
            if not isinstance(answer, events.Answered):
                raise RequestRefused(
                    "This sandbox cannot call host tools. Leave `tools` out, or use "
                    "Python, JavaScript or TypeScript in an image with Python 3."
                )
            self._told = guest

    def begin(self, run: Run) -> None:
        """A cell runs from here on."""
        self._run, self._of_cell = run, 0
        self._newest = max(self._newest, run.cell)
        run.on_stop = self.cancel

    def end(self) -> None:
        """No cell runs any more."""
        self._run = None
        self.cancel()

    def cancel(self) -> None:
        """Give up what is under way; whoever waits inside is told."""
        for work in self._running.values():
            work.cancel()

    # -- one call --------------------------------------------------------------

    def hear(self, event: events.ToolCalled, guest: Guest) -> None:
        """A sandbox calls. Every call that is none is refused, by an answer if there is room."""
        key, arguments = (event.cell, event.call), event.arguments
        event = event._replace(arguments=b"")  # whoever waits to be answered needs none
        if key in self._running or len(self._tasks) >= MAX_TASKS:
            return  # the answer to the first would be taken for its own
        try:
            tool = self._admit(event, len(arguments))
        except ToolError as error:
            self._start(self._send(guest, event, error=str(error)))
            return
        self.toolbox.note_call(tool)
        work = asyncio.get_running_loop().create_task(self._call(tool, arguments))
        self._running[key] = work
        self._start(self._answer(guest, event, work))

    def _admit(self, event: events.ToolCalled, size: int) -> Tool:
        """The tool that is meant. Raises `ToolError` when it may not be called now."""
        box = self.toolbox
        self._spend(event.cell)
        tool = box.find(event.name)
        if tool is None:
            raise ToolError(
                f"There is no tool called {event.name!r}. There are: {', '.join(box.names)}."
            )
        self._counts[tool.name] += 1
        if size > box.max_argument_bytes:
            raise ToolError(
                f"The arguments of {tool.name} have {size} bytes, over the limit of "
                f"{box.max_argument_bytes}. Pass less."
            )
        most = box.max_concurrent
        if len(self._running) >= most or self._unsent >= MAX_UNSENT * most:
            raise ToolError(f"{most} calls are under way, and no more may be. Wait for one.")
        return tool

    def _spend(self, cell: int) -> None:
        """Count a call. Raises `ToolError` when it may not be."""
        box = self.toolbox
        if self._run is None or not 0 < cell <= self._newest:
            raise ToolError(
                "Host tools answer only while a cell runs. Wait for threads and tasks that "
                "call them before the cell ends."
            )
        if self._total >= box.max_calls:
            raise ToolError(
                f"The {box.max_calls} calls of host tools that this session may make are used "
                "up. Its owner can allow more with Toolbox(max_calls=…)."
            )
        if self._of_cell >= box.max_calls_per_cell:
            raise ToolError(
                f"The {box.max_calls_per_cell} calls of host tools that one cell may make are "
                "used up. The next cell has as many again."
            )
        self._total += 1
        self._of_cell += 1

    async def _answer(
        self, guest: Guest, event: events.ToolCalled, work: asyncio.Task[bytes]
    ) -> None:
        try:
            async with asyncio.timeout(self.toolbox.timeout_s) as patience:
                result, error = await work, ""
        except ToolError as failure:
            result, error = b"", str(failure)
        except TimeoutError:
            assert patience.expired()  # `_call` lets none of a function's own through
            limit = f"{self.toolbox.timeout_s:g} s"
            result, error = b"", f"{event.name} took longer than {limit}, and was given up."
        except asyncio.CancelledError:
            result, error = b"", _CANCELLED
        finally:
            del self._running[event.cell, event.call]
        self._unsent += 1
        try:
            await self._send(guest, event, result, error)
        finally:
            self._unsent -= 1

    async def _send(
        self, guest: Guest, event: events.ToolCalled, result: bytes = b"", error: str = ""
    ) -> None:
        meta = {"call": event.call, "ok": not error, "cancelled": error is _CANCELLED}
        data = json.dumps({"message": error}).encode() if error else result
        with contextlib.suppress(SandboxKernelError):  # that it died is heard in another way
            await guest.send(Kind.TOOL_REPLY, event.cell, meta, data)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the function ----------------------------------------------------------

    async def _call(self, tool: Tool, arguments: bytes) -> bytes:
        """What `tool` returns, as JSON. Raises `ToolError` and nothing else but a cancellation."""
        try:
            args, kwargs = tool.bind(*frames.read_arguments(arguments))
            if inspect.iscoroutinefunction(tool.function):
                content = tool.dump(await tool.function(*args, **kwargs))
            else:
                content = await self._in_thread(tool, args, kwargs)
        except GuestProtocolError as error:
            raise ToolError(str(error)) from None
        except (Exception, SystemExit) as error:  # foreign code: it may raise anything
            raise ToolError(explain(tool.name, error)) from None
        if len(content) > self.toolbox.max_result_bytes:
            raise ToolError(
                f"{tool.name} returned {len(content)} bytes, over the limit of "
                f"{self.toolbox.max_result_bytes}. Ask it for less."
            )
        return content

    async def _in_thread(self, tool: Tool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """In a thread of its own, which a function that hangs keeps until the process ends."""
        box = self.toolbox
        if self._threads >= box.max_concurrent or box.threads >= tools.MAX_THREADS:
            taken = self._threads if self._threads >= box.max_concurrent else box.threads
            raise ToolError(
                f"{tool.name} was not called: earlier calls of host tools hang, and take all "
                f"{taken} places. Try again later."
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            self._threads -= 1
            box.threads -= 1
            if not done.done():
                done.set_result((result, error))

        def work() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                result = tool.function(*args, **kwargs)
                outcome = (result if inspect.isawaitable(result) else tool.dump(result), None)
            except BaseException as error:  # foreign code, at the top of its thread
                outcome = (None, error)
            try:
                loop.call_soon_threadsafe(finish, *outcome)
            except RuntimeError:  # the loop was closed meanwhile; the toolbox may serve another
                box.threads -= 1

        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(work,), name=f"tool {tool.name}", daemon=True
        )
        thread.start()
        self._threads += 1
        box.threads += 1
        result, error = await done
        if error is not None:
            raise error if isinstance(error, Exception) else SystemExit
        return result if isinstance(result, bytes) else tool.dump(await _awaited(result))


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
