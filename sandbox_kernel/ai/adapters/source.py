"""What adapters are given: a session, or a tool that was made before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.ai.tool import CodeExecutionTool
    from sandbox_kernel.engine import Session


def tool_of(source: Session | CodeExecutionTool, options: dict[str, Any]) -> CodeExecutionTool:
    """
    Args:
        options: of `code_execution_tool`, for a session.

    Raises:
        ExtraMissing: pydantic is not installed.
        SettingsError: options for a tool that is made already.
    """
    from sandbox_kernel.ai.tool import CodeExecutionTool, code_execution_tool

    if not isinstance(source, CodeExecutionTool):
        return code_execution_tool(source, **options)
    if options:
        named = ", ".join(sorted(options))
        raise SettingsError(f"The tool is made already: give {named} to code_execution_tool.")
    return source
