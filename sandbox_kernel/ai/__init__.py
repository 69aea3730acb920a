"""For models: a tool that runs code, adapters of agent libraries, an MCP server, chat.

Rule 1: what a model reads of a run has passed `bounds`: bounded, cleaned, marked as data.
Rule 2: what a model sends is checked by `arguments` before anything is done with it.
Rule 3: nothing is imported before it is used; the libraries are extras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox_kernel.ai.interpreter import Interpretation, Interpreter, Step, interpret
    from sandbox_kernel.ai.tool import CodeExecutionTool, ToolOutcome, code_execution_tool
    from sandbox_kernel.ai.transcript import Transcript

# Name -> module. None may have the name of a module here, which its import would set.
_HOMES = {
    "CodeExecutionTool": "sandbox_kernel.ai.tool",
    "Interpretation": "sandbox_kernel.ai.interpreter",
    "Interpreter": "sandbox_kernel.ai.interpreter",
    "Step": "sandbox_kernel.ai.interpreter",
    "ToolOutcome": "sandbox_kernel.ai.tool",
    "Transcript": "sandbox_kernel.ai.transcript",
    "code_execution_tool": "sandbox_kernel.ai.tool",
    "interpret": "sandbox_kernel.ai.interpreter",
}

__all__ = [
    "CodeExecutionTool",
    "Interpretation",
    "Interpreter",
    "Step",
    "ToolOutcome",
    "Transcript",
    "code_execution_tool",
    "interpret",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
