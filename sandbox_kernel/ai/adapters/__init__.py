"""The code execution tool, as agent libraries take it: a file and a function a library.

    async with code_execution_tool() as tool:
        agent = pydantic_ai.Agent(model, tools=[pydantic_ai_tool(tool)])

Rule 1: a library is imported when its function is called, and its absence names the extra.
Rule 2: what a model reads is `ToolOutcome.text` and `.images`. Nothing else of a result gets
to it; the program finds it where its library keeps such things.
Rule 3: the arguments are checked by the tool, whatever the library checks before.

To add a library: a file here, an extra, and a test with the real library and a scripted model.
"""

from __future__ import annotations

from sandbox_kernel.ai.adapters.langchain import langchain_tool
from sandbox_kernel.ai.adapters.openai_agents import openai_agents_tool
from sandbox_kernel.ai.adapters.pydantic_ai import pydantic_ai_tool

__all__ = ["langchain_tool", "openai_agents_tool", "pydantic_ai_tool"]
