"""An agent and a person in one session: `attach_notebook`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_kernel.sharing.listing import SharedSession, list_shared
from tests.support.kernels import Kernel
from tests.support.mcp_servers import over_stdio, text_of
from tests.support.waiting import until


async def test_an_agent_shares_the_variables_of_a_notebook_and_leaves_it_as_it_is(
    start_kernel: Callable[..., Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    notebook = start_kernel(env={"XDG_RUNTIME_DIR": str(runtime)})
    assert notebook.run("x = 41").status == "ok"
    shared = await session_of(notebook)
    async with over_stdio(XDG_RUNTIME_DIR=str(runtime)) as client:
        attached = await client.call_tool("attach_notebook", {"id": shared.id})
        assert not attached.is_error, text_of(attached)
        session = attached.structured_content["session"]
        code = {"code": "y = x + 1\ny", "session": session}
        assert (await client.call_tool("run_code", code)).structured_content["value"] == "42"
        own = await client.call_tool("run_code", {"code": "'x' in globals()"})
        assert own.structured_content["value"] == "False"
    assert notebook.run("y").result["text/plain"] == "42"


async def session_of(notebook: Kernel) -> SharedSession:
    def look() -> list[SharedSession]:
        return [one for one in asyncio.run(list_shared()) if one.pid == notebook.pid]

    return (await asyncio.to_thread(until, look, "the notebook's session"))[0]
