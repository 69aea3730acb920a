"""Engines and tools for tests of what models drive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandbox_kernel.ai.tool import CodeExecutionTool, code_execution_tool
from sandbox_kernel.engine import Engine, Session
from tests.support.waiting import DEADLINE_S

# One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
# Backwards, so that only the picture itself looks like it.
SHOW_PIXEL = f"""
import base64
from IPython.display import Image, display
display(Image(base64.b64decode({PNG[::-1]!r}[::-1]), format="png"))
"""


@pytest.fixture
async def engine(backend: str) -> AsyncIterator[Engine]:
    """An engine on the backend under test."""
    async with Engine(backend) as made:
        yield made


@pytest.fixture
async def tool(engine: Engine) -> AsyncIterator[CodeExecutionTool]:
    """A tool with a session of its own."""
    async with code_execution_tool(engine=engine, language="python") as made:
        yield made


@pytest.fixture
async def local_tool() -> AsyncIterator[CodeExecutionTool]:
    """The same on the embedded backend, where the backend is not what is tested."""
    async with Engine("bubblewrap") as engine, code_execution_tool(engine=engine) as made:
        yield made


async def until_written(session: Session, name: str) -> None:
    """Wait until code has made the file `name`."""
    deadline_s = time.monotonic() + DEADLINE_S
    while name not in [entry.name for entry in await session.files.list()]:
        assert time.monotonic() < deadline_s, f"The code still has not made {name!r}."
        await asyncio.sleep(0.02)


def tool_texts(messages: list[dict[str, Any]]) -> list[str]:
    """What a model was sent as results of its calls, by a chat completions client."""
    found = []
    for message in messages:
        if message["role"] == "tool":
            content = message["content"]
            parts = [content] if isinstance(content, str) else [part["text"] for part in content]
            found.append("".join(parts))
    return found
