"""Many sessions: found, bounded, ended in time, and nothing left of them whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from sandbox_kernel import Limits, languages
from sandbox_kernel.backends.base import Check
from sandbox_kernel.backends.bubblewrap import BubblewrapBackend
from sandbox_kernel.engine import Engine, Strategy, lifetimes
from sandbox_kernel.errors import (
    BackendUnavailable,
    NoSuchSession,
    SandboxDied,
    SandboxKernelError,
    SessionClosed,
    SessionLimitReached,
    SettingsError,
)
from sandbox_kernel.languages import Language
from sandbox_kernel.settings import Settings
from tests.support.open_engines import left_of, nothing_left, wait_until_nothing_left_of
from tests.support.waiting import DEADLINE_S

SMALL = Limits(memory_bytes=128 * 2**20)
WAIT = "import time; print('up', flush=True); time.sleep(600)"


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def until_closed(session):
    await until(lambda: session.is_closed)


@pytest.fixture
def looks(monkeypatch):
    """Why a session has to end, "" if it has not, each time that the reaper looks at one."""
    seen, real = [], lifetimes.verdict

    def look(session):
        found = real(session)
        seen.append(found[0])
        return found

    monkeypatch.setattr(lifetimes, "verdict", look)
    return seen


# --- finding ----------------------------------------------------------------------------


async def test_sessions_are_found_by_labels_and_ids_and_closed_by_id(engine):
    ann, bob = await asyncio.gather(
        engine.create_session(labels={"user": "ann", "app": "x"}),
        engine.create_session(labels={"user": "bob", "app": "x"}),
    )
    assert {one.id for one in engine.sessions()} == {ann.id, bob.id}
    assert engine.sessions({"user": "ann"}) == [ann]
    assert len(engine.sessions({"app": "x"})) == 2
    assert engine.sessions({"user": "ann", "app": "y"}) == []
    assert engine.get(bob.id) is bob
    await engine.close_session(ann.id)
    assert ann.is_closed
    assert engine.sessions() == [bob]
    with pytest.raises(NoSuchSession, match=ann.id):
        engine.get(ann.id)
    with pytest.raises(NoSuchSession, match=ann.id):
        await engine.close_session(ann.id)


async def test_an_unknown_id_is_refused(local_engine):
    for name in ("", "x", "../x"):
        with pytest.raises(NoSuchSession, match="Create one"):
            local_engine.get(name)
        with pytest.raises(NoSuchSession):
            await local_engine.close_session(name)


# --- how many ---------------------------------------------------------------------------


async def test_one_session_too_many_is_refused_until_one_is_closed(open_engine):
    engine = open_engine(max_sessions=1)
    first = await engine.create_session()
    with pytest.raises(SessionLimitReached, match="max_sessions"):
        await engine.create_session()
    await first.close()
    await engine.create_session()


async def test_who_waits_for_a_place_gets_the_next_one_in_order(open_engine):
    engine = open_engine(max_sessions=1, when_full="wait")
    first = await engine.create_session()
    made = []

    async def create(name):
        made.append((name, await engine.create_session(strategy="per_execution")))

    tasks = [asyncio.create_task(create(name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await first.close()
    await asyncio.wait_for(tasks[0], DEADLINE_S)
    assert not tasks[2].done()
    await made[0][1].close()
    await asyncio.wait_for(tasks[2], DEADLINE_S)
    assert [name for name, _ in made] == ["a", "c"]


async def test_a_session_that_cannot_be_made_gives_its_place_back(open_engine):
    engine = open_engine(max_sessions=1)
    with pytest.raises(SandboxKernelError):
        await engine.create_session(python="/nonexistent/python", image="no/such:image")
    with pytest.raises(SettingsError, match="preload"):
        await engine.create_session(preload=["json"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.create_session(), 0.01)
    assert (await (await engine.create_session()).execute("1 + 1")).text == "2"


async def test_many_sessions_some_at_a_time_are_all_their_own(open_engine, backend):
    """A hundred on bubblewrap, ten at a time."""
    count, at_once = (100, 10) if backend == "bubblewrap" else (12, 4)
    engine = open_engine(max_sessions=at_once, when_full="wait")
    most = 0

    async def use(number):
        nonlocal most
        async with await engine.create_session(limits=SMALL) as session:
            most = max(most, len(engine.sessions()))
            await session.execute(f"mine = {number}")
            return (await session.execute("mine")).text

    got = await asyncio.gather(*(use(number) for number in range(count)))
    assert got == [str(number) for number in range(count)]
    assert most <= at_once
    assert engine.sessions() == []


# --- how long ---------------------------------------------------------------------------


async def test_an_unused_session_ends_and_says_why(open_engine):
    engine = open_engine(idle_timeout_s=0.2)
    session = await engine.create_session()
    await until_closed(session)
    with pytest.raises(SessionClosed, match=r"unused for 0\.2 s \(idle_timeout_s\)"):
        await session.execute("1")
    with pytest.raises(SessionClosed, match="unused"):
        await session.files.list()
    with pytest.raises(NoSuchSession):
        engine.get(session.id)


async def test_a_session_that_runs_or_moves_files_is_not_idle(open_engine):
    engine = open_engine(idle_timeout_s=0.4)
    session = await engine.create_session()
    assert (await session.execute("import time; time.sleep(0.8)")).ok
    assert (await session.execute("1 + 1")).text == "2"
    await until_closed(session)
    another = await engine.create_session(idle_timeout_s=3600)
    await until(lambda: another.idle_s > 0.05)
    asked_s = time.monotonic()
    await another.files.list()
    assert another.idle_s <= time.monotonic() - asked_s


async def test_a_session_with_an_open_port_is_not_idle(open_engine, looks):
    engine = open_engine(idle_timeout_s=0.3)
    session = await engine.create_session(allow_forward=True)
    opened_s = time.monotonic()
    async with session.forward(8000):
        await until(lambda: time.monotonic() - opened_s > 0.3)
        looks.clear()
        await until(lambda: looks)
        assert looks[0] == ""
        assert not session.is_closed
    await until_closed(session)


async def test_a_session_ends_at_its_age_when_what_it_runs_has_ended(open_engine):
    engine = open_engine(lifetime_s=3600)
    session = await engine.create_session(lifetime_s=0.3)
    assert (await session.execute("import time; time.sleep(0.6); 'whole'")).text == "'whole'"
    await until_closed(session)
    with pytest.raises(SessionClosed, match=r"age of 0\.3 s \(lifetime_s\)"):
        await session.execute("1")


# --- nothing is left --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exception", "cancellation", "timeout"])
async def test_nothing_is_left_whatever_happens(backend, how):
    started = asyncio.Event()
    works = []

    async def use():
        async with Engine(backend) as engine:
            sessions = await asyncio.gather(
                engine.create_session(),
                engine.create_session(strategy=Strategy.PER_EXECUTION),
                engine.create_session(strategy=Strategy.POOL, pool_size=1),
            )
            for one in sessions:
                run = one.execute(WAIT, on_stdout=lambda _: started.set())
                works.append(asyncio.create_task(run))
            works.append(asyncio.create_task(engine.create_session()))
            await started.wait()
            if how == "exception":
                raise LookupError
            await asyncio.gather(*works)

    async with nothing_left():
        task = asyncio.create_task(use())
        if how == "cancellation":
            await asyncio.wait_for(started.wait(), DEADLINE_S)
            task.cancel()
        expected = {"exception": LookupError, "cancellation": asyncio.CancelledError}
        with pytest.raises(expected.get(how, TimeoutError)):
            await asyncio.wait_for(task, DEADLINE_S if how != "timeout" else 1.5)
        await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), DEADLINE_S)


async def test_who_is_cancelled_while_it_closes_leaves_nothing_all_the_same(backend):
    async with nothing_left():
        engine = Engine(backend)
        await engine.create_session()
        task = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, DEADLINE_S)


async def test_a_closed_engine_makes_nothing_and_tells_those_who_wait(open_engine):
    engine = open_engine(max_sessions=1, when_full="wait")
    first = asyncio.create_task(engine.create_session())
    waiting = asyncio.create_task(engine.create_session())
    await until(lambda: engine._admission.taken)  # the first is being made
    await asyncio.gather(engine.close(), engine.close())
    for task in (first, waiting):
        with pytest.raises(SessionClosed, match="engine is closed"):
            await asyncio.wait_for(task, DEADLINE_S)
    with pytest.raises(SessionClosed, match="engine is closed"):
        await engine.create_session()
    assert engine.sessions() == []
    await engine.close()


OWNER = """
import asyncio, sys
from sandbox_kernel import Engine, Strategy

async def main():
    engines = [Engine(name) for name in sys.argv[1:]]
    runs = []
    for engine in engines:
        for strategy in Strategy:
            session = await engine.create_session(strategy=strategy, pool_size=2)
            up = asyncio.Event()
            runs.append(asyncio.ensure_future(session.execute(
                "import os, signal, time; signal.signal(2, signal.SIG_IGN)\\n"
                "os.fork(); os.setsid() if os.getpid() != os.getpgid(0) else 0\\n"
                "print('up', flush=True); time.sleep(600)", on_stdout=lambda _: up.set())))
            await asyncio.wait_for(up.wait(), 60)
    print("up", flush=True)
    await asyncio.gather(*runs)

asyncio.run(main())
"""


def test_an_engine_that_is_killed_leaves_nothing_by_itself(backend):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, backend], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert len(left_of(owner.pid)) >= 4
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate(timeout=DEADLINE_S)
    wait_until_nothing_left_of(owner.pid)


# --- settings ---------------------------------------------------------------------------


async def test_the_settings_of_the_user_hold_for_programs(open_engine, monkeypatch, backend):
    monkeypatch.setenv("SANDBOX_KERNEL_TIMEOUT", "250ms")
    monkeypatch.setenv("SANDBOX_KERNEL_ENV", "MINE=1")
    monkeypatch.setenv("SANDBOX_KERNEL_MEMORY", "300m")
    monkeypatch.setenv("SANDBOX_KERNEL_BACKEND", backend)
    engine = Engine()
    assert engine.backend.name == backend
    async with engine:
        session = await engine.create_session()
        assert session.timeout_s == 0.25
        assert (await session.execute("import os; os.environ['MINE']")).text == "'1'"
        assert (await session.execute("import time; time.sleep(60)")).exit_code == 124


def test_a_backend_by_name_is_stronger_than_the_settings(monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_BACKEND", "docker")
    assert Engine("bubblewrap").backend.name == "bubblewrap"
    assert Engine("auto").backend.name == "bubblewrap"


def test_what_is_prepared_for_one_backend_is_not_asked_of_another(monkeypatch):
    """The seeds of the guest's home are files of this host's Python."""
    found = Settings.load({"backend": "bubblewrap"})

    class Other(BubblewrapBackend):
        name = "other"

    assert Engine(Other(), settings=found).settings.backend == "other"


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "nothing"},
        {"when_full": "panic"},
        {"backend": BubblewrapBackend},
        {"settings": {"memory": "1g"}},
        {"max_sessions": 0},
        {"max_sessions": "3"},
        {"max_idle_sandboxes": "4"},
        {"idle_timeout_s": 0},
        {"lifetime_s": -1},
        {"wait_timeout_s": "5"},
    ],
)
def test_what_cannot_be_is_refused_when_the_engine_is_made(options):
    with pytest.raises(SettingsError):
        Engine(**{"backend": "bubblewrap", **options})


async def test_what_cannot_be_is_refused_before_a_session_takes_a_place(local_engine):
    for options in (
        {"idle_timeout_s": 0},
        {"lifetime_s": float("nan")},
        {"strategy": "x"},
        {"labels": ["mine"]},
        {"on_dependency_output": "print"},
    ):
        with pytest.raises(SettingsError):
            await local_engine.create_session(**options)
    with pytest.raises(SettingsError, match="session_id is 5"):
        await local_engine.attach(5)

    async def hear(_text):
        pass

    with pytest.raises(SettingsError, match="async function"):
        await local_engine.create_session(on_dependency_output=hear)


async def test_a_pool_of_no_size_is_refused_and_harms_no_other(local_engine):
    for size in ("4", -1, None):
        with pytest.raises(SettingsError, match="pool_size"):
            await local_engine.create_session(strategy="pool", pool_size=size)
    session = await local_engine.create_session(strategy="pool", pool_size=1)
    assert (await session.execute("1")).text == "1"


class Forbidden(BubblewrapBackend):
    """A machine that forbids it."""

    def check(self) -> Check:
        return Check(self.name, False, "", "Forbidden here.", "Ask.", {})

    def launch(self, spec):
        raise BackendUnavailable("Forbidden here. Ask.")


async def run_once(engine, strategy):
    async with await engine.create_session(strategy=strategy) as session:
        await session.execute("1")


@pytest.mark.parametrize("strategy", ["per_session", "pool"])
async def test_a_backend_that_cannot_work_is_said_at_once_or_at_the_run(strategy):
    async with Engine(Forbidden(), max_sessions=1) as engine:
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="Forbidden here"):
                await run_once(engine, strategy)


async def test_a_python_that_is_none_is_said_when_the_session_is_made(open_engine, backend):
    if backend == "docker":
        with pytest.raises(SettingsError, match="python"):
            await open_engine().create_session(python="/usr/bin/true")
        return
    with pytest.raises((SandboxDied, BackendUnavailable, SettingsError)):
        await open_engine().create_session(python="/usr/bin/true")


# --- languages --------------------------------------------------------------------------


async def test_a_language_that_is_registered_is_there_for_every_session(engine, monkeypatch):
    monkeypatch.setattr(languages, "_registered", {})
    languages.register(
        Language(
            name="sed-script",
            display_name="sed",
            file_extension=".sed",
            mimetype="text/x-sed",
            codemirror_mode="null",
            pygments_lexer="sed",
            image="sandbox-kernel/base",
            command=("sh", "-c", "printf 'a\\nb\\n' | sed -f {file}"),
        )
    )
    session = await engine.create_session("python")
    assert (await session.execute("s/b/B/", language="sed-script")).stdout == "a\nB\n"
    assert os.environ.get("SANDBOX_KERNEL_BACKEND") is None
