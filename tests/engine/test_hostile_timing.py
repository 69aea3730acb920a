"""What is left when somebody is cancelled, or closes, at the worst moment."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from sandbox_kernel.engine import Engine, Strategy
from sandbox_kernel.engine.generated import Generated
from sandbox_kernel.events import Receipt
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import FileEntry, Outcome, State
from sandbox_kernel.session.tools import Toolbox
from tests.support.waiting import until

RAN = Outcome("ok", None, Receipt(0.0, 0.0, 0, 0, 1), {}, [])


class Seat:
    """A sandbox with `entries`; `listing` is set while it is being asked for them."""

    sandbox_id = "one"
    state = State.IDLE
    spec = SimpleNamespace(limits=Limits())

    def __init__(self, *names):
        self.entries = [FileEntry(name, 1, 1.0) for name in names]
        self.files = self
        self.read_one = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def list(self):
        await self.go_on.wait()
        return list(self.entries)

    async def read(self, name, *, limit_bytes):
        self.read_one.set()
        await asyncio.sleep(0)
        return b"1"


def place_of(seat):
    return SimpleNamespace(carried=None, seats=[seat], store=lambda: seat)


async def test_a_run_that_ends_while_files_are_kept_spoils_nothing(tmp_path):
    seat = Seat()
    generated = Generated(place_of(seat))
    before = await generated.before(seat, has_inputs=False)
    seat.entries = [FileEntry(f"f{number}", 1, 1.0) for number in range(3)]
    await generated.after(seat, RAN, before)
    keeping = asyncio.ensure_future(generated.keep(tmp_path))
    await seat.read_one.wait()
    before = dict.fromkeys(())
    seat.entries.append(FileEntry("late", 1, 1.0))
    await generated.after(seat, RAN, before)
    assert [one.name for one in await keeping] == ["f0", "f1", "f2"]
    assert sorted(os.listdir(tmp_path)) == ["f0", "f1", "f2"]


async def test_files_of_a_run_whose_end_was_cancelled_are_not_the_next_ones():
    seat = Seat()
    generated = Generated(place_of(seat))
    before = await generated.before(seat, has_inputs=False)
    seat.entries = [FileEntry("first", 1, 1.0)]
    seat.go_on.clear()
    ending = asyncio.ensure_future(generated.after(seat, RAN, before))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    seat.go_on.set()
    before = await generated.before(seat, has_inputs=False)
    seat.entries.append(FileEntry("second", 1, 1.0))
    made, _ = await generated.after(seat, RAN, before)
    assert [entry.name for entry in made] == ["second"]


async def test_a_session_that_came_as_its_caller_was_cancelled_is_nobodys_and_ends():
    """Between the session's coming and its caller's waking is one turn of the loop."""
    async with Engine("bubblewrap", max_sessions=1) as engine:
        place = engine._place

        def placed(*arguments):
            made = place(*arguments)
            start = made.start

            async def started():
                await start()
                asyncio.get_running_loop().call_soon(creating.cancel)

            made.start = started
            return made

        engine._place = placed
        creating = asyncio.ensure_future(engine.create_session("python"))
        await asyncio.wait([creating])
        assert creating.cancelled()
        assert engine.sessions() == []
        engine._place = place
        await asyncio.to_thread(until, lambda: not engine._sessions, "it is closed")
        async with await engine.create_session("python") as session:  # the one place is free
            assert (await session.execute("1 + 1")).text == "2"


async def test_sessions_that_share_a_toolbox_end_each_for_itself():
    box = Toolbox([abs])
    async with Engine("bubblewrap") as engine:
        first, second = [
            await engine.create_session("python", strategy=Strategy.POOL, pool_size=1, tools=box)
            for _ in range(2)
        ]
        await first.close()
        result = await second.execute("tools.abs(-2)")
        assert result.text == "2", result.stderr
        await second.close()
        assert not engine._pools._pools


@pytest.mark.parametrize("size", [-1, 2**63, 10**4000, "1", None])
async def test_a_size_that_no_file_has_is_no_line_of_a_listing(size):
    from sandbox_kernel import events
    from sandbox_kernel.session.files import Files

    async def answer(*_):
        items = [{"name": "liar", "size": size}, {"name": "a", "size": 2**63 - 1}]
        return events.Answered(1, {"files": items}, b"")

    assert [entry.name for entry in await Files(answer, 1).list()] == ["a"]
