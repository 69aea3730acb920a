"""Events of a run -> the caller's callbacks, and what its result is made of.

A callback is called from deep inside the session, which must go on whatever it does: what
one raises is kept, the code is stopped, and `execute` raises it when the run has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import io
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from sandbox_kernel import events
from sandbox_kernel.engine.results import Display
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import MIB, Limits, format_size
from sandbox_kernel.session.run import Sink

OnText = Callable[[str], Any]
OnDisplay = Callable[[Display], Any]
# A callable's None says that there is no more, as the end of a text does.
# What one result may hold, so that a run cannot fill this program's memory. A hundred of the
# largest pictures that are shown would be 1 GiB; callbacks hear of all of them.
MAX_DISPLAYS_BYTES = 64 * MIB
# The sandbox bounds text itself, in bytes and with a few lines of its own. One that isn't
# ours any more would not.
_TEXT_SLACK = 1 * MIB

Stdin = str | Iterable[str] | Callable[[str], str | Awaitable[str | None] | None]


class Hearing:
    """Hears one run.

    Args:
        on_stdout, on_stderr: get text as it comes.
        on_display: gets rich outputs, the last expression's value among them.
        on_event: gets every event as it is.
        ask: answers `input()`; None when nobody does.
        give_up: stops the run, when a callback raised.
        limits: of the sandbox; those of output hold for what is kept.

    Raises:
        SettingsError: a callback is a coroutine function, which nobody would await, or none.
    """

    def __init__(
        self,
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_display: OnDisplay | None = None,
        on_event: Sink | None = None,
        ask: Callable[[events.InputRequested], None] | None = None,
        give_up: Callable[[], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        for callback in (on_stdout, on_stderr, on_display, on_event):
            check_callback(callback)
        self.displays: list[Display] = []
        self.raised: BaseException | None = None
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._on_text = {"stdout": on_stdout, "stderr": on_stderr}
        self._on_display = on_display
        self._on_event = on_event
        self._ask = ask
        self._give_up = give_up
        limits = limits or Limits()
        self._room = 2 * limits.output_bytes + _TEXT_SLACK if limits.output_bytes else None
        self._most_displays = limits.displays
        self._display_bytes = 0
        self._dropped: set[str] = set()  # of what some was dropped, and who has been told
        # Events arrive in a task of the session's; a callback belongs to who called `execute`
        # (a notebook's front end, a tracer's span).
        self._context = contextvars.copy_context()

    def text(self, stream: str) -> str:
        return "".join(self._texts[stream])

    @property
    def result_text(self) -> str:
        """The plain text of the last expression's value, or ""."""
        return next((item.text for item in reversed(self.displays) if item.is_result), "")

    def hear(self, event: events.Event) -> None:
        if self.raised is not None:
            return
        try:
            self._context.run(self._take, event)
        except BaseException as error:
            self.raised = error
            if self._give_up is not None:
                self._give_up()

    def _take(self, event: events.Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        match event:
            case events.TextWritten():
                self._write(event.stream, event.text)
            case events.DisplayShown() | events.DisplayUpdated() | events.ResultShown():
                self._show(_display(event))
            case events.InputRequested() if self._ask is not None:
                self._ask(event)

    def _write(self, stream: str, text: str) -> None:
        if self._has_room_for(text):
            self._texts[stream].append(text)
        if (tell := self._on_text[stream]) is not None:
            tell(text)

    def _has_room_for(self, text: str) -> bool:
        if self._room is None:
            return True
        self._room = max(self._room - len(text), 0)
        if not self._room:
            self._tell_dropped("text")
        return self._room > 0

    def _show(self, display: Display) -> None:
        if display.is_update and display.display_id:
            self._update(display)
        elif self._is_kept(_weight(display), 1):
            self.displays.append(display)
        if self._on_display is not None:
            self._on_display(display)

    def _update(self, display: Display) -> None:
        """What a reader sees at the end is the newest; a progress bar is one display."""
        weight = _weight(display)
        for index, shown in enumerate(self.displays):
            same_id = shown.display_id == display.display_id
            if same_id and self._is_kept(weight - _weight(shown), 0):
                self.displays[index] = display._replace(is_update=False)

    def _is_kept(self, more_bytes: int, more: int) -> bool:
        total = self._display_bytes + more_bytes
        if total > MAX_DISPLAYS_BYTES or len(self.displays) + more > self._most_displays:
            self._tell_dropped("rich outputs")
            return False
        self._display_bytes = total
        return True

    def _tell_dropped(self, what: str) -> None:
        if what not in self._dropped:
            self._dropped.add(what)
            size = format_size(MAX_DISPLAYS_BYTES)
            why = f"they are over {size}" if what == "rich outputs" else "it is over its limit"
            self._texts["stderr"].append(f"[sandbox] Not all {what} are in this result: {why}.\n")


def check_callback(callback: object) -> None:
    """
    Raises:
        SettingsError: it is a coroutine function, or cannot be called.
    """
    if callback is not None and not callable(callback):
        raise SettingsError(f"A callback is {callback!r:.80}; give a function.")
    if inspect.iscoroutinefunction(callback):
        name = getattr(callback, "__name__", "it")
        raise SettingsError(
            f"The callback {name} is an async function. Give a plain one; to await something, "
            "let it put what it gets into a queue."
        )


def _weight(display: Display) -> int:
    """About how many bytes a display holds."""
    return sum(
        len(value) if isinstance(value, str) else len(json.dumps(value))
        for part in (display.bundle, display.metadata)
        for value in part.values()
    )


def _display(
    event: events.DisplayShown | events.DisplayUpdated | events.ResultShown,
) -> Display:
    transient = {} if isinstance(event, events.ResultShown) else event.transient
    return Display(
        event.bundle,
        event.metadata,
        is_result=isinstance(event, events.ResultShown),
        is_update=isinstance(event, events.DisplayUpdated),
        display_id=str(transient.get("display_id", "")),
    )


def check_stdin(stdin: object) -> None:
    """
    Raises:
        SettingsError: nothing can be answered from it. Bytes would be so many numbers.
    """
    is_known = isinstance(stdin, str | Iterable) or callable(stdin)
    if not is_known or isinstance(stdin, bytes | bytearray):
        raise SettingsError(
            f"stdin is {stdin!r:.80}; give a text of lines, a list of them, or a function that "
            "gets the prompt."
        )


class Answers:
    """Answers `input()` with what the caller gave as `stdin`.

    Args:
        stdin: a text (a line an answer), lines, or a callable that gets the prompt.
        answer: gives the running cell its line; None: there is none left.
        give_up: stops the cell, when the callable raised.
    """

    def __init__(
        self, stdin: Stdin, answer: Callable[[str | None], None], give_up: Callable[[], None]
    ) -> None:
        self.raised: BaseException | None = None
        check_stdin(stdin)
        # `splitlines` would also part it at characters that are none of a terminal's line ends.
        lines = io.StringIO(stdin, newline=None) if isinstance(stdin, str) else stdin
        self._lines = None if callable(lines) else iter(lines)
        self._call = lines if callable(lines) else None
        self._answer = answer
        self._give_up = give_up
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, event: events.InputRequested) -> None:
        task = asyncio.ensure_future(self._reply(event.prompt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        for task in self._tasks:
            task.cancel()

    async def _reply(self, prompt: str) -> None:
        try:
            self._answer(await self._next(prompt))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.raised = error
            self._give_up()

    async def _next(self, prompt: str) -> str | None:
        if self._lines is not None:
            return _line(next(self._lines, None))
        assert self._call is not None
        if inspect.iscoroutinefunction(self._call):
            return _line(await self._call(prompt))
        # It may well ask a person: the loop goes on meanwhile.
        line = await asyncio.to_thread(self._call, prompt)
        return _line(await line if inspect.isawaitable(line) else line)


def _line(answer: object) -> str | None:
    """As `input()` gives it: those of a file have an end."""
    return None if answer is None else str(answer).removesuffix("\n")
