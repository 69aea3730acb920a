"""What a run may do to the host by the files that are carried: their number, size and timing."""

import asyncio
import time
import tracemalloc

import pytest

from sandbox_kernel.engine import carried as module
from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.errors import SessionClosed
from sandbox_kernel.limits import MIB, Limits
from sandbox_kernel.session import FileEntry

PIECE = bytes(MIB)


class Inside:
    """A sandbox's files: each has `pieces` pieces of 1 MiB, none of which is kept here."""

    def __init__(self, pieces=0):
        self._pieces = pieces
        self.written = 0

    async def pieces(self, name, *, limit_bytes=None):
        for _ in range(self._pieces):
            await asyncio.sleep(0)
            yield PIECE

    async def write_pieces(self, name, size, part):
        for start in range(0, size, MIB):
            self.written += len(part(start, min(start + MIB, size)))


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_hundred_thousand_files_cost_a_hundred_thousand_times_one(is_shared):
    """Ten runs that make 10,000 each took minutes of the event loop; now a second."""
    files = Carried(Limits(), is_shared=is_shared)
    begun_s = time.process_time()
    for run in range(10):
        entries = [FileEntry(f"{run}-{number}", 0, 1.0) for number in range(10_000)]
        assert await files.take(Inside(), entries) == {}
    assert time.process_time() - begun_s < 10
    assert len(await files.list()) == 100_000


async def test_a_large_file_passes_through_memory_a_piece_at_a_time():
    files = Carried(Limits(), is_shared=True)
    tracemalloc.start()
    try:
        assert await files.take(Inside(64), [FileEntry("large", 64 * MIB, 1.0)]) == {}
        inside = Inside()
        await files.give(inside)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    files.close()
    assert inside.written == 64 * MIB
    assert peak < 8 * MIB


async def test_what_one_run_replaces_does_not_move_what_another_is_given(monkeypatch):
    """The file is rewritten without waste; a run that was being given its files got others'."""
    monkeypatch.setattr(module, "WASTE_BYTES", 1000)
    files = Carried(Limits(), is_shared=True)
    await files.write("replaced", b"-" * 2000)
    names = [f"n{number}" for number in range(20)]
    for name in names:
        await files.write(name, name.encode())
    got = {}

    class Slow(Inside):
        async def write_pieces(self, name, size, part):
            for _ in range(10):
                await asyncio.sleep(0)
            got[name] = part(0, size)

    giving = asyncio.ensure_future(files.give(Slow()))
    for number in range(50):
        await files.write("replaced", b"%d" % number * 500)
        await asyncio.sleep(0)
    await giving
    assert {name: got[name] for name in names} == {name: name.encode() for name in names}
    await files.write("replaced", b"")
    assert files._end < 3000  # and the waste went afterwards


async def test_files_of_two_runs_that_end_together_are_not_mixed():
    class Letters(Inside):
        def __init__(self, letter):
            self.letter = letter

        async def pieces(self, name, *, limit_bytes=None):
            for _ in range(5):
                await asyncio.sleep(0)
                yield self.letter * 10

    files = Carried(Limits(), is_shared=False)
    await asyncio.gather(
        *(files.take(Letters(each), [FileEntry(str(each), 50, 1.0)]) for each in (b"a", b"b"))
    )
    assert await files.read("b'a'") == b"a" * 50
    assert await files.read("b'b'") == b"b" * 50


async def test_runs_that_never_pause_cannot_fill_the_hosts_disk(monkeypatch):
    monkeypatch.setattr(module, "WASTE_BYTES", 1000)
    files = Carried(Limits(workspace_bytes=MIB), is_shared=False)
    with files._held():  # somebody is always being given something
        told = [await files.take(Inside(1), [FileEntry("large", MIB, 1.0)]) for _ in range(10)]
    assert "overlap" in told[-1]["large"]
    assert len(await files.read("large")) == MIB
    assert await files.take(Inside(1), [FileEntry("large", MIB, 1.0)]) == {}


async def test_a_session_that_closes_while_a_run_is_given_its_files_says_so():
    files = Carried(Limits(), is_shared=False)
    await files.write("a", b"1")

    class Closing(Inside):
        async def write_pieces(self, name, size, part):
            files.close()
            part(0, size)

    with pytest.raises(SessionClosed):
        await files.give(Closing())
