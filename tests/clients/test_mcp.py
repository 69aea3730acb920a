"""MCP clients as they are configured: by a command and its words, or a URL and a header."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.support import docker_engine
from tests.support.mcp_servers import environment, http_server

# As it stands in claude_desktop_config.json, .mcp.json, .vscode/mcp.json and the like.
CONFIGURATION = """
{
  "mcpServers": {
    "sandbox": {"command": "sandbox-kernel", "args": ["mcp"]}
  }
}
"""
CHART = """
import matplotlib.pyplot as plt
plt.plot([1, 4, 9])
plt.show()
"""


async def work(session: ClientSession) -> None:
    """What an agent does first: look at the tools, run code, go on with it, draw."""
    await session.initialize()
    tools = {tool.name for tool in (await session.list_tools()).tools}
    assert {"run_code", "run_command", "read_file", "write_file"} <= tools
    await call(session, "run_code", code="total = sum(range(10))")
    assert (await call(session, "run_code", code="total")).structured_content["value"] == "45"
    drawn = await call(session, "run_code", code=CHART)
    assert "image" in {block.type for block in drawn.content}
    await call(session, "write_file", name="a.csv", content="a,b\n1,2\n")
    counted = await call(session, "run_command", command="wc -l < a.csv")
    assert counted.structured_content["stdout"].strip() == "2"


async def call(session: ClientSession, tool: str, /, **arguments: Any) -> Any:
    result = await session.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result


@pytest.mark.parametrize("backend", ["auto", "docker"])
async def test_a_client_that_starts_the_command(backend: str, tmp_path: Path):
    if backend == "docker":
        docker_engine.require()
    entry = json.loads(CONFIGURATION)["mcpServers"]["sandbox"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    parameters = StdioServerParameters(
        command=entry["command"],
        args=[*entry["args"], "--backend", backend],
        env=environment(PATH=path),
        cwd=tmp_path,
    )
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await work(session)
    assert not list(tmp_path.iterdir())


async def test_a_client_that_has_a_url_and_a_header():
    with http_server(SANDBOX_KERNEL_MCP_TOKEN="a-token-of-the-users-own") as server:
        headers = {"Authorization": "Bearer a-token-of-the-users-own"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
            streamable_http_client(server.url, http_client=http) as streams,
            ClientSession(*streams) as session,
        ):
            await work(session)
