"""Where lines come from. Each has `line` and `answer`; both raise EOFError and KeyboardInterrupt.

Editor   a terminal with prompt_toolkit: several lines, history, completion
Plain    a terminal without it
Pipe     anything else: one line after another, and nothing is asked of it by the guest
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prompt_toolkit.history import History

IsUnfinished = Callable[[str], bool]
# (text, cursor) -> (how many characters before the cursor go, what may come in their place)
Complete = Callable[[str, int], Awaitable[tuple[int, list[str]]]]

# A year's typing; beyond it the older half goes.
MAX_HISTORY_BYTES = 1024**2


class Keyboard(Protocol):
    is_person: bool  # whether somebody is there to be asked

    async def line(self, prompt: str) -> str:
        """The next line, or the lines that belong together."""

    async def answer(self, question: str) -> str:
        """One line, which no history keeps."""


def open_keyboard(is_unfinished: IsUnfinished, complete: Complete) -> Keyboard:
    """The best that this process's stdin allows."""
    if not sys.stdin.isatty():
        return Pipe(is_unfinished)
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            return Editor(is_unfinished, complete)
        except ImportError:
            pass
    return Plain(is_unfinished)


class _Lines:
    """One line after another until they are whole."""

    is_person = True

    def __init__(self, is_unfinished: IsUnfinished) -> None:
        self._is_unfinished = is_unfinished

    async def line(self, prompt: str) -> str:
        text = self._read(prompt)
        while self._is_unfinished(text):
            try:
                text += "\n" + self._read("... ")
            except EOFError:
                break
        return text

    async def answer(self, question: str) -> str:
        return self._read(question)

    def _read(self, prompt: str) -> str:
        raise NotImplementedError


class Plain(_Lines):
    def _read(self, prompt: str) -> str:
        return input(prompt)


class Pipe(_Lines):
    is_person = False

    def _read(self, prompt: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


class Editor:
    """A terminal's own line editor.

    Raises:
        ImportError: prompt_toolkit is not installed.
    """

    is_person = True

    def __init__(self, is_unfinished: IsUnfinished, complete: Complete) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("escape", "enter")
        def _(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        def is_open() -> bool:
            return is_unfinished(self._session.default_buffer.text)

        self._session: PromptSession[str] = PromptSession(
            history=_history(os.environ),
            multiline=Condition(is_open),
            prompt_continuation="... ",
            key_bindings=keys,
            completer=_completer(complete),
            complete_while_typing=False,
            enable_open_in_editor=True,
        )
        self._asking: PromptSession[str] = PromptSession()

    async def line(self, prompt: str) -> str:
        return await self._session.prompt_async([("bold", prompt)])

    async def answer(self, question: str) -> str:
        return await self._asking.prompt_async(question)


def _completer(complete: Complete) -> Any:
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.document import Document

    class Found(Completer):
        def get_completions(self, *_: Any) -> list[Completion]:
            return []

        async def get_completions_async(
            self, document: Document, _event: Any
        ) -> AsyncGenerator[Completion, None]:
            length, found = await complete(document.text, document.cursor_position)
            for text in found:
                yield Completion(text, start_position=-length)

    return Found()


# --- history ----------------------------------------------------------------------------


def history_path(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    state = environ.get("XDG_STATE_HOME") or str(home / ".local" / "state")
    return Path(state) / "sandbox-kernel" / "chat-history"


def _history(environ: Mapping[str, str]) -> History:
    """What was typed before, in a file for this user's eyes; else of this time only."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_path(environ)
    try:
        make_private(path)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def make_private(path: Path) -> None:
    """Have the file there, readable by nobody else, and not endless.

    Raises:
        OSError: it cannot be so; a link in its place among the reasons.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b") as file:
        os.fchmod(handle, 0o600)
        if os.fstat(handle).st_size > MAX_HISTORY_BYTES:
            newer = file.read()[-MAX_HISTORY_BYTES // 2 :]
            file.seek(0)
            file.write(newer[max(newer.find(b"\n# "), 0) :])  # where an entry begins
            file.truncate()
