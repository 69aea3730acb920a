"""The end of the launcher is noticed."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from sandbox_kernel.kernel import watch
from sandbox_kernel.kernel.watch import ParentWatch, parent_pid
from tests.support.waiting import DEADLINE_S


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        ("123", 123),
        ("", None),
        ("1", None),
        ("0", None),
        ("-5", None),
        ("x", None),
        ("9" * 30, None),
    ],
)
def test_the_launchers_process_id_comes_from_the_environment(text, pid):
    assert parent_pid({"JPY_PARENT_PID": text}) == pid
    assert parent_pid({}) is None


async def test_the_end_of_a_process_is_told_once():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    gone = asyncio.Event()
    watching = ParentWatch(process.pid, gone.set)
    watching.start()
    assert not gone.is_set()
    await process.communicate(b"\n")
    await asyncio.wait_for(gone.wait(), DEADLINE_S)
    watching.stop()


async def test_without_process_handles_a_new_parent_is_noticed(monkeypatch):
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    gone = asyncio.Event()
    watching = ParentWatch(os.getppid(), gone.set)
    watching.start()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    await asyncio.wait_for(gone.wait(), DEADLINE_S)


async def test_nobody_is_watched_when_nobody_is_named():
    watching = ParentWatch(None, lambda: pytest.fail("nobody ended"))
    watching.start()
    watching.stop()
