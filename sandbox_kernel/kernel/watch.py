"""Notices that the program which started the kernel is gone.

Launchers set `JPY_PARENT_PID`. Without this a crashed Jupyter Server leaves its kernels,
and their sandboxes, behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping

POLL_S = 1.0


class ParentWatch:
    """Calls `on_gone` once when the parent has ended. `start` needs the running loop."""

    def __init__(self, parent_pid: int | None, on_gone: Callable[[], None]) -> None:
        self._pid = parent_pid
        self._on_gone = on_gone
        self._handle: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._first_parent = os.getppid()

    def start(self) -> None:
        if self._pid is None:
            return
        try:
            # Readable when the process ends: no polling, and no other one with its number.
            self._handle = os.pidfd_open(self._pid)
        except ProcessLookupError:  # it ended before we looked, or lives in another namespace
            self._poll(has_gone=os.getppid() == 1)
            return
        except OSError:  # a Linux before 5.3
            self._poll()
            return
        asyncio.get_running_loop().add_reader(self._handle, self._gone)

    def stop(self) -> None:
        """Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def _poll(self, has_gone: bool = False) -> None:
        if has_gone or os.getppid() != self._first_parent:
            self._gone()
            return
        self._timer = asyncio.get_running_loop().call_later(POLL_S, self._poll)

    def _gone(self) -> None:
        self.stop()
        self._on_gone()


def parent_pid(environ: Mapping[str, str]) -> int | None:
    """The launcher's process id as it says itself, or None."""
    text = environ.get("JPY_PARENT_PID", "")
    is_pid = text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 1
    return int(text) if is_pid else None
