"""SIGINT: a KeyboardInterrupt while user code runs, and nothing at any other time.

Python calls a signal's handler in the main thread between any two steps of a program.
So the main thread says where user code begins and ends (`open`, `close`), and where an
exception would do harm (`with shield:`); there it waits until the end of that block.

A cell that awaits is cancelled instead: an exception would hit the event loop.
"""

import signal
from _thread import get_ident
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional


class Interrupts:
    """One per process. Also the shield: `with interrupts:` delays a KeyboardInterrupt."""

    def __init__(self) -> None:
        self._main = get_ident()
        self._is_open = False
        self._shields = 0
        self._is_pending = False
        # Asks the cell's task to stop; False when raising is right after all.
        self.cancel: Optional[Callable[[], bool]] = None

    @property
    def is_main_thread(self) -> bool:
        """Whether the caller runs in the thread that signals go to."""
        return get_ident() == self._main

    def install(self) -> None:
        """Make ours the handler, again if user code has set another one."""
        if signal.getsignal(signal.SIGINT) != self._on_signal:
            signal.signal(signal.SIGINT, self._on_signal)

    def open(self) -> None:
        """From here on SIGINT raises. The caller catches KeyboardInterrupt, then closes."""
        self._is_pending = False
        self._is_open = True

    def close(self) -> None:
        """From here on SIGINT does nothing."""
        self._is_open = False

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """User code has failed and its error is being written: a SIGINT comes too late."""
        was_open, self._is_open = self._is_open, False
        try:
            yield
        finally:
            self._is_open = was_open

    def _on_signal(self, _number: int, _frame: Any) -> None:
        if not self._is_open:
            return
        if self._shields:
            self._is_pending = True
            return
        self._raise()

    def _raise(self) -> None:
        if self.cancel is not None and self.cancel():
            return
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        if get_ident() == self._main:
            self._shields += 1

    def __exit__(self, *_exc: object) -> None:
        if get_ident() == self._main:
            self._shields -= 1
            if self._is_pending and not self._shields:
                self._is_pending = False
                if self._is_open:
                    self._raise()

    def after_fork(self) -> None:
        """The thread that forked is the child's main thread."""
        self._main = get_ident()
        self._shields = 0
