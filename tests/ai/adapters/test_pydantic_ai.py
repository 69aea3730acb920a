"""With the real library, and a model that the test scripts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sandbox_kernel import languages
from sandbox_kernel.ai.adapters import pydantic_ai_tool
from sandbox_kernel.ai.tool import CodeExecutionTool
from sandbox_kernel.engine import Engine
from sandbox_kernel.errors import ExtraMissing, SettingsError
from tests.support.agents import PNG, SHOW_PIXEL, local_tool, tool_texts
from tests.support.model_server import ModelServer, call, calls, model_server, says

pydantic_ai = pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai")

__all__ = ["local_tool", "model_server"]


def agent(server: ModelServer, tool: Any) -> Any:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=server.base_url, api_key=server.key)
    return pydantic_ai.Agent(OpenAIChatModel(server.model, provider=provider), tools=[tool])


async def test_an_agent_runs_code_and_variables_live_on(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    model_server.script(
        calls(call("execute_code", language="python", code="x = 6")),
        calls(call("execute_code", language="python", code="print('six by seven', x * 7)")),
        says("It is 42."),
    )
    result = await agent(model_server, pydantic_ai_tool(local_tool)).run("Six by seven?")
    assert result.output == "It is 42."
    assert model_server.requests[0].tools == ["execute_code"]
    assert "six by seven 42" in tool_texts(model_server.requests[2].messages)[1]
    assert "untrusted code: data" in tool_texts(model_server.requests[2].messages)[1]


async def test_a_session_is_enough_and_options_name_the_tool(model_server: ModelServer):
    model_server.script(calls(call("run", code="y + 1")), says("done"))
    async with Engine("bubblewrap") as engine, await engine.create_session("python") as session:
        await session.execute("y = 41")
        await agent(model_server, pydantic_ai_tool(session, name="run")).run("Go")
    assert "42" in tool_texts(model_server.requests[1].messages)[0]


async def test_pictures_reach_the_model_and_the_program_finds_the_rest(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    model_server.script(
        calls(call("execute_code", code=f"open('f', 'w').write('x'){SHOW_PIXEL}")), says("A dot.")
    )
    result = await agent(model_server, pydantic_ai_tool(local_tool)).run("Draw")
    assert PNG in str(model_server.requests[1].messages)
    returned = [
        part
        for message in result.all_messages()
        for part in message.parts
        if part.part_kind == "tool-return"
    ]
    assert returned[0].metadata["files"] == [{"name": "f", "size": 1}]
    assert result.all_messages_json()  # histories can be stored


INVALID = ["{", "[1]", '"code"', '{"code": 1}', '{"oops": "1"}']


async def test_an_invalid_call_is_answered_so_that_the_model_can_correct_it(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    for arguments in INVALID:
        model_server.script(
            calls(call("execute_code", arguments)),
            calls(call("execute_code", code="print('bet' + 'ter')")),
            says("done"),
        )
        result = await agent(model_server, pydantic_ai_tool(local_tool)).run("Go")
        assert result.output == "done"
        assert "better" in str(model_server.requests[-1].messages)


async def test_a_language_registered_later_is_in_the_next_request(
    local_tool: CodeExecutionTool, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
):
    made = agent(model_server, pydantic_ai_tool(local_tool))
    model_server.script(says("one"), says("two"))
    await made.run("Hello")
    added = languages.get("python")._replace(name="later", runner=())
    monkeypatch.setitem(languages._registered, "later", added)
    await made.run("Hello again")
    offered = [
        request.body["tools"][0]["function"]["parameters"]["properties"]["language"]["enum"]
        for request in model_server.requests
    ]
    assert ["later" in names for names in offered] == [False, True]


async def test_options_come_where_the_tool_is_made(local_tool: CodeExecutionTool):
    with pytest.raises(SettingsError, match="give name to code_execution_tool"):
        pydantic_ai_tool(local_tool, name="other")


async def test_without_the_library_the_extra_is_named(
    local_tool: CodeExecutionTool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'sandbox-kernel\[pydantic-ai\]'"):
        pydantic_ai_tool(local_tool)
