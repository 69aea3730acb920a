"""The tool for LangChain and LangGraph.

agent = create_agent(model, tools=[langchain_tool(session)])
await agent.ainvoke(...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_kernel.ai.adapters.source import tool_of
from sandbox_kernel.ai.extras import missing

if TYPE_CHECKING:
    from langchain_core.tools import StructuredTool

    from sandbox_kernel.ai.tool import CodeExecutionTool
    from sandbox_kernel.engine import Session


def langchain_tool(
    source: Session | CodeExecutionTool, *, show_images: bool = False, **options: Any
) -> StructuredTool:
    """A tool for agents that are run by `ainvoke` or `astream`.

    `ToolMessage.artifact` has the plain data of `ToolOutcome.summary()`, pictures included.

    Args:
        source: a session, or what `code_execution_tool` made.
        show_images: put pictures into the message for the model. The chat completions of
            OpenAI refuse those in tool messages; its Responses and other providers take them.
        options: of `code_execution_tool`, for a session.

    Raises:
        ExtraMissing: LangChain is not installed.
    """
    try:
        from langchain_core.tools import StructuredTool
    except ImportError as error:
        raise missing("The tool for LangChain", "langchain", error) from None
    inner = tool_of(source, options)

    async def execute(**call: Any) -> tuple[str | list[Any], dict[str, Any]]:
        outcome = await inner.run(call)
        images = [{"mime": image.mime, "base64": image.base64} for image in outcome.images]
        artifact = {**outcome.summary(), "images": images}
        if not (images and show_images):
            return outcome.text, artifact
        blocks = [
            {"type": "image", "base64": image.base64, "mime_type": image.mime}
            for image in outcome.images
        ]
        return [{"type": "text", "text": outcome.text}, *blocks], artifact

    def refuse(**_call: Any) -> Any:
        raise NotImplementedError(
            "Sandboxes belong to an event loop: run the agent by ainvoke or astream, in the loop "
            "that made the session."
        )

    return StructuredTool(
        name=inner.name,
        description=inner.description,
        args_schema=inner.parameters,
        func=refuse,
        coroutine=execute,
        response_format="content_and_artifact",
    )
