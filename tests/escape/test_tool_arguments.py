"""Arguments and words of a cell's, as a host tool's machinery handles them: THREATS 13 and 56."""

import asyncio
import logging
import time
import tracemalloc

import pytest

from sandbox_kernel import events
from sandbox_kernel.errors import ToolError
from sandbox_kernel.session.tool_calls import MAX_TASKS, ToolCalls
from sandbox_kernel.session.tool_failures import MAX_LOGGED, explain
from sandbox_kernel.session.tool_functions import Tool
from sandbox_kernel.session.tools import Toolbox


def of_list(values: list[int]) -> int:
    return sum(values)


def of_many(*values: int) -> int:
    return sum(values)


def of_named(**values: int) -> int:
    return sum(values.values())


@pytest.mark.parametrize(
    ("function", "positional", "named"),
    [
        (of_list, [["x"] * 250_000], {}),
        (of_many, ["x"] * 250_000, {}),
        (of_named, [], {f"n{number}": "x" for number in range(80_000)}),
    ],
)
def test_a_megabyte_of_wrong_arguments_is_refused_without_a_list_of_all(
    function, positional, named
):
    """Each took over a second of the host's event loop, and a cell has 250 calls."""
    tool = Tool("add", function)
    begun_s = time.process_time()
    with pytest.raises(ToolError, match="000 values") as told:
        tool.bind(positional, named)
    assert time.process_time() - begun_s < 0.8
    assert len(str(told.value)) < 1_000


def test_few_wrong_arguments_are_named_and_right_ones_taken():
    with pytest.raises(ToolError, match=r"values\.1: .*integer"):
        Tool("add", of_list).bind([[1, "x"]], {})
    assert Tool("add", of_many).bind([1, 2], {}) == ((1, 2), {})


def test_a_cells_words_reach_no_terminal_by_the_log(caplog):
    """`raise ValueError(f"there is no city {city}")` is what tools do, and logs go to stderr."""
    hostile = "\x1b]52;c;aGk=\x07\x1b[2Jcity\r[fake] all is well\x9b31m"
    with caplog.at_level(logging.WARNING, "sandbox_kernel.tools"):
        explain("find", ValueError(f"there is no {hostile}"))
    assert "there is no" in caplog.text
    assert "city" in caplog.text
    assert not set("\x1b\x07\x9b\r") & set(caplog.text)


def test_a_cell_cannot_fill_a_disk_by_the_log(caplog):
    with caplog.at_level(logging.WARNING, "sandbox_kernel.tools"):
        explain("find", ValueError("x" * 1_000_000))
    assert len(caplog.text) < MAX_LOGGED + 1_000


async def test_calls_whose_refusals_wait_to_be_sent_hold_none_of_their_arguments():
    """A frame may have 16 MiB, and a thousand refusals may wait for a guest that reads none."""

    class Deaf:
        async def send(self, *_):
            await asyncio.Event().wait()

    calls = ToolCalls(Toolbox([of_many]))  # no cell runs: all are refused
    tracemalloc.start()
    try:
        for number in range(MAX_TASKS):
            calls.hear(events.ToolCalled(1, number, "of_many", bytes(100_000)), Deaf())
        await asyncio.sleep(0)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    for task in list(calls._tasks):
        task.cancel()
    assert held < MAX_TASKS * 20_000


async def test_functions_that_hang_take_no_more_threads_with_every_fresh_sandbox(monkeypatch):
    """Where each run has a sandbox of its own, each has calls of its own, and 8 places."""
    import threading

    from sandbox_kernel.session import tools

    monkeypatch.setattr(tools, "MAX_THREADS", 10)
    go_on = threading.Event()

    def hang() -> None:
        go_on.wait()

    box = Toolbox([hang])
    tool = box.find("hang")
    try:
        calls = [
            asyncio.ensure_future(ToolCalls(box)._call(tool, b"{}"))  # each of a new sandbox
            for _ in range(30)
        ]
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        assert len(pending) == 10
        assert "hang" in str(done.pop().exception())
    finally:
        go_on.set()
    await asyncio.wait(calls)
    assert await ToolCalls(box)._call(tool, b"{}") == b"null"
    assert box.threads == 0
