"""What the supervisor remembers of a request that may produce output.

A runner may speak for any cell that it was ever given (a thread prints late), and for no
other: neither for another runner's nor for one to come. Counts and budgets are a cell's own
while it is among the last `KEPT`; everything older, and number 0, shares one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List, Optional

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import Kind
    from sandbox_kernel.guest.spill import OutputBudget
    from sandbox_kernel.guest.streams import CellPipe
else:
    from framing import Kind
    from spill import OutputBudget

KEPT = 256

# What is counted, and together with what: an update is a display as well. The rest a
# runner may send as often as the host reads it.
_COUNTED = {
    Kind.DISPLAY: Kind.DISPLAY,
    Kind.UPDATE_DISPLAY: Kind.DISPLAY,
    Kind.RESULT: Kind.RESULT,
    Kind.ERROR: Kind.ERROR,
    Kind.CLEAR_OUTPUT: Kind.CLEAR_OUTPUT,
}
MEASURED_KINDS = frozenset(_COUNTED)


class Cell:
    """One request, from its number to the last of its late output."""

    def __init__(self, number: int, budget: OutputBudget) -> None:
        self.number = number
        self.budget = budget
        self.pipes: List[CellPipe] = []
        self.is_silent = False
        self.is_dropping_displays = False
        self.started_s = 0.0  # monotonic
        self.started_ns = 0  # the clock of file times
        self.cpu_s = 0.0  # what the runner had used when the cell began
        self.chatter = b""  # number 0: what a runner wrote before its first cell
        self._counts: Dict[int, int] = {}

    def count(self, kind: int) -> int:
        """The how-manieth frame of this sort of rich output this is."""
        sort = _COUNTED[kind]
        self._counts[sort] = self._counts.get(sort, 0) + 1
        return self._counts[sort]


class Cells:
    """All cells of one runner by number.

    Args:
        is_ours: whether a number was given to this runner, for those that are forgotten here.
    """

    def __init__(
        self, limits: Dict[str, int], directory: int, is_ours: Callable[[int], bool]
    ) -> None:
        self._is_ours = is_ours
        self._output_bytes = limits["output_bytes"]
        self._file_bytes = limits["workspace_bytes"] // 4
        self._directory = directory
        self._cells: Dict[int, Cell] = {}
        self._background = self._make(0, None)
        self.newest = 0

    def issue(self, number: int, execution_count: Optional[int] = None) -> Cell:
        """The host numbered a request; one that executes nothing has no count."""
        cell = self._cells[number] = self._make(number, execution_count)
        self.newest = max(self.newest, number)
        if len(self._cells) > 2 * KEPT:
            oldest = self.newest - KEPT
            self._cells = {n: c for n, c in self._cells.items() if n > oldest}
        return cell

    def find(self, number: int) -> Optional[Cell]:
        """The cell that output numbered so counts for; None for a number never issued."""
        cell = self._cells.get(number)
        if cell is not None or number > self.newest:
            return cell
        return self._background if not number or self._is_ours(number) else None

    def renew_background(self) -> Cell:
        """A fresh runner starts with a fresh count of what belongs to no cell."""
        self._background = self._make(0, None)
        return self._background

    def _make(self, number: int, execution_count: Optional[int]) -> Cell:
        name = "output-%d" % (execution_count or 0)
        budget = OutputBudget(self._output_bytes, self._file_bytes, self._directory, name)
        # Only a cell has an end, at which what its budget holds is let go.
        budget.is_over = execution_count is None
        return Cell(number, budget)
