"""Language models behind OpenAI-compatible endpoints, and the loop from a prompt to an answer.

    async with Model.from_settings(Settings.load()) as model:
        conversation = Conversation(model, [code_tool(run)], system=system_prompt("python"))
        answer = await conversation.ask("How many primes are there below 1000?")

It stands beside `session`: it knows no engine, kernel or sandbox, and both `kernel` and `ai`
build on it. What runs code is a `Tool` that they pass in.

Rule 1: the key stays on the host: in no message, error, event, environment or command line.
Rule 2: what a tool returns is data. It is bounded and marked before a model reads it.
Rule 3: what a model writes is untrusted: its arguments are parsed and checked, never trusted.
"""

from sandbox_kernel.models.client import Answers, Model, Reply, ToolCall
from sandbox_kernel.models.code import code_tool, system_prompt
from sandbox_kernel.models.loop import Answer, Conversation, Tool, ToolResult

__all__ = [
    "Answer",
    "Answers",
    "Conversation",
    "Model",
    "Reply",
    "Tool",
    "ToolCall",
    "ToolResult",
    "code_tool",
    "system_prompt",
]
