"""SIGINT: a KeyboardInterrupt while user code runs, and at once when it comes before that.

Python calls a signal's handler in the main thread between any two steps of a program.
So the main thread says where user code begins and ends (`open`, `close`), and where an
exception would do harm (`with shield:`); there it waits until the end of that block.
Between requests it does nothing. But the supervisor sends none then: one that comes when a
request lies on the socket, or was taken and has not got to user code yet, means that request.

A cell that awaits is cancelled instead: an exception would hit the event loop.

What is raised in a finalizer is swallowed by Python, and that is likely: a signal that came
while garbage was collected is seen by the first `__del__` after it. It is then raised again.
"""

import signal
import sys
from _thread import get_ident, interrupt_main, start_new_thread
from contextlib import contextmanager
from time import sleep
from typing import Any, Callable, Iterator, Optional

# By then the finalizer that swallowed one has ended; if not, there is a next time.
_AGAIN_S = 0.002


class Interrupts:
    """One per process. Also the shield: `with interrupts:` delays a KeyboardInterrupt."""

    def __init__(self) -> None:
        self._main = get_ident()
        self._is_open = False
        self._shields = 0
        self._is_pending = False
        self._has_raised = False
        self._openings = 0
        self._is_early = False
        # Whether a request lies there that user code has not begun with.
        self.is_asked: Callable[[], bool] = lambda: False
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
        if sys.unraisablehook is sys.__unraisablehook__:
            sys.unraisablehook = self._on_unraisable

    def open(self) -> None:
        """From here on SIGINT raises. The caller catches KeyboardInterrupt, then closes.

        Raises:
            KeyboardInterrupt: it came early.
        """
        self._is_pending = self._has_raised = False
        self._openings += 1
        self._is_open = True
        if self._is_early:
            self._is_early = False
            self._raise()

    def close(self) -> None:
        """From here on SIGINT does nothing, unless there is the next request."""
        self._is_open = self._is_early = False

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
            self._is_early = self._is_early or self.is_asked()
            return
        if self._shields:
            self._is_pending = True
            return
        self._raise()

    def _raise(self) -> None:
        if self.cancel is not None and self.cancel():
            return
        self._has_raised = True
        raise KeyboardInterrupt

    def _on_unraisable(self, swallowed: Any) -> None:
        is_ours = self._has_raised and swallowed.exc_type is KeyboardInterrupt
        if not is_ours or get_ident() != self._main:
            sys.__unraisablehook__(swallowed)
        elif self._is_open:
            self._has_raised = False
            try:
                start_new_thread(self._interrupt_again, (self._openings,))
            except RuntimeError:  # no process is left to have
                interrupt_main()

    def _interrupt_again(self, opening: int) -> None:
        """In a thread of its own: unless what was to be interrupted has ended by itself."""
        sleep(_AGAIN_S)
        if self._is_open and self._openings == opening:
            interrupt_main()

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
