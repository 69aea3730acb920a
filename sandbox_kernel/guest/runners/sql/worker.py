"""The thread that the engine works in, while the main thread hears signals.

Python runs a signal's handler in the main thread only, and not before a call into C has
come back: an engine that works there would never hear SIGINT.
"""

import threading
from queue import SimpleQueue
from typing import Any, Callable, Optional, TypeVar

from .engine import Engine
from .errors import Interrupted

T = TypeVar("T")

# An interrupt that comes between two statements finds nothing to end; so it is repeated.
_REPEAT_S = 0.1


class Worker:
    """Runs one job at a time. All but `note_interrupt` is for one thread, the main one."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._engine: Optional[Engine] = None
        self._failure: Optional[BaseException] = None
        self._jobs: "SimpleQueue[Callable[[], None]]" = SimpleQueue()
        self._is_busy = False
        self._is_interrupted = False

    def start(self) -> None:
        """Open the engine, without waiting for it."""
        threading.Thread(target=self._work, daemon=True).start()

    def note_interrupt(self, _number: int, _frame: Any) -> None:
        """SIGINT: for the job under way, if there is one."""
        if self._is_busy:
            self._is_interrupted = True
            self._interrupt()

    def check(self) -> None:
        """Raises `Interrupted` when SIGINT came. From within jobs, between two steps."""
        if self._is_interrupted:
            raise Interrupted

    def run(self, job: Callable[[Engine], T]) -> T:
        """Have the thread do `job`, and wait. Raises what it raises."""
        done = threading.Event()
        outcome: Any = []

        def work() -> None:
            try:
                if self._engine is None:
                    raise self._failure or RuntimeError("There is no engine.")
                outcome.append(job(self._engine))
            except BaseException as error:  # raised again in the main thread
                outcome.append(error)
                outcome.append(None)
            done.set()

        self._is_interrupted = False
        self._is_busy = True
        self._jobs.put(work)
        while not done.wait(_REPEAT_S):
            if self._is_interrupted:
                self._interrupt()
        self._is_busy = False
        if len(outcome) > 1:
            raise outcome[0]
        result: T = outcome[0]
        return result

    def _interrupt(self) -> None:
        if self._engine is not None:
            self._engine.interrupt()

    def _work(self) -> None:
        try:
            self._engine = self._open()
        except Exception as error:  # whatever a broken installation raises; told in cells
            self._failure = error
        while True:
            self._jobs.get()()
