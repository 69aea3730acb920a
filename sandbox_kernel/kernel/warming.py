"""Has the seeds made for the kernels that come later, while nobody runs a cell.

The work is done by another process of low priority, in a sandbox that runs nobody's code
(see `seeds`). It ends when this kernel does: its standard input is a pipe that we hold.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from sandbox_kernel import seeds
from sandbox_kernel.kernel.log import log

# A reader who has just started a kernel runs their first cells; that time is theirs.
IDLE_S = 5.0


class Warming:
    """Starts the builder once, when the kernel has been idle for a while and it is due."""

    def __init__(self, python: str | None, is_busy: Callable[[], bool]) -> None:
        self._python = python
        self._is_busy = is_busy
        self._timer: asyncio.TimerHandle | None = None
        self._lifeline: int | None = None
        self._builder = 0

    def start(self) -> None:
        """Look again and again until it is done; needs the running loop."""
        if seeds.is_due(self._python):
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._look)

    def stop(self) -> None:
        """End the builder, if there is one. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
            os.waitpid(self._builder, os.WNOHANG)

    def _look(self) -> None:
        if self._is_busy():
            self.start()
            return
        reader, self._lifeline = os.pipe()
        try:
            self._builder = self._spawn(reader)
        except OSError as error:
            log(f"The files for new homes could not be made: {error.strerror}.")
        finally:
            os.close(reader)

    def _spawn(self, reader: int) -> int:
        arguments = [self._python] if self._python else []
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "sandbox_kernel.seeds", *arguments],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, null, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(null)
