"""A session from run to run: state, questions, files that go in with a run."""

import asyncio

import pytest

from sandbox_kernel import Limits
from sandbox_kernel.engine import Strategy
from sandbox_kernel.errors import RequestRefused, SettingsError
from tests.support import docker_engine

STRATEGIES = list(Strategy)


@pytest.fixture
async def session(engine):
    return await engine.create_session("python", labels={"user": "ann"})


async def pool_kept_small(engine, strategy, **options):
    return await engine.create_session(strategy=strategy, pool_size=1, **options)


# --- state from run to run --------------------------------------------------------------


@pytest.mark.parametrize("workspace", ["shared", "isolated"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_what_lives_from_run_to_run(engine, strategy, workspace):
    session = await pool_kept_small(engine, strategy, workspace=workspace)
    await session.files.write("given.txt", "given")
    first = await session.execute(
        "mine = 1\nopen('made.txt', 'w').write('made')\nopen('given.txt', 'a').write('!')"
    )
    assert sorted(file.name for file in first.files) == ["given.txt", "made.txt"]
    second = await session.execute(
        "import os; print(sorted(os.listdir()), open('given.txt').read(), 'mine' in globals())"
    )
    is_shared = workspace == "shared"
    names = ["given.txt", "made.txt"] if is_shared else ["given.txt"]
    assert second.stdout == (
        f"{names} {'given!' if is_shared else 'given'} {strategy is Strategy.PER_SESSION}\n"
    )
    assert second.files == []
    # And what runs made is there for the caller, wherever they ran.
    assert await session.files.read("made.txt") == b"made"
    assert await session.files.read("given.txt") == b"given!"
    count = 1 if strategy is Strategy.PER_SESSION else 2
    assert [one.runs for one in session.info().sandboxes] == [2 if count == 1 else 1] * count


async def test_what_a_run_removes_or_hides_is_so_in_the_next_where_they_share(engine):
    session = await engine.create_session(strategy="per_execution", workspace="shared")
    result = await session.execute(
        "import os; os.remove('a'); open('.hidden', 'w').write('h')\n"
        "os.mkdir('__pycache__'); open('__pycache__/x.pyc', 'w').write('c')",
        files={"a": "1", "b": "2"},
    )
    assert result.files == []
    assert (await session.execute("import os; sorted(os.listdir())")).text == (
        "['.hidden', '__pycache__', 'b']"
    )


async def test_runs_of_a_session_whose_sandboxes_live_for_one_run_go_on_at_once(engine):
    session = await engine.create_session(strategy=Strategy.PER_EXECUTION)
    all_run = asyncio.Barrier(3)

    async def meet(_prompt):
        await all_run.wait()  # nobody goes on before everybody is there
        return "met"

    async with asyncio.timeout(60):
        results = await asyncio.gather(*(session.execute("input()", stdin=meet) for _ in range(3)))
    assert [result.text for result in results] == ["'met'"] * 3
    assert len({one.id for one in session.info().sandboxes}) == 3
    assert all(one.ended is not None for one in session.info().sandboxes)


async def test_runs_of_one_sandbox_wait_for_each_other(session):
    code = "import os; assert not os.path.exists('lock'); open('lock', 'w').close()\n"
    code += "import time; time.sleep(0.05); os.remove('lock')"
    results = await asyncio.gather(*(session.execute(code) for _ in range(5)))
    assert all(result.ok for result in results)
    assert session.info().runs == 5


async def test_another_language_shares_the_files_and_has_variables_of_its_own(engine, backend):
    session = await engine.create_session("python")
    await session.execute("x = 1\nopen('a', 'w').write('from python')")
    result = await session.execute("x=5; cat a; echo again > b", language="sh")
    assert (result.stdout, [file.name for file in result.files]) == ("from python", ["b"])
    assert (await session.execute("echo $x", language="bash")).stdout == "5\n"
    assert (await session.execute("x, open('b').read()")).text == "(1, 'again\\n')"
    with pytest.raises(SettingsError, match=r"'cobol'.*python"):
        await session.execute("1", language="cobol")


async def test_a_restart_loses_the_variables_and_keeps_the_files(session):
    await session.execute("x = 1; open('a', 'w').write('1')")
    await session.restart()
    assert (await session.execute("'x' in globals(), open('a').read()")).text == "(False, '1')"


# --- questions --------------------------------------------------------------------------


async def test_completions_and_documentation_know_the_variables(session):
    await session.execute("import math\ndef mine(): 'what it does'")
    found = await session.complete("math.sq")
    assert "sqrt" in " ".join(found["matches"])
    assert (await session.complete("math.sq + 1", 7))["matches"]
    told = await session.inspect("mine")
    assert told["found"]
    assert "what it does" in told["data"]["text/plain"]


async def test_what_needs_a_sandbox_that_stays_is_refused_with_the_remedy(engine):
    session = await engine.create_session(strategy="per_execution", allow_forward=True)
    for ask in (session.complete, session.inspect):
        with pytest.raises(RequestRefused, match="PER_SESSION"):
            await ask("a")
    with pytest.raises(RequestRefused, match="PER_SESSION"):
        session.forward(8000)
    await session.restart()  # every run begins anew as it is


# --- files that go in with a run --------------------------------------------------------


@pytest.mark.parametrize("strategy", [Strategy.PER_SESSION, Strategy.POOL])
async def test_files_are_there_when_the_code_begins(engine, strategy):
    session = await pool_kept_small(engine, strategy)
    result = await session.execute(
        "print(open('a.txt').read(), open('d/e.bin', 'rb').read()); open('a.txt', 'a').write('!')",
        files={"a.txt": "é", "d/e.bin": b"\xff\x00"},
    )
    assert result.stdout == "é b'\\xff\\x00'\n"
    assert [file.name for file in result.files] == ["a.txt"]


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "", "a\0b", "x" * 300])
async def test_a_file_that_leaves_the_workspace_is_refused_and_nothing_runs(session, name):
    with pytest.raises(RequestRefused):
        await session.execute("ran = 1", files={name: b"x"})
    assert (await session.execute("'ran' in globals()")).text == "False"


@pytest.mark.parametrize("files", [{"a": 5}, ["a"], {"a": None}, {"a": "\ud800"}])
async def test_files_that_are_none_are_refused_and_nothing_runs(session, files):
    with pytest.raises(SettingsError, match=r"\b[gG]ive "):
        await session.execute("ran = 1", files=files)
    assert (await session.execute("'ran' in globals()")).text == "False"


async def test_a_strange_name_is_only_a_name(session):
    names = ["a\nb", "-rf", "$(touch x)", "<img onerror=x>", "\u202eb"]
    result = await session.execute(
        "import os; print(sorted(os.listdir()) == sorted(names))".replace("names", repr(names)),
        files=dict.fromkeys(names, "1"),
    )
    assert result.stdout == "True\n"


# --- what it was made with --------------------------------------------------------------


async def test_no_session_sees_anothers_processes_or_files(engine):
    one, other = await asyncio.gather(engine.create_session(), engine.create_session())
    await one.execute("open('secret', 'w').write('1')")
    seen = await other.execute("import os; print(os.listdir(), os.path.exists('secret'))")
    assert seen.stdout == "[] False\n"


async def test_the_environment_and_limits_are_those_of_the_session(engine, backend):
    session = await engine.create_session(
        environment={"MINE": "a b"}, limits=Limits(workspace_bytes=32 * 2**20)
    )
    result = await session.execute("import os; os.environ['MINE']")
    assert result.text == "'a b'"
    result = await session.execute("open('big', 'wb').write(b'x' * 2**26)")
    assert "32 MiB in" in " ".join(result.error.traceback)


async def test_an_image_of_ones_own_is_used(engine, backend):
    if backend != "docker":
        with pytest.raises(SettingsError, match="image"):
            await engine.create_session(image="sandbox-kernel/base")
        return
    docker_engine.require_image("sandbox-kernel/base")
    session = await engine.create_session(image="sandbox-kernel/base")
    assert session.info().image == "sandbox-kernel/base"
    assert (await session.execute("1 + 1")).text == "2"
