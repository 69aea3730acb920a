"""The tool for the OpenAI Agents SDK.

agent = Agent(name="analyst", tools=[openai_agents_tool(session)])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_kernel.ai.adapters.source import tool_of
from sandbox_kernel.ai.extras import missing

if TYPE_CHECKING:
    from agents import FunctionTool

    from sandbox_kernel.ai.tool import CodeExecutionTool
    from sandbox_kernel.engine import Session


def openai_agents_tool(source: Session | CodeExecutionTool, **options: Any) -> FunctionTool:
    """A tool for `Agent(tools=[…])`. Pictures go along, for models that see.

    Args:
        source: a session, or what `code_execution_tool` made.
        options: of `code_execution_tool`, for a session.

    Raises:
        ExtraMissing: the SDK is not installed.
    """
    try:
        from agents import FunctionTool, ToolOutputImage, ToolOutputText
    except ImportError as error:
        raise missing("The tool for the OpenAI Agents SDK", "openai-agents", error) from None
    inner = tool_of(source, options)

    async def execute(_context: Any, call: str) -> Any:
        outcome = await inner.run(call)
        if not outcome.images:
            return outcome.text
        pictures = [
            ToolOutputImage(image_url=f"data:{image.mime};base64,{image.base64}")
            for image in outcome.images
        ]
        return [ToolOutputText(text=outcome.text), *pictures]

    return FunctionTool(
        name=inner.name,
        description=inner.description,
        params_json_schema=inner.parameters,
        on_invoke_tool=execute,
        strict_json_schema=True,
    )
