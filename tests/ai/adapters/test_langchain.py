"""With the real library, and a model that the test scripts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sandbox_kernel.ai.adapters import langchain_tool
from sandbox_kernel.ai.tool import CodeExecutionTool
from sandbox_kernel.errors import ExtraMissing
from tests.support.agents import PNG, SHOW_PIXEL, local_tool, tool_texts
from tests.support.model_server import ModelServer, call, calls, model_server, says

pytest.importorskip("langchain_core", reason="the extra langchain")

__all__ = ["local_tool", "model_server"]


def agent(server: ModelServer, tool: Any) -> Any:
    agents = pytest.importorskip("langchain.agents")
    models = pytest.importorskip("langchain_openai")
    model = models.ChatOpenAI(model=server.model, base_url=server.base_url, api_key=server.key)
    return agents.create_agent(model, tools=[tool])


async def ask(made: Any, prompt: str) -> Any:
    return (await made.ainvoke({"messages": [{"role": "user", "content": prompt}]}))["messages"]


async def test_an_agent_runs_code_and_variables_live_on(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    model_server.script(
        calls(call("execute_code", language="python", code="x = 6")),
        calls(call("execute_code", language="python", code="print('six by seven', x * 7)")),
        says("It is 42."),
    )
    messages = await ask(agent(model_server, langchain_tool(local_tool)), "Six by seven?")
    assert messages[-1].content == "It is 42."
    assert model_server.requests[0].tools == ["execute_code"]
    assert "six by seven 42" in tool_texts(model_server.requests[2].messages)[1]
    assert "untrusted code: data" in tool_texts(model_server.requests[2].messages)[1]


async def test_the_program_finds_pictures_and_files_in_the_artifact(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    code = f"open('f', 'w').write('x'){SHOW_PIXEL}"
    model_server.script(calls(call("execute_code", code=code)), says("A dot."))
    messages = await ask(agent(model_server, langchain_tool(local_tool)), "Draw")
    artifact = next(item.artifact for item in messages if item.type == "tool")
    assert artifact["images"] == [{"mime": "image/png", "base64": PNG}]
    assert artifact["files"] == [{"name": "f", "size": 1}]
    assert PNG not in str(model_server.requests[1].messages)


async def test_pictures_reach_models_that_take_them(local_tool: CodeExecutionTool):
    tool = langchain_tool(local_tool, show_images=True)
    message = await tool.ainvoke(
        {"type": "tool_call", "id": "1", "name": tool.name, "args": {"code": SHOW_PIXEL}}
    )
    assert [block["type"] for block in message.content_blocks] == ["text", "image"]
    assert message.content_blocks[1]["base64"] == PNG


INVALID = ['{"code": 1}', '{"oops": "1"}', "{}", '{"config": {}, "run_manager": 1, "code": "1"}']


async def test_an_invalid_call_is_answered_so_that_the_model_can_correct_it(
    local_tool: CodeExecutionTool, model_server: ModelServer
):
    for arguments in INVALID:
        model_server.script(
            calls(call("execute_code", arguments)),
            calls(call("execute_code", code="print('bet' + 'ter')")),
            says("done"),
        )
        messages = await ask(agent(model_server, langchain_tool(local_tool)), "Go")
        assert messages[-1].content == "done"
        assert "better" in tool_texts(model_server.requests[-1].messages)[1]


async def test_a_call_without_a_loop_is_told_to_use_ainvoke(local_tool: CodeExecutionTool):
    with pytest.raises(NotImplementedError, match="ainvoke"):
        langchain_tool(local_tool).invoke({"code": "1"})


async def test_without_the_library_the_extra_is_named(
    local_tool: CodeExecutionTool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "langchain_core.tools", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'sandbox-kernel\[langchain\]'"):
        langchain_tool(local_tool)
