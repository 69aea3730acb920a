"""What is known of a session, and its end."""

import asyncio
import re
from datetime import UTC, datetime

import pytest

from sandbox_kernel.errors import FileRefused, SessionClosed


@pytest.fixture
async def session(engine):
    return await engine.create_session("python", labels={"user": "ann"})


# --- knowing ----------------------------------------------------------------------------


async def test_info_tells_everything_without_asking_the_sandbox(session, backend):
    before = session.info()
    assert (before.runs, before.state, before.generated) == (0, "idle", ())
    assert [(one.runs, one.ended) for one in before.sandboxes] == [(0, None)]
    await session.execute("open('a', 'w').write('1')")
    await session.execute("open('b', 'w').write('1')")
    now = datetime.now(UTC)
    info = session.info()
    assert re.fullmatch(r"[0-9a-f]{32}", info.id)
    assert (info.id, info.language, info.backend) == (session.id, "python", backend)
    assert (info.strategy, info.workspace, info.labels) == (
        "per_session",
        "shared",
        {"user": "ann"},
    )
    assert info.boundary
    assert (info.image is not None) == (backend == "docker")
    assert before.created == info.created <= info.last_used <= now
    assert before.last_used < info.last_used
    assert (info.runs, info.generated, info.dependencies_checksum) == (2, ("a", "b"), "")
    assert [one.runs for one in info.sandboxes] == [2]
    await session.close()
    closed = session.info()
    assert (closed.state, closed.boundary) == ("closed", info.boundary)
    assert closed.sandboxes[0].ended is not None


async def test_labels_are_the_callers_own_copy(engine):
    labels = {"user": "ann"}
    session = await engine.create_session(labels=labels)
    labels["user"] = "bob"
    session.info().labels["user"] = "eve"
    assert engine.sessions({"user": "ann"}) == [session]


# --- the end ----------------------------------------------------------------------------


async def test_a_directory_that_cannot_be_made_leaves_the_session_open(session, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused, match="cannot be made"):
        await session.close(keep_generated=tmp_path / "file" / "out")
    assert not session.is_closed
    assert (await session.execute("1 + 1")).text == "2"


async def test_a_session_may_be_closed_by_many_and_is_gone_for_all(session, engine):
    assert await asyncio.gather(*(session.close() for _ in range(3))) == [[], [], []]
    assert await session.close() == []
    uses = [
        session.execute("1"),
        session.run("true"),
        session.complete("a"),
        session.inspect("a"),
        session.restart(),
        session.files.list(),
        session.files.read("a"),
        session.files.write("a", "b"),
    ]
    for use in uses:
        with pytest.raises(SessionClosed, match="Create another"):
            await use
    with pytest.raises(SessionClosed):
        session.forward(8000)
    await session.interrupt()
    assert session.is_closed
    assert engine.sessions() == []


async def test_a_session_is_a_context_that_closes_it(engine):
    async with await engine.create_session() as session:
        assert (await session.execute("1 + 1")).text == "2"
    assert session.is_closed
    with pytest.raises(LookupError):
        async with await engine.create_session() as another:
            raise LookupError
    assert another.is_closed


async def test_a_session_that_is_closed_while_its_run_gets_a_sandbox_leaves_none(engine):
    for delay_s in (0, 0.05):
        session = await engine.create_session(strategy="per_execution")
        task = asyncio.create_task(session.execute("import time; time.sleep(60)"))
        await asyncio.wait([task], timeout=delay_s)
        await session.close()
        assert session._place.seats == []
        with pytest.raises(SessionClosed):
            await asyncio.wait_for(task, 20)
