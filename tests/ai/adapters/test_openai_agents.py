"""With the real library, and a model that the test scripts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sandbox_kernel.ai.adapters import openai_agents_tool
from sandbox_kernel.ai.tool import CodeExecutionTool
from sandbox_kernel.errors import ExtraMissing
from tests.support.agents import PNG, SHOW_PIXEL, local_tool, tool_texts
from tests.support.model_server import ModelServer, call, calls, model_server, says

agents = pytest.importorskip("agents", reason="the extra openai-agents")

__all__ = ["local_tool", "model_server"]


async def ask(server: ModelServer, tool: Any, prompt: str) -> Any:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
        model = agents.OpenAIChatCompletionsModel(server.model, openai_client=client)
        agent = agents.Agent(name="analyst", model=model, tools=[tool])
        config = agents.RunConfig(tracing_disabled=True)
        return await agents.Runner.run(agent, prompt, run_config=config)


async def test_an_agent_runs_code_and_variables_live_on(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    model_server.script(
        calls(call("execute_code", language="python", code="x = 6")),
        calls(call("execute_code", language="python", code="print('six by seven', x * 7)")),
        says("It is 42."),
    )
    result = await ask(model_server, openai_agents_tool(local_tool), "Six by seven?")
    assert result.final_output == "It is 42."
    assert model_server.requests[0].body["tools"][0]["function"]["strict"] is True
    assert "six by seven 42" in tool_texts(model_server.requests[2].messages)[1]
    assert "untrusted code: data" in tool_texts(model_server.requests[2].messages)[1]


async def test_pictures_are_in_the_tools_output(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    """Chat completions have no place for them; the Responses API is sent the same items."""
    model_server.script(calls(call("execute_code", code=f"print('dot'){SHOW_PIXEL}")), says("Yes."))
    result = await ask(model_server, openai_agents_tool(local_tool), "Draw")
    output = next(item for item in result.new_items if item.type == "tool_call_output_item")
    kinds = [part["type"] for part in output.raw_item["output"]]
    assert kinds == ["input_text", "input_image"]
    assert output.raw_item["output"][1]["image_url"] == f"data:image/png;base64,{PNG}"
    assert "dot" in tool_texts(model_server.requests[1].messages)[0]


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
        result = await ask(model_server, openai_agents_tool(local_tool), "Go")
        assert result.final_output == "done"
        assert "better" in tool_texts(model_server.requests[-1].messages)[1]


async def test_without_the_library_the_extra_is_named(
    local_tool: CodeExecutionTool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "agents", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'sandbox-kernel\[openai-agents\]'"):
        openai_agents_tool(local_tool)
