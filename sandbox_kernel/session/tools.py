"""Functions of the host's that cells may call by name, with the network off.

    def search(query: str, limit: int = 3) -> list[str]: ...
    SandboxSession(backend, spec, tools=Toolbox([search]))

    tools.search("otters", limit=2)             # in a Python cell; await tools.search.aio(…)
    await tools.search("otters", {limit: 2})    # in a JavaScript cell

`tool_functions` has what one tool is, `tool_calls` what a session does with calls.

Rule 1: a name that comes out of a sandbox is a key of this toolbox or it is nothing.
Rule 2: every bound of the toolbox is one of a single sandbox's, whoever shares the toolbox:
where each run has a sandbox of its own, each has the whole budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.session.tool_functions import Tool, check_name

Function = Callable[..., Any]
Functions = Mapping[str, Function] | Iterable[Function]

# A sandbox is told all of them at once, and a model reads that.
MAX_TOOLS = 100
# A frame holds 16 MiB with all that is around it.
MAX_BYTES = 15 * 1024 * 1024
# Of all sessions together. One that hangs keeps its thread when its sandbox is long gone, and
# where every run has a fresh sandbox there is no end of them.
MAX_THREADS = 256


class Toolbox:
    """Which functions, and how much of them.

    Args:
        functions: by name, or a list of functions that have names. A sync one runs in a
            thread, an async one in the session's event loop. One that fails raises
            `ToolError` in the cell; to choose the words, raise `errors.ToolError`.
        max_calls: calls of one session, whether they succeed or not.
        max_calls_per_cell: the same for one cell, which ends a runaway loop sooner.
        max_concurrent: calls at the same time; inside, further ones wait.
        timeout_s: how long a call may take. A thread cannot be stopped: its place is taken
            until it ends by itself.
        max_argument_bytes: the arguments of one call, as JSON.
        max_result_bytes: the result of one call, as JSON.

    Raises:
        SettingsError: something here cannot be; or pydantic is not installed.
    """

    def __init__(
        self,
        functions: Functions,
        *,
        max_calls: int = 1000,
        max_calls_per_cell: int = 250,
        max_concurrent: int = 8,
        timeout_s: float = 30.0,
        max_argument_bytes: int = 1024 * 1024,
        max_result_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        _check_bound("max_calls", max_calls)
        _check_bound("max_calls_per_cell", max_calls_per_cell)
        _check_bound("max_concurrent", max_concurrent, 100)
        _check_bound("timeout_s", timeout_s, 24 * 3600)
        _check_bound("max_argument_bytes", max_argument_bytes, MAX_BYTES)
        _check_bound("max_result_bytes", max_result_bytes, MAX_BYTES)
        self.max_calls, self.max_calls_per_cell = max_calls, max_calls_per_cell
        self.max_concurrent, self.timeout_s = max_concurrent, timeout_s
        self.max_argument_bytes, self.max_result_bytes = max_argument_bytes, max_result_bytes
        self._tools = {name: Tool(name, function) for name, function in _named(functions)}
        if not 0 < len(self._tools) <= MAX_TOOLS:
            raise SettingsError(
                f"A toolbox has 1 to {MAX_TOOLS} functions; this one has {len(self._tools)}."
            )
        self._calls: Counter[str] = Counter()
        self.threads = 0  # in which functions run, or hang

    @classmethod
    def of(cls, tools: Toolbox | Functions | None) -> Toolbox | None:
        """`tools` as a toolbox; None for none. Raises like the constructor."""
        if tools is None or isinstance(tools, Toolbox):
            return tools
        given = dict(tools) if isinstance(tools, Mapping) else list(tools)
        return cls(given) if given else None

    @property
    def names(self) -> list[str]:
        return list(self._tools)

    @property
    def calls(self) -> dict[str, int]:
        """How often each was called, by all sessions that it was given to."""
        return {name: self._calls[name] for name in self._tools}

    def find(self, name: str) -> Tool | None:
        """The tool that is called `name`."""
        return self._tools.get(name)

    def note_call(self, tool: Tool) -> None:
        """A session is about to call it."""
        self._calls[tool.name] += 1

    def describe(self) -> list[dict[str, Any]]:
        """For a reader, a model or a sandbox: name, signature, doc and parameters of each."""
        return [tool.describe() for tool in self._tools.values()]


def _named(functions: Functions) -> Iterable[tuple[str, Function]]:
    if isinstance(functions, Mapping):
        return functions.items()
    if callable(functions) or isinstance(functions, str | bytes):
        raise SettingsError("tools must be a list of functions, or a mapping of names to them.")
    named: dict[str, Function] = {}
    for function in functions:
        name = getattr(function, "__name__", "")
        check_name(name)
        if name in named:
            raise SettingsError(f"Two tools are called {name}. Name them by a mapping.")
        named[name] = function
    return named.items()


def _check_bound(name: str, value: float, most: float = 10**9) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise SettingsError(f"{name} of a toolbox is {value!r}; it must be over 0, up to {most:g}.")
