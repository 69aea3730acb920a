"""The tool for Pydantic AI.

agent = Agent(model, tools=[pydantic_ai_tool(session)])
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from sandbox_kernel.ai.adapters.source import tool_of
from sandbox_kernel.ai.extras import missing

if TYPE_CHECKING:
    from pydantic_ai import Tool

    from sandbox_kernel.ai.tool import CodeExecutionTool
    from sandbox_kernel.engine import Session


def pydantic_ai_tool(source: Session | CodeExecutionTool, **options: Any) -> Tool[object]:
    """A tool for `Agent(tools=[…])`.

    Pictures go along in the tool's return, for models that see. `ToolReturnPart.metadata` has
    the plain data of `ToolOutcome.summary()`.

    Args:
        source: a session, or what `code_execution_tool` made.
        options: of `code_execution_tool`, for a session.

    Raises:
        ExtraMissing: Pydantic AI is not installed.
    """
    try:
        from pydantic_ai import BinaryContent, Tool, ToolReturn
        from pydantic_core import SchemaValidator, core_schema
    except ImportError as error:
        raise missing("The tool for Pydantic AI", "pydantic-ai", error) from None
    inner = tool_of(source, options)

    async def execute(**call: Any) -> ToolReturn:
        outcome = await inner.run(call)
        pictures = [
            BinaryContent(base64.b64decode(image.base64), media_type=image.mime)
            for image in outcome.images
        ]
        # Within the return: as `content` they would speak with the user's voice.
        value = [outcome.text, *pictures] if pictures else outcome.text
        return ToolReturn(value, metadata=outcome.summary())

    async def prepare(_context: Any, definition: Any) -> Any:
        # Languages may have been registered since the last step.
        definition.parameters_json_schema = inner.parameters
        return definition

    made: Tool[object] = Tool.from_schema(execute, inner.name, inner.description, inner.parameters)
    # What is no object would not even reach us; so the library tells the model.
    made.function_schema.validator = SchemaValidator(
        core_schema.dict_schema(keys_schema=core_schema.str_schema())
    )
    made.prepare = prepare
    return made
