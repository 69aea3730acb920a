"""Runs one cell: its statements in order, each with what it shows."""

from typing import Any, Callable, Dict, NamedTuple, Optional

from ...framing import Kind
from ..python.channel import Channel, FrameTooLarge
from . import tables
from .engine import Engine, Result, Rows
from .errors import SqlError

Json = Dict[str, Any]


class Cell(NamedTuple):
    number: int
    code: str
    execution_count: int
    is_silent: bool


class Cells:
    """Shows through `channel`; `check` raises when the cell was interrupted."""

    def __init__(self, channel: Channel, check: Callable[[], None]) -> None:
        self._channel = channel
        self._check = check

    def run(self, engine: Engine, cell: Cell) -> Optional[SqlError]:
        """Run a cell to its end, or to the statement that failed. In the engine's thread."""
        try:
            statements = engine.split(cell.code)
            for number, statement in enumerate(statements, 1):
                self._check()
                result = engine.run(statement)
                self._show(result, cell, is_last=number == len(statements))
            self._check()
        except SqlError as error:
            return error
        return None

    def _show(self, result: Result, cell: Cell, *, is_last: bool) -> None:
        if result is None:
            return
        if isinstance(result, str):
            if not cell.is_silent:
                self._send(Kind.STDOUT, cell, None, (result + "\n").encode("utf-8", "replace"))
            return
        # Also when nobody is to see it: reading is what runs it.
        table = tables.read(self._checked(result))
        if cell.is_silent:
            return
        content: Json = {"data": tables.bundle(table), "metadata": {}}
        if not is_last:
            content["transient"] = {}
        self._send(Kind.RESULT if is_last else Kind.DISPLAY, cell, content)

    def _checked(self, rows: Rows) -> Rows:
        def batches() -> Any:
            for batch in rows.batches:
                self._check()
                yield batch

        return Rows(rows.columns, batches())

    def _send(self, kind: int, cell: Cell, meta: Optional[Json], data: bytes = b"") -> None:
        try:
            self._channel.send(kind, cell.number, meta, data)
        except FrameTooLarge as error:
            text = "[sandbox] An output was left out: it needs %d bytes.\n" % error.size
            self._channel.send(Kind.STDERR, cell.number, None, text.encode())
