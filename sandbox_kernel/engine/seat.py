"""What an engine's session needs of whoever runs its cells.

`sandbox_kernel.session.SandboxSession` is one, with a sandbox of its own; the session of a
live notebook, reached by `sandbox_kernel.sharing`, is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.events import Json
from sandbox_kernel.session import Files, Outcome, State
from sandbox_kernel.session.run import Sink


class Seat(Protocol):
    """See `SandboxSession` for what each does and raises."""

    spec: SandboxSpec

    @property
    def files(self) -> Files: ...

    @property
    def state(self) -> State: ...

    @property
    def boundary(self) -> str: ...

    @property
    def sandbox_id(self) -> str: ...

    async def start(self) -> Json: ...

    async def execute(
        self,
        code: str,
        *,
        on_event: Sink,
        allow_stdin: bool = False,
        store_history: bool = True,
        execution_count: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        on_cell: Callable[[int], None] | None = None,
        runner: str = "",
    ) -> Outcome: ...

    async def complete(self, code: str, cursor_pos: int, *, runner: str = "") -> Json: ...

    async def inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, *, runner: str = ""
    ) -> Json: ...

    def answer_input(self, text: str | None) -> None: ...

    async def interrupt(self) -> None: ...

    async def restart(self) -> None: ...

    async def attach(self, layers: list[dict[str, str]], environment: dict[str, str]) -> None: ...

    async def status(self) -> Json: ...

    async def close(self) -> Any: ...
