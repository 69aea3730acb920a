from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_kernel import languages
from sandbox_kernel.ai import code_execution_tool
from sandbox_kernel.ai.tool import CodeExecutionTool, ToolOutcome
from sandbox_kernel.backends.docker.backend import DockerBackend
from sandbox_kernel.backends.docker.engine import Engine as DockerEngine
from sandbox_kernel.engine import Engine
from sandbox_kernel.errors import BackendUnavailable, SessionClosed, SettingsError
from sandbox_kernel.languages import Language
from sandbox_kernel.limits import Limits
from tests.support.agents import PNG, SHOW_PIXEL, engine, local_tool, tool, until_written
from tests.support.sessions import backend
from tests.support.waiting import DEADLINE_S

__all__ = ["backend", "engine", "local_tool", "tool"]


@pytest.fixture
def forget_registered() -> Iterator[None]:
    """Languages that a test registers are gone afterwards."""
    before = dict(languages._registered)
    yield
    languages._registered.clear()
    languages._registered.update(before)


# --- on every backend -------------------------------------------------------------------


async def test_a_model_runs_code_and_reads_what_it_did(tool: CodeExecutionTool):
    call = {"language": "python", "code": "open('a.txt', 'w').write('x'); print('hi'); 6 * 7"}
    outcome = await tool.run(json.dumps(call))
    assert "hi" in outcome.text
    assert "42" in outcome.text
    assert [file.name for file in outcome.files] == ["a.txt"]
    assert not outcome.is_error
    assert outcome.result is not None
    assert outcome.result.text == "42"


async def test_variables_files_and_pictures(tool: CodeExecutionTool):
    await tool(code="x = 20", files={"in/data.txt": "ten\n"})
    outcome = await tool(code=f"print(open('in/data.txt').read(), x + 1){SHOW_PIXEL}")
    assert "ten\n 21" in outcome.text
    assert [image.mime for image in outcome.images] == ["image/png"]
    assert outcome.images[0].base64 == PNG


async def test_code_that_fails_is_told_with_its_traceback(tool: CodeExecutionTool):
    outcome = await tool(code="def f():\n    return 1 / 0\nf()")
    assert outcome.is_error
    assert "ZeroDivisionError: division by zero" in outcome.text
    assert "return 1 / 0" in outcome.text
    assert "\x1b" not in outcome.text
    assert not (await tool(code="1")).is_error


async def test_the_rest_of_long_output_is_in_a_file_that_code_can_read(tool: CodeExecutionTool):
    outcome = await tool(code="for n in range(30000): print('line', n)")
    found = re.search(r"output-\w+\.txt", outcome.text)
    assert found is not None
    assert len(outcome.text) <= tool.max_output_chars
    read = await tool(code=f"print(open({found[0]!r}).read().splitlines()[15001])")
    assert "line 15000" in read.text
    assert read.files == []


# --- how a call runs --------------------------------------------------------------------


async def test_stdin_answers_prompts(local_tool: CodeExecutionTool):
    outcome = await local_tool(code="print('hello ' + input('name? '))", stdin="ann\n")
    assert "hello ann" in outcome.text


async def test_a_timeout_ends_the_code_and_keeps_the_variables(local_tool: CodeExecutionTool):
    await local_tool(code="x = 5")
    outcome = await local_tool(code="while True: pass", timeout_s=0.5)
    assert outcome.is_error
    assert "limit of 0.5 s" in outcome.text
    assert "5" in (await local_tool(code="x")).text


async def test_a_cancelled_call_stops_the_code(local_tool: CodeExecutionTool):
    await local_tool(code="1")
    running = asyncio.create_task(local_tool(code="open('on', 'w')\nwhile True: pass"))
    session = await local_tool.session()
    await until_written(session, "on")
    running.cancel()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(asyncio.CancelledError):
            await running
        assert "2" in (await local_tool(code="1 + 1")).text


async def test_calls_at_once_take_their_turns_in_one_session(local_tool: CodeExecutionTool):
    outcomes = await asyncio.gather(*(local_tool(code=f"print('n', {n})") for n in range(5)))
    assert [f"n {n}" in outcome.text for n, outcome in enumerate(outcomes)] == [True] * 5
    session = await local_tool.session()
    assert session.info().runs == 5


@pytest.mark.parametrize(
    "call", ["", "[]", '{"code": 1}', '{"code": "1", "language": "cobol"}', '{"code": "1", "x": 1}']
)
async def test_an_invalid_call_is_answered_and_makes_no_session(
    local_tool: CodeExecutionTool, call: str
):
    outcome = await local_tool.run(call)
    assert outcome == ToolOutcome(outcome.text, [], [], None, is_error=True)
    assert outcome.text.endswith(".")
    assert local_tool._own == {}


async def test_a_refused_package_is_told_to_the_model(local_tool: CodeExecutionTool):
    outcome = await local_tool(code="1", dependencies=["--index-url=http://evil"])
    assert outcome.is_error
    assert outcome.result is None
    assert "cannot be installed" in outcome.text


async def test_no_sandbox_at_all_is_the_programs_problem():
    engine = Engine("bubblewrap")

    async def unavailable(*_args: Any, **_options: Any) -> Any:
        raise BackendUnavailable("Nothing isolates here.")

    engine.create_session = unavailable  # type: ignore[method-assign]
    tool = code_execution_tool(engine=engine)
    with pytest.raises(BackendUnavailable):
        await tool(code="1")


async def test_an_engine_that_is_not_there_is_the_programs_problem(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/none.sock")
    # One of its own: this process may have found an engine before.
    async with Engine(DockerBackend(DockerEngine())) as engine:
        with pytest.raises(BackendUnavailable, match="There is no engine at unix://"):
            await code_execution_tool(engine=engine)(code="1", language="python")


# --- whose session ----------------------------------------------------------------------


async def test_two_tools_never_share_a_session():
    async with (
        Engine("bubblewrap") as engine,
        code_execution_tool(engine=engine) as one,
        code_execution_tool(engine=engine) as two,
    ):
        await one(code="secret = 'swordfish'; open('s.txt', 'w').write(secret)")
        outcome = await two(code="import os; print(os.listdir('.')); secret")
        assert "swordfish" not in outcome.text
        assert "s.txt" not in outcome.text
        assert "NameError" in outcome.text
        assert (await one.session()).id != (await two.session()).id


async def test_a_given_session_is_shared_and_left_open():
    async with Engine("bubblewrap") as engine, await engine.create_session("python") as session:
        await session.execute("x = 41")
        async with code_execution_tool(session) as tool:
            assert "42" in (await tool(code="x + 1")).text
        assert (await session.execute("x")).text == "41"
        await session.close()
        outcome = await code_execution_tool(session)(code="1")
        assert outcome.is_error
        assert "closed" in outcome.text


async def test_closing_leaves_no_session_and_a_closed_tool_says_so():
    async with Engine("bubblewrap") as engine:
        async with code_execution_tool(engine=engine) as tool:
            await tool(code="1")
            assert len(engine.sessions()) == 1
        assert engine.sessions() == []
        await tool.close()
        assert "closed" in (await tool(code="1")).text
        assert engine.sessions() == []
        with pytest.raises(SessionClosed):
            await tool.session()


async def test_a_tool_alone_makes_its_engine_and_closes_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SANDBOX_KERNEL_BACKEND", "bubblewrap")
    async with code_execution_tool() as tool:
        assert "2" in (await tool(code="1 + 1")).text
        engine = tool._own_engine
    assert engine is not None
    with pytest.raises(SessionClosed):
        await engine.create_session("python")


async def test_a_session_that_ended_for_its_age_is_replaced_and_the_model_is_told(
    local_tool: CodeExecutionTool,
):
    await local_tool(code="x = 5")
    await (await local_tool.session()).close()
    outcome = await local_tool(code="x")
    assert outcome.text.startswith("The session had ended")
    assert "NameError" in outcome.text
    assert not (await local_tool(code="1")).text.startswith("The session had ended")


@pytest.mark.parametrize("strategy", ["per_session", "per_execution", "pool"])
@pytest.mark.parametrize("workspace", ["shared", "isolated"])
async def test_strategies_and_workspaces_are_the_engines(strategy: str, workspace: str):
    options: dict[str, Any] = {"pool_size": 1} if strategy == "pool" else {}
    async with (
        Engine("bubblewrap") as engine,
        code_execution_tool(
            engine=engine, strategy=strategy, workspace=workspace, **options
        ) as tool,
    ):
        await tool(code="x = 1; open('f.txt', 'w').write('kept')")
        lives = not (await tool(code="x")).is_error
        stays = not (await tool(code="open('f.txt').read()")).is_error
        assert (lives, stays) == (strategy == "per_session", workspace == "shared")
        long = await tool(code="print('y' * 99999)")
        assert ("output-" in long.text) == stays
        listed = await tool(code="import os; print(os.listdir('.'))")
        assert ("output-" in listed.text) == stays
        said = tool.description
        assert ("files of earlier calls" not in said and "files do not" not in said) == stays
        assert ("ariables live on" in said or "ariables and files live on" in said) == lives


# --- what a call may not widen ----------------------------------------------------------


async def test_a_call_gets_no_more_time_than_the_owner_gave():
    async with Engine("bubblewrap") as engine:
        short = await engine.create_session("python", limits=Limits(timeout_s=40))
        for tool in (
            code_execution_tool(short),
            code_execution_tool(engine=engine, limits=Limits(timeout_s=40)),
            code_execution_tool(engine=engine, max_timeout_s=40),
        ):
            assert "may run 40 seconds" in (await tool(code="1", timeout_s=41)).text
            assert not (await tool(code="1", timeout_s=40)).is_error
            await tool.close()


async def test_without_packages_a_call_cannot_ask_for_them():
    async with code_execution_tool(dependency_policy="none", language="python") as tool:
        assert "dependencies" not in tool.parameters["properties"]
        assert "not offered" in (await tool(code="1", dependencies=["six"])).text


async def test_what_is_no_session_of_an_engine_or_has_options_is_refused():
    async with Engine("bubblewrap") as engine, await engine.create_session("python") as session:
        with pytest.raises(SettingsError, match="give limits, workspace where it is created"):
            code_execution_tool(session, limits=Limits(), workspace="shared")
    with pytest.raises(SettingsError, match=r"is a builtins\.str"):
        code_execution_tool("0123")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": 5}, r"The engine is a builtins\.int"),
        ({"name": "run it"}, "'run it'"),
        ({"name": ""}, "1 to 64 letters"),
        ({"max_output_chars": "9"}, "max_output_chars is '9'"),
        ({"max_timeout_s": 0}, "max_timeout_s is 0"),
    ],
)
def test_what_cannot_be_is_refused_when_the_tool_is_made(options: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words):
        code_execution_tool(**options)


# --- languages --------------------------------------------------------------------------


def test_the_schema_is_a_function_as_chat_completions_take_it():
    tool = code_execution_tool(languages=["bash"], name="run", description="Runs.")
    function = tool.schema["function"]
    assert tool.schema["type"] == "function"
    assert (function["name"], function["description"], function["strict"]) == ("run", "Runs.", True)
    assert function["parameters"]["properties"]["language"]["enum"] == ["python", "bash"]
    json.dumps(tool.schema)


def test_one_language_is_one_and_not_its_letters():
    tool = code_execution_tool(languages="bash")
    assert tool.parameters["properties"]["language"]["enum"] == ["python", "bash"]


def test_an_unknown_language_is_the_owners_mistake():
    with pytest.raises(SettingsError, match="There is no language 'cobol'"):
        code_execution_tool(languages=["cobol"])


async def test_other_languages_share_the_files(local_tool: CodeExecutionTool):
    await local_tool(code="open('n.txt', 'w').write('7')")
    assert "7 and 8" in (await local_tool(language="sh", code='echo "$(cat n.txt) and 8"')).text


@pytest.mark.usefixtures("forget_registered")
async def test_a_language_registered_later_is_in_the_tool_at_once(local_tool: CodeExecutionTool):
    """The seed's Ruby example, with a language that nobody has."""
    call = {"language": "upper", "code": "print('loud')"}
    assert "cannot run here" in (await local_tool.run(call)).text
    assert "upper" not in local_tool.parameters["properties"]["language"]["enum"]
    languages.register(
        Language(
            name="upper",
            display_name="Upper",
            file_extension=".up",
            mimetype="text/x-upper",
            codemirror_mode="text",
            pygments_lexer="text",
            image="example/upper",
            command=("python3", "{file}"),
        )
    )
    assert "upper" in local_tool.parameters["properties"]["language"]["enum"]
    assert "loud" in (await local_tool.run(call)).text


async def test_with_images_each_language_has_a_sandbox_of_its_own():
    from tests.support import docker_engine

    docker_engine.require()
    for image in ("python", "shell"):
        docker_engine.require_image(f"sandbox-kernel/{image}")
    async with (
        Engine("docker") as engine,
        code_execution_tool(engine=engine, languages=["python", "bash"]) as tool,
    ):
        assert "Each language has a sandbox of its own." in tool.description
        assert "42" in (await tool(language="python", code="6 * 7")).text
        assert "is bash" in (await tool(language="bash", code="echo is bash")).text
        assert [one.language for one in engine.sessions()] == ["python", "bash"]


async def test_a_summary_is_plain_data(local_tool: CodeExecutionTool):
    outcome = await local_tool(code="open('a', 'w').write('x'); 1 / 0")
    summary = json.loads(json.dumps(outcome.summary()))
    assert summary["error"] == "ZeroDivisionError: division by zero"
    assert summary["files"] == [{"name": "a", "size": 1}]
    assert (summary["exit_code"], summary["is_error"]) == (1, True)
