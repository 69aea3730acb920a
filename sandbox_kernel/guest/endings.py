"""What is said when a cell ends: the rest of its output, its files, its receipt.

Every step yields, so that whoever drives it can wait for the host between two files: a
cell may offer hundreds of megabytes, and none of it waits in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

if TYPE_CHECKING:
    from sandbox_kernel.guest.cells import Cell
    from sandbox_kernel.guest.framing import Frame, FramingError, Kind
    from sandbox_kernel.guest.outbox import Outbox
    from sandbox_kernel.guest.workspace import Workspace
else:
    from framing import Frame, FramingError, Kind

_PIECE_BYTES = 1024 * 1024
# The status is read out of a reply up to this size. Larger ones hold a pager's text.
_REPLY_BYTES = 64 * 1024


class Endings:
    """Puts the end of cells into the outbox."""

    def __init__(self, outbox: Outbox, workspace: Workspace, limits: Dict[str, int]) -> None:
        self._outbox = outbox
        self._workspace = workspace
        self._limits = limits

    def put_notice(self, number: int, code: str, info: Dict[str, Any]) -> None:
        self._outbox.put_frame(Kind.OUTPUT_NOTICE, number, {"code": code, **info})

    def put_tail(self, cell: Cell) -> Iterator[None]:
        """The end of an output that was over its budget."""
        omitted, tail = cell.budget.finish()
        if not cell.budget.is_truncated:
            return
        info = {"omitted_bytes": omitted, "file": cell.budget.file_name}
        self.put_notice(cell.number, "output_tail", info)
        for start in range(0, len(tail), _PIECE_BYTES):
            self._outbox.put_data(Kind.STDOUT, cell.number, tail[start : start + _PIECE_BYTES])
            yield

    def put_files(self, cell: Cell) -> Iterator[None]:
        """The files that the cell made; one step each."""
        changed, is_complete = self._workspace.changes(cell.started_ns)
        if cell.is_silent:  # looked at, so that they are not taken for the next cell's
            return
        changed = [entry for entry in changed if entry.name != cell.budget.file_name]
        shown = changed[: self._limits["artifacts"]]
        for entry in shown:
            file = self._workspace.collect(entry, self._limits["artifact_bytes"])
            meta = {"name": file.name, "size": file.size, "whole": file.is_whole}
            self._outbox.put_frame(Kind.FILE_GENERATED, cell.number, meta, file.content)
            yield
        if not is_complete:  # nobody knows how many there are
            self.put_notice(cell.number, "files_omitted", {"is_complete": False})
        elif len(changed) > len(shown):
            count = len(changed) - len(shown)
            self.put_notice(cell.number, "files_omitted", {"count": count, "is_complete": True})

    def put_end(self, number: int, outcome: str, receipt: Dict[str, Any]) -> None:
        whole: Dict[str, Any] = {
            "wall_s": 0.0,
            "cpu_s": 0.0,
            "peak_memory_bytes": 0,
            "output_bytes": 0,
            "files": 0,
        }
        whole.update(receipt)
        meta = {"outcome": outcome, "receipt": whole}
        self._outbox.put_frame(Kind.CELL_ENDED, number, meta)

    def put_cancelled(self, number: int) -> None:
        """A cell that was interrupted before its runner took it."""
        error = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
        self._outbox.put_frame(Kind.ERROR, number, error)
        self._outbox.put_frame(Kind.REPLY, number, {"status": "error"})
        self.put_end(number, "error", {})


def read_outcome(content: bytes, is_failed: bool) -> "Tuple[str, bool]":
    """(status, whether C's buffers were flushed) as an EXECUTE's reply has them.

    An unreadable status fails if an error was shown.
    """
    meta: Dict[str, Any] = {}
    if len(content) <= _REPLY_BYTES:
        try:
            meta = Frame(Kind.REPLY, 0, content, b"").read_meta()
        except FramingError:
            meta = {}
    status = meta.get("status")
    if status not in ("ok", "error"):
        status = "error" if is_failed else "ok"
    return str(status), meta.get("is_flushed") is True
