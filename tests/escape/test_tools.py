"""Cells that attack the host's tools: THREATS 56, and 16, 17, 19 where these concern them.

A cell may say anything on the stream. What it may not: call a function that was not offered,
with arguments that don't fit, oftener than was allowed, or make the host hold what it sends.
"""

import asyncio
import resource

import pytest

from sandbox_kernel import events
from sandbox_kernel.session.tools import Toolbox
from tests.escape.test_output import FORGE

# The runner's own connection, found as any cell can find it.
CONNECT = """
import itertools, json, time
numbers = itertools.count(1000)
hub = next(cell.cell_contents for cell in tools.note.__closure__
           if type(cell.cell_contents).__name__ == 'HostTools')
channel, number = hub._tools.channel, hub._tools.cells.current()
def call(name, data=b'{"args": ["x"]}', cell=None, **meta):
    meta = {'call': next(numbers), 'name': name, **meta}
    channel.send(43, number if cell is None else cell, meta, data)
"""


class Notes:
    """What the functions of the host's were really called with."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.go_on = asyncio.Event()

    def note(self, text: str, times: int = 1) -> int:
        self.taken.append(text)
        return len(self.taken)

    async def wait(self, text: str) -> str:
        self.taken.append(text)
        await self.go_on.wait()
        return text

    def box(self, **limits):
        return Toolbox([self.note, self.wait], **limits)


async def next_cell_works(driver):
    assert (await driver.run("print('next')")).text() == "next\n"


async def attack(driver, code):
    """Run `code`, then a call that is none of an attack's: all before it has been heard."""
    cell = await driver.run(f"{CONNECT}\n{code}\ntools.note('the last')")
    await next_cell_works(driver)
    return cell


async def test_a_call_made_by_hand_is_a_call_like_any_other(open_session):
    """The twin of all below: what is well formed gets through."""
    notes = Notes()
    driver = await open_session(tools=notes.box())
    await attack(driver, 'call(\'note\', b\'{"args": ["by hand"], "kwargs": {"times": 2}}\')')
    assert notes.taken == ["by hand", "the last"]


@pytest.mark.parametrize(
    "name",
    ["open", "__class__", "box", "taken", "note.__globals__", "../note", "NOTE", "", "n" * 9_000],
)
async def test_only_the_names_that_were_offered_can_be_called(open_session, backend, name):
    if backend != "bubblewrap":
        pytest.skip("a name is looked up on the host, whatever the backend")
    notes = Notes()
    driver = await open_session(tools=notes.box())
    await attack(driver, f"call({name!r})")
    assert notes.taken == ["the last"]
    assert driver.session.tool_calls.total == 2


async def test_arguments_that_are_none_are_refused(open_session):
    notes = Notes()
    driver = await open_session(tools=notes.box(max_argument_bytes=100_000))
    cell = await attack(
        driver,
        "import pickle\n"
        "bad = [b'', b'null', b'[1]', b'{', b'\\xff\\xfe', pickle.dumps({'args': ['x']}),\n"
        '    b\'{"args": {"text": "x"}}\', b\'{"kwargs": [1]}\', b\'{"args": [1]}\',\n'
        '    b\'{"kwargs": {"text": "x", "self": 1}}\', b\'{"args": ["x", 1e400]}\',\n'
        "    b'{\"args\": [' + b'[' * 40_000 + b']' * 40_000 + b']}', b'[' * 90_000,\n"
        "    b'{\"args\": [' + b'9' * 50_000 + b']}', b'{\"args\": [\"' + "
        "b'x' * 15_000_000 + b'\"]}']\n"
        "for each in bad:\n    call('note', each); time.sleep(0.05)",
    )
    assert cell.outcome.status == "ok", cell.error
    assert notes.taken == ["the last"]
    assert driver.session.tool_calls.calls["note"] == 16


async def test_calls_for_other_cells_are_not_made(open_session):
    notes = Notes()
    driver = await open_session(tools=notes.box())
    await attack(
        driver, "for each in (0, number + 1, 4_000_000, 2**32 - 1): call('note', cell=each)"
    )
    assert notes.taken == ["the last"]


@pytest.mark.parametrize("number", ["-1", "2**70", "'seven'", "None"])
async def test_a_number_that_is_none_ends_that_sandbox_and_nothing_else(
    open_session, backend, number
):
    if backend != "bubblewrap":
        pytest.skip("frames are read on the host, whatever the backend")
    notes = Notes()
    other = await open_session(tools=notes.box())
    driver = await open_session(tools=notes.box())
    await driver.run(f"{CONNECT}\ncall('note', call={number})\ntime.sleep(1)")
    await next_cell_works(driver)
    await other.run("tools.note('of the other')")
    assert notes.taken == ["of the other"]


async def test_a_number_used_twice_makes_one_call(open_session):
    notes = Notes()
    driver = await open_session(tools=notes.box(max_concurrent=3))
    await attack(driver, "for _ in range(1000): call('wait', call=7)\ntime.sleep(0.3)")
    assert notes.taken == ["x", "the last"]
    assert not driver.session.tool_calls._running


async def test_a_flood_of_calls_costs_its_budget_and_no_memory_of_the_hosts(open_session):
    """Nobody reads the answers, and every call has the longest arguments there may be."""
    notes = Notes()
    driver = await open_session(tools=notes.box(max_calls=300, max_calls_per_cell=200))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cell = await driver.run(
        f"{CONNECT}\ndata = json.dumps({{'args': ['y' * 900_000]}}).encode()\n"
        "for each in range(100): call('wait', data)\n"
        "for each in range(5_000): call('note')",
        timeout_s=60,
    )
    assert cell.outcome.status == "ok", cell.error
    calls = driver.session.tool_calls
    assert calls.total == 200
    assert len(notes.taken) <= calls.toolbox.max_concurrent + 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024
    await next_cell_works(driver)
    assert "The 300 calls" in (await driver.run("for _ in range(150): tools.note('z')")).error.value
    assert calls.total == 300


async def test_a_cell_cannot_answer_its_own_calls_nor_speak_for_the_host(open_session):
    """TOOLS and TOOL_REPLY are the host's words: a runner that sends them is ended."""
    driver = await open_session(tools=Notes().box())
    for kind in (17, 22):
        cell = await driver.run(
            f"{CONNECT}\nchannel.send({kind}, number, {{'call': 1}})\nimport time; time.sleep(20)"
        )
        assert cell.error.name == "RunnerExited"
        await next_cell_works(driver)


async def test_a_session_without_tools_makes_no_call(open_session):
    driver = await open_session()
    meta = b'{"call": 1, "name": "note"}'
    forged = f"struct.pack('!IBII', {len(meta)}, 43, 1, {len(meta)}) + {meta!r}"
    cell = await driver.run(FORGE.replace("FORGERY", forged) + "\nimport time; time.sleep(0.3)")
    await next_cell_works(driver)
    assert not [
        event for event in cell.events + driver.late if isinstance(event, events.ToolCalled)
    ]


async def test_one_session_cannot_spend_what_another_has(open_session):
    notes = Notes()
    box = notes.box(max_calls=3)
    first, second = await open_session(tools=box), await open_session(tools=box)
    assert "The 3 calls" in (await first.run("while True: tools.note('a')")).error.value
    assert (await second.run("print(tools.note('b'))")).text() == "4\n"
    assert box.calls["note"] == 4
