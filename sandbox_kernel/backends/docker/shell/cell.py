"""One cell in a container without Python: its output within the budget, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox_kernel.backends.docker.shell.marks import Mark
from sandbox_kernel.guest.framing import Frame, Kind, pack
from sandbox_kernel.guest.runners.command import words
from sandbox_kernel.guest.spill import OutputBudget
from sandbox_kernel.languages import SHELL

_PIECE_BYTES = 1024 * 1024
_MAX_META_BYTES = 64 * 1024
# What a shell adds to the number of the signal that ended a program.
_SIGNALLED = 128

Json = dict[str, Any]


class Cell:
    """From EXECUTE to the last of its late output.

    Args:
        frame: the EXECUTE.
        output_bytes: `Limits.output_bytes`.
        now_s: when it began.
    """

    def __init__(self, frame: Frame, output_bytes: int, now_s: float) -> None:
        meta = frame.read_meta()
        count = meta.get("execution_count")
        asked = meta.get("user_expressions") or {}
        self.number = frame.cell
        self.token = ""
        self.count = count if isinstance(count, int) else 0
        self.is_silent = bool(meta.get("silent"))
        self.is_shell = meta.get("runner") == SHELL
        self.is_interrupted = False
        # Refusals are longer than what they refuse, and a frame has its limit.
        self._expressions: Json = asked if len(frame.meta) < _MAX_META_BYTES else {}
        self._started_s = now_s
        self._ends: dict[int, Mark] = {}
        # Without a supervisor of ours there is nobody to write the rest to a file.
        self._budget = OutputBudget(output_bytes, file_bytes=0, directory=-1, name="")

    # -- output

    def printed(self, kind: int, content: bytes) -> bytes:
        """Frames for what it printed, as far as the budget allows."""
        frames = b""
        for start in range(0, len(content), _PIECE_BYTES):
            frames += self._printed(kind, content[start : start + _PIECE_BYTES])
        return frames

    def _printed(self, kind: int, piece: bytes) -> bytes:
        budget = self._budget
        if budget.admits(len(piece)):
            budget.show(piece)
            return pack(kind, self.number, None, piece)
        was_truncated = budget.is_truncated
        shown = budget.cut(piece)
        frames = pack(kind, self.number, None, shown) if shown else b""
        if not was_truncated:
            frames += self._notice("output_truncated", limit_bytes=budget.limit_bytes)
        return frames

    def _notice(self, code: str, **info: int) -> bytes:
        return pack(Kind.OUTPUT_NOTICE, self.number, {"code": code, "file": None, **info})

    # -- its end

    def note_end(self, stream: int, mark: Mark) -> None:
        """`mark` says that no more comes on `stream` in its time."""
        self._ends.setdefault(stream, mark)

    @property
    def is_over(self) -> bool:
        return len(self._ends) == 2

    def failure(self, programs: Sequence[str]) -> Json | None:
        """What went wrong, as an ERROR has it; None for a command that did well."""
        mark = self._ends[1]
        if mark.word == "missing":
            return words.missing(programs)
        if mark.word == "unwritten":
            return words.unwritten()
        if mark.word == "crowded":
            return words.crowded()
        if mark.word == "end" and mark.number == 0:
            return None
        if self.is_interrupted:
            return words.interrupted()
        if mark.word == "lost":
            return words.failure("CommandFailed", "The command killed the shell that ran it.")
        if mark.number > _SIGNALLED:
            return words.killed(mark.number - _SIGNALLED)
        return words.failed(mark.number)

    def ended(self, failure: Json | None, now_s: float) -> bytes:
        """Frames that tell its end, after `failure` if there is one."""
        frames = self._tail()
        if failure is not None:
            frames += pack(Kind.ERROR, self.number, failure)
        status = "ok" if failure is None else "error"
        reply: Json = {"status": status, "user_expressions": words.expressions(self._expressions)}
        if (end := self._ends.get(1)) is not None and end.word == "end":
            reply["exit_code"] = end.number
        return frames + pack(Kind.REPLY, self.number, reply) + self._over(status, now_s)

    def lost(self, now_s: float) -> bytes:
        """Frames that tell that it was killed."""
        return self._tail() + self._over("lost", now_s)

    def _over(self, outcome: str, now_s: float) -> bytes:
        receipt = {
            "wall_s": max(now_s - self._started_s, 0.0),
            "cpu_s": 0.0,
            "peak_memory_bytes": 0,
            "output_bytes": self._budget.written_bytes,
            "files": 0,
        }
        return pack(Kind.CELL_ENDED, self.number, {"outcome": outcome, "receipt": receipt})

    def _tail(self) -> bytes:
        omitted, tail = self._budget.finish()
        if not self._budget.is_truncated:
            return b""
        frames = self._notice("output_tail", omitted_bytes=omitted)
        for start in range(0, len(tail), _PIECE_BYTES):
            piece = tail[start : start + _PIECE_BYTES]
            frames += pack(Kind.STDOUT, self.number, None, piece)
        return frames
