"""Files that runs make: which they are, and what is kept of them at the end."""

import asyncio
import os

import pytest

from sandbox_kernel.engine import Strategy


@pytest.fixture
async def session(engine):
    return await engine.create_session("python")


async def test_generated_files_are_told_for_each_run_and_in_all(session):
    first = await session.execute("open('a', 'w').write('1'); open('.h', 'w').write('1')")
    assert [(file.name, file.size) for file in first.files] == [("a", 1)]
    await session.files.write("input", "1")
    second = await session.execute("open('sub.txt', 'w').write('22'); open('a', 'a').write('1')")
    assert sorted((file.name, file.size) for file in second.files) == [("a", 2), ("sub.txt", 2)]
    assert (await session.execute("1")).files == []
    assert session.info().generated == ("a", "sub.txt")


async def test_files_of_a_run_that_was_stopped_are_not_the_next_ones(session):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            session.execute("open('a', 'w').write('1')\nimport time; time.sleep(60)"), 0.5
        )
    assert [file.name for file in (await session.execute("open('b', 'w').write('1')")).files] == [
        "b"
    ]


@pytest.mark.parametrize("strategy", [Strategy.PER_SESSION, Strategy.POOL])
async def test_only_what_runs_made_is_kept_and_nothing_is_overwritten(engine, strategy, tmp_path):
    session = await engine.create_session(strategy=strategy, pool_size=1)
    await session.files.write("input.txt", "not generated")
    await session.execute(
        "import os\nos.mkdir('charts')\nopen('charts/a.txt', 'w').write('a')\n"
        "open('taken', 'w').write('theirs')\nopen('evil.pth', 'w').write('import os')\n"
        "open('\\x1b[2J', 'w').write('x'); open('.hidden', 'w').write('x')"
    )
    (tmp_path / "taken").write_text("mine")
    kept = {one.name: one for one in await session.close(keep_generated=tmp_path)}
    assert sorted(kept) == ["\x1b[2J", "charts/a.txt", "evil.pth", "taken"]
    assert kept["charts/a.txt"].path == tmp_path / "charts" / "a.txt"
    assert (tmp_path / "charts" / "a.txt").read_text() == "a"
    assert (tmp_path / "taken").read_text() == "mine"
    assert "not overwritten" in kept["taken"].reason
    assert "Python runs it" in kept["evil.pth"].reason
    assert kept["\x1b[2J"].path is None
    assert sorted(os.listdir(tmp_path)) == ["charts", "taken"]
    assert await session.close(keep_generated=tmp_path / "again") == list(kept.values())


async def test_files_that_went_with_their_sandbox_are_told_and_not_mistaken(session, tmp_path):
    await session.execute("open('a', 'w').write('1'); open('b', 'w').write('1')")
    session._place.seats[0]._guest.sandbox.kill()
    await session._place.seats[0]._guest.sandbox.death()
    await session.execute("open('b', 'w').write('2')")
    await session.files.write("a", "the caller's own")
    kept = {one.name: one for one in await session.close(keep_generated=tmp_path)}
    assert kept["a"].path is None
    assert "sandbox is gone" in kept["a"].reason
    assert (tmp_path / "b").read_text() == "2"
    assert os.listdir(tmp_path) == ["b"]
