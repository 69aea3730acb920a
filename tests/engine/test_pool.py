"""The pool on real sandboxes: quick, unused, never twice, and gone when it is closed."""

import asyncio
import gc
import json
import os
import signal
import threading
import time

import psutil
import pytest

from sandbox_kernel import backends, languages
from sandbox_kernel.availability import find_problem
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.engine import pool as pool_module
from sandbox_kernel.engine import traffic as traffic_module
from sandbox_kernel.engine.pool import Pool
from sandbox_kernel.engine.pools import Pools
from sandbox_kernel.engine.traffic import MAX_DOOMED, Traffic
from sandbox_kernel.errors import BackendUnavailable, SessionClosed, SettingsError
from sandbox_kernel.events import TextWritten
from sandbox_kernel.session import SandboxSession, State
from tests.support import docker_engine
from tests.support.waiting import DEADLINE_S


@pytest.fixture(autouse=True)
def slow_members(monkeypatch):
    """What lives may take its time to answer, on a machine that stands still for a second."""
    monkeypatch.setattr(pool_module, "ANSWER_TIMEOUT_S", DEADLINE_S)


@pytest.fixture
async def world(backend):
    """Makes pools on one backend; closes them and what was claimed, and looks for leftovers."""
    made = World(backend)
    yield made
    await made.close()
    if backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())
    else:
        assert [pid for pid in made.launchers if psutil.pid_exists(pid)] == []


@pytest.fixture
async def here():
    """As `world`, for what is decided without a backend's help."""
    if (problem := backends.get("bubblewrap").check()).reason and not problem.is_usable:
        pytest.skip(problem.reason)
    made = World("bubblewrap")
    yield made
    await made.close()


class World:
    def __init__(self, backend):
        self.backend = backend
        self.pools = []
        self.claimed = []
        self.launchers = []

    def session(self, language="python", **options):
        spec = SandboxSpec(language=language, shows_layers=False, **options)
        return SandboxSession(backends.get(self.backend), spec)

    def pool(self, size, *, language="python", **options):
        pool = Pool(lambda: self.session(language), size=size, **options)
        self.pools.append(pool)
        return pool

    async def full(self, size, **options):
        pool = self.pool(size, **options)
        await pool.wait_until_full(DEADLINE_S)
        return pool

    async def claim(self, pool):
        session = await pool.claim()
        self.claimed.append(session)
        if self.backend == "bubblewrap":
            self.launchers.append(session._guest.sandbox.launcher_pid)
        return session

    async def close(self):
        for session in self.claimed:
            await session.close()
        for pool in self.pools:
            await pool.close()

    def root(self, session):
        """The process of the host whose descendants are all that runs in the sandbox."""
        sandbox = session._guest.sandbox
        if self.backend == "bubblewrap":
            return psutil.Process(sandbox.launcher_pid)
        state = docker_engine.inspect(sandbox.container_id)["State"]
        return psutil.Process(state["Pid"])

    async def kill(self, session):
        """As somebody outside would, until it is dead."""
        runner = self.runner(session)
        if self.backend == "docker":
            docker_engine.api().kill(session._guest.sandbox.container_id)
        else:
            os.kill(self.root(session).pid, signal.SIGKILL)
        gone, _ = psutil.wait_procs([runner], DEADLINE_S)  # and our event loop sees nothing of it
        assert gone

    def runner(self, session):
        [found] = [
            process
            for process in self.root(session).children(recursive=True)
            if "runners/python" in " ".join(process.cmdline())
        ]
        return found


async def run(session, code, **options):
    """What it printed; an error fails the test."""
    shown = []
    outcome = await session.execute(code, on_event=shown.append, execution_count=1, **options)
    assert outcome.error is None, outcome.error
    return "".join(event.text for event in shown if isinstance(event, TextWritten))


async def until(condition, what):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - state of several objects
            await asyncio.sleep(0.01)
    assert condition(), what


def members(pool):
    return [member.session for member in pool._idle]


# --- claiming -------------------------------------------------------------------------------


async def test_what_is_ready_is_handed_out_once_and_replaced(world):
    pool = await world.full(2)
    waiting = {session.sandbox_id for session in members(pool)}
    first, second = await world.claim(pool), await world.claim(pool)
    assert {first.sandbox_id, second.sandbox_id} == waiting
    assert await run(first, "print(6*7)") == "42\n"
    await pool.destroy(first)
    await pool.wait_until_full(DEADLINE_S)
    assert not waiting & {session.sandbox_id for session in members(pool)}
    assert pool.ready == 2


async def test_more_claims_than_members_at_once_get_a_sandbox_each(world):
    pool = await world.full(1)
    sessions = await asyncio.gather(*(world.claim(pool) for _ in range(3)))
    assert len({session.sandbox_id for session in sessions}) == 3
    assert all(session.state is State.IDLE for session in sessions)


async def test_a_crowd_is_served_a_few_at_a_time(here, monkeypatch):
    monkeypatch.setattr(pool_module, "MOST_MADE_AT_ONCE", 2)
    pool = here.pool(0)
    claims = [asyncio.ensure_future(here.claim(pool)) for _ in range(5)]
    most = 0
    while not all(claim.done() for claim in claims):
        await asyncio.wait(claims, timeout=0.02)
        most = max(most, len(pool._making))
    assert most == 2
    assert len({claim.result().sandbox_id for claim in claims}) == 5


async def test_a_crowd_is_told_of_a_failure_each(here):
    pool = here.pool(0, preload=("no_such_module",))
    told = await asyncio.gather(*(pool.claim() for _ in range(6)), return_exceptions=True)
    assert [type(error) for error in told] == [SettingsError] * 6


async def test_a_pool_of_none_makes_what_is_claimed(here):
    session = await here.claim(here.pool(0))
    assert await run(session, "print(1)") == "1\n"


async def test_what_one_run_leaves_the_next_does_not_find(world):
    pool = await world.full(1)
    code = "import builtins, os; print(hasattr(builtins, 'spy'), os.listdir('.'))"
    spoil = "import builtins; builtins.spy = 1; open('mine', 'w').close()"
    for _ in range(2):
        session = await world.claim(pool)
        assert await run(session, code) == "False []\n"
        await run(session, spoil)
        assert await run(session, code) == "True ['mine']\n"
        await pool.destroy(session)


async def test_a_claim_that_is_cancelled_leaves_its_sandbox_to_the_pool(here):
    pool = here.pool(1)
    pool.start()
    claim = asyncio.ensure_future(pool.claim())
    await until(lambda: pool._waiting, "the claim to wait")
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    await pool.wait_until_full(DEADLINE_S)
    assert await run(await here.claim(pool), "print(1)") == "1\n"


async def test_a_claim_takes_what_is_on_its_way_for_the_pool(here):
    """One sandbox more would take as long, and slow down both."""
    pool = here.pool(1)
    pool.start()
    await until(lambda: pool._making, "the refill to begin")
    await here.claim(pool)
    assert len(pool._making) <= 1


# --- members that died ----------------------------------------------------------------------


async def test_members_that_were_killed_are_passed_over(world):
    """At once: before anybody has had time to notice."""
    pool = await world.full(2)
    dead, living = members(pool)
    await world.kill(dead)
    session = await world.claim(pool)
    assert session is living
    assert await run(session, "print(1)") == "1\n"


async def test_when_all_members_were_killed_a_claim_makes_one(world):
    pool = await world.full(2)
    for session in members(pool):
        await world.kill(session)
    assert await run(await world.claim(pool), "print(1)") == "1\n"


async def test_a_member_whose_runner_died_is_passed_over(world):
    """The supervisor starts another one; but what a user would be told is not about them."""
    pool = await world.full(2)
    changed, same = members(pool)
    world.runner(changed).kill()
    assert await world.claim(pool) is same


async def test_a_member_that_answers_nothing_is_passed_over(world, monkeypatch):
    pool = await world.full(2)
    silent, same = members(pool)
    world.runner(silent).suspend()
    monkeypatch.setattr(pool_module, "ANSWER_TIMEOUT_S", 0.3)
    ask = silent.is_complete

    async def ask_in_vain(code):
        monkeypatch.setattr(pool_module, "ANSWER_TIMEOUT_S", DEADLINE_S)  # for who comes next
        return await ask(code)

    silent.is_complete = ask_in_vain
    assert await world.claim(pool) is same


async def test_dead_and_old_members_are_replaced_while_nobody_claims(world, monkeypatch):
    monkeypatch.setattr(pool_module, "_LOOK_S", 0.05)
    pool = await world.full(1)
    [dead] = members(pool)
    dead._guest.sandbox.kill()
    await until(lambda: pool.ready and members(pool) != [dead], "a living member")
    [old] = members(pool)
    pool._max_age_s = 0.0
    await until(lambda: members(pool) != [old], "a young member")


async def test_a_pool_that_nobody_uses_becomes_empty_and_a_claim_fills_it(here, monkeypatch):
    monkeypatch.setattr(pool_module, "_LOOK_S", 0.05)
    pool = await here.full(1)
    monkeypatch.setattr(pool_module, "UNUSED_S", 0.0)
    await until(lambda: pool.ready == 0, "the pool to be empty")
    monkeypatch.setattr(pool_module, "UNUSED_S", 3600.0)
    await here.claim(pool)
    await pool.wait_until_full(DEADLINE_S)


# --- what a user finds ----------------------------------------------------------------------

# Everything that a cell can see of cells before it, but for modules that were imported.
TRACES = """
import gc, json, linecache, os, sys, threading, warnings
shell = get_ipython()
print(json.dumps({
    "names": sorted(shell.user_ns),
    "count": shell.execution_count,
    "In": len(In), "Out": len(Out), "_i": _i, "_": repr(_),
    "dh": list(map(str, _dh)),
    "inputs": [len(shell.history_manager.input_hist_raw)],
    "files": sorted(os.path.join(a, f) for d in (".", "/tmp", os.path.expanduser("~"))
        for a, _d, fs in os.walk(d) for f in fs
        if "__pycache__" not in a and not a.startswith((sys.prefix, sys.base_prefix))),
    "threads": [t.name for t in threading.enumerate()],
    "argv": sys.argv, "path": sys.path,
    "environ": dict(os.environ),
    "sources": sorted(n.split("-")[0] for n in linecache.cache if n.startswith("<")),
    "last": [hasattr(sys, n) for n in ("last_type", "last_value", "last_exc")],
    "cwd": os.getcwd(), "umask": os.umask(0o22), "children": os.listdir("/proc/self/task"),
    "descriptors": len(os.listdir("/proc/self/fd")),
    "gc": gc.isenabled(),
    "trace": [sys.gettrace() is None, sys.getprofile() is None],
    "main": sorted(vars(sys.modules["__main__"])),
}))
"""


async def traces(session):
    found = json.loads(await run(session, TRACES))
    found["children"] = len(found["children"]) > 0  # our own threads, as after any print
    found["environ"].pop("HOSTNAME", None)
    return found


async def test_warming_up_leaves_no_trace_but_imported_modules(world):
    fresh = world.session()
    world.claimed.append(fresh)
    pooled = await world.claim(await world.full(1, preload=("wave", "xml.dom.minidom")))
    assert await traces(pooled) == await traces(fresh)
    code = "import sys; print('wave' in sys.modules, 'xml.dom.minidom' in sys.modules)"
    assert await run(pooled, code) == "True True\n"
    assert await run(fresh, code) == "False False\n"


async def test_a_user_hears_nothing_of_the_warm_up(here):
    late = []

    def make():
        session = here.session()
        session._on_event = late.append
        return session

    pool = Pool(make, size=1, preload=("this",))  # prints when it is imported
    here.pools.append(pool)
    await pool.wait_until_full(DEADLINE_S)
    assert await run(await here.claim(pool), "print('mine')") == "mine\n"
    assert [type(event).__name__ for event in late] == ["RunnerReady"]


async def test_members_differ_in_everything_that_is_random(world):
    pool = await world.full(2, preload=("random", "uuid"))
    code = (
        "import os, random, secrets, tempfile, uuid\n"
        "for one in (random.random(), random.getrandbits(64), os.urandom(8).hex(), uuid.uuid1(),"
        " uuid.uuid4(), secrets.token_hex(8), hash('text'), tempfile.mktemp(), id(object())): "
        "print(one)"
    )
    first = (await run(await world.claim(pool), code)).splitlines()
    second = (await run(await world.claim(pool), code)).splitlines()
    assert len(first) == len(second) == 9
    assert [a for a, b in zip(first, second, strict=True) if a == b] == []


@pytest.mark.parametrize("language", ["bash", "javascript"])
async def test_other_languages_are_warmed_up_with_an_empty_cell(language, world):
    if world.backend == "docker":
        docker_engine.require_image(languages.get(language).image)
    elif problem := find_problem(language):
        pytest.skip(problem)
    code = {"bash": "echo $((6*7))", "javascript": "console.log(6*7)"}[language]
    assert await run(await world.claim(await world.full(1, language=language)), code) == "42\n"


# --- preload --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "os; import sys", "a-b", ".a", "a..b", "import", "os.lambda", "'", "a b", "a\n"]
)
def test_what_is_no_name_of_a_module_is_refused(name):
    with pytest.raises(SettingsError, match="no name of a module"):
        Pool(lambda: _bubblewrap(), size=1, preload=(name,))


def test_only_modules_of_python_can_be_imported_beforehand():
    with pytest.raises(SettingsError, match=r"preload names 'fs'.*this is Bash"):
        Pool(lambda: _bubblewrap("bash"), size=1, preload=("fs",))


def _bubblewrap(language="python"):
    return SandboxSession(backends.get("bubblewrap"), SandboxSpec(language=language))


async def test_a_module_that_is_not_there_is_named_to_whoever_waits(here):
    pool = here.pool(1, preload=("no_such_module",))
    with pytest.raises(SettingsError, match=r"no_such_module.*ModuleNotFoundError"):
        await here.claim(pool)
    with pytest.raises(SettingsError, match="no_such_module"):
        await pool.wait_until_full(DEADLINE_S)
    assert pool.ready == 0


# --- failures of the backend ----------------------------------------------------------------


async def test_a_backend_that_fails_is_told_and_tried_again(here):
    is_down = True

    def make():
        if pool is not None and is_down:
            raise BackendUnavailable("The engine restarts.")
        return here.session()

    pool = None
    pool = Pool(make, size=1)
    here.pools.append(pool)
    with pytest.raises(BackendUnavailable, match="The engine restarts"):
        await pool.wait_until_full(DEADLINE_S)
    with pytest.raises(BackendUnavailable, match="The engine restarts"):
        await here.claim(pool)
    is_down = False
    assert await run(await here.claim(pool), "print(1)") == "1\n"
    await until(lambda: pool.is_full, "the pool to be full")
    assert pool.failure is None


async def test_attempts_that_fail_come_ever_more_rarely():
    attempts = []

    def make():
        attempts.append(time.monotonic())
        if len(attempts) > 1:  # the first is asked for its language only
            raise BackendUnavailable("There is no engine.")
        return _bubblewrap()

    pool = Pool(make, size=1)
    pool.start()
    await until(lambda: len(attempts) >= 4, "a few attempts")
    await pool.close()
    first, second, third = attempts[1:4]
    # At least so much: a machine that is busy makes it more.
    assert second - first >= 0.25
    assert third - second >= 0.5


# --- the end --------------------------------------------------------------------------------


async def test_closing_ends_members_makers_and_waiters(world):
    pool = await world.full(1)
    taken = await world.claim(pool)
    waiter = asyncio.ensure_future(pool.claim())
    await until(lambda: pool._waiting, "the claim to wait")
    await pool.close()
    with pytest.raises(SessionClosed):
        await waiter
    with pytest.raises(SessionClosed):
        await pool.claim()
    assert await run(taken, "print(1)") == "1\n"  # it is its claimer's
    assert pool.ready == 0
    await pool.close()


async def test_a_used_sandbox_ends_soon_when_nobody_else_runs(here):
    pool = await here.full(1)
    session = await here.claim(pool)
    async with asyncio.timeout(DEADLINE_S):
        await pool.destroy(session)
    assert session.state is State.CLOSED


# --- several pools --------------------------------------------------------------------------


@pytest.fixture
async def pools(here):
    made = Pools(max_idle=2)
    yield made
    await made.close()


async def test_the_pool_that_was_used_last_gets_what_the_budget_has(pools, here):
    first = pools.open("first", here.session, size=2)
    await first.wait_until_full(DEADLINE_S)
    second = pools.open("second", here.session, size=2)
    await second.wait_until_full(DEADLINE_S)
    assert (first.ready, second.ready, pools.ready) == (0, 2, 2)
    await here.claim(first)
    await first.wait_until_full(DEADLINE_S)
    assert (first.ready, second.ready) == (2, 0)


async def test_users_of_one_key_share_a_pool_and_others_never_do(pools, here):
    first = pools.open("a", here.session, size=1)
    assert pools.open("a", here.session, size=1) is first
    assert pools.open("b", here.session, size=1) is not first


async def test_pools_without_users_and_without_a_share_are_forgotten(pools, here):
    for number in range(4):
        pools.open(number, here.session, size=1)
        pools.release(number)
    assert list(pools._pools) == [2, 3]
    pools.open("used", here.session, size=2)
    assert list(pools._pools) == ["used"]


# --- who goes first -------------------------------------------------------------------------


async def test_a_refill_waits_for_a_run_and_a_long_run_does_not_hold_it_up():
    traffic = Traffic()
    run_of_somebody = _bubblewrap()
    traffic.note_claimed(run_of_somebody)
    refill = asyncio.ensure_future(_enter(traffic))
    await asyncio.sleep(0)
    assert not refill.done()
    async with asyncio.timeout(DEADLINE_S):
        await traffic.destroy(run_of_somebody)
        await refill
    traffic.note_claimed(_bubblewrap())  # and is never closed
    await _enter(traffic)


async def _enter(traffic):
    async with traffic.refill():
        pass


async def test_no_more_used_sandboxes_than_a_few_wait_for_their_end(monkeypatch):
    for name in ("DESTROY_PATIENCE_S", "REFILL_PATIENCE_S"):
        monkeypatch.setattr(traffic_module, name, DEADLINE_S)
    traffic, run_of_somebody = Traffic(), _bubblewrap()
    traffic.note_claimed(run_of_somebody)
    ends = [asyncio.ensure_future(traffic.destroy(_bubblewrap())) for _ in range(MAX_DOOMED + 1)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    assert [end.done() for end in ends] == [False] * MAX_DOOMED + [True]
    await run_of_somebody.close()
    await asyncio.gather(*ends)


# --- a hundred runs -------------------------------------------------------------------------


async def test_a_hundred_runs_leave_no_descriptor_no_thread_and_no_memory(world):
    """In sandboxes of their own a part of them; `bench engine` has a thousand."""
    sandboxes = 10 if world.backend == "bubblewrap" else 4
    pool = await world.full(1)
    for _ in range(2):
        await _runs(pool, 50)
    before = await _used(pool)
    for _ in range(sandboxes):
        await _runs(pool, 100 // sandboxes)
    descriptors, threads, tasks, memory = await _used(pool)
    # An engine's client keeps a few connections open, sometimes one more or less.
    spare = 2 if world.backend == "docker" else 0
    assert descriptors <= before[0] + spare
    assert threads <= before[1]
    assert tasks <= before[2]
    assert memory - before[3] < 4 * 2**20


async def _runs(pool, count):
    session = await pool.claim()
    for _ in range(count):
        assert await run(session, "print('x' * 1000)") == "x" * 1000 + "\n"
    await pool.destroy(session)


async def _used(pool):
    """Once everything is at rest."""
    await pool.wait_until_full(DEADLINE_S)
    await until(lambda: not (pool._closing or pool._refilling or pool._making), "rest")
    gc.collect()
    process = psutil.Process()
    await until(
        lambda: all(t.name not in ("sandbox-end", "sandbox-start") for t in threading.enumerate()),
        "threads of the docker backend",
    )
    return (
        process.num_fds(),
        threading.active_count(),
        len(asyncio.all_tasks()),
        process.memory_info().rss,
    )
