"""Which cell a piece of output belongs to: the one that started the code that made it.

A thread belongs to the cell that started it and an asyncio task to the cell that made
it, for as long as they live. What came about in ways we don't see (threads of C
libraries) counts as the latest cell's.
"""

import threading
from contextvars import ContextVar
from typing import Any, Optional

_cell: "ContextVar[Optional[int]]" = ContextVar("sandbox_cell", default=None)
read_context = _cell.get


class Cells:
    """The number of the latest cell, and of the one that the caller runs for."""

    def __init__(self) -> None:
        self.latest = 0

    def enter(self, cell: int) -> None:
        """From here on this context, and all that it starts, works for `cell`."""
        self.latest = cell
        _cell.set(cell)

    def current(self) -> int:
        """The cell that the calling code belongs to."""
        cell = read_context()
        return self.latest if cell is None else cell

    def stamp_threads(self) -> None:
        """Make every `threading.Thread` belong to the cell that starts it."""
        start = threading.Thread.start
        bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

        def stamped_start(thread: Any) -> None:
            thread._sandbox_cell = self.current()
            start(thread)

        def stamped_bootstrap(thread: Any) -> None:
            _cell.set(getattr(thread, "_sandbox_cell", None))
            bootstrap(thread)

        stamped_start.__name__ = "start"
        stamped_start.__doc__ = start.__doc__
        threading.Thread.start = stamped_start  # type: ignore[method-assign, assignment]
        threading.Thread._bootstrap_inner = stamped_bootstrap  # type: ignore[attr-defined]
