"""What the runners of one sandbox share: the way out, the pipes, the turn.

Rule 1: one cell runs at a time, whichever runner has it. So pipes, files and the receipt
belong to one cell.
Rule 2: a number belongs to one runner: to the one that the host's request went to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Set

if TYPE_CHECKING:
    from sandbox_kernel.guest.cells import Cell
    from sandbox_kernel.guest.configuration import Configuration
    from sandbox_kernel.guest.endings import Endings
    from sandbox_kernel.guest.framing import Kind
    from sandbox_kernel.guest.outbox import Outbox
    from sandbox_kernel.guest.streams import Streams
    from sandbox_kernel.guest.workspace import Workspace
else:
    from endings import Endings
    from framing import Kind
    from streams import Streams

# What a runner writes before its first cell explains a failed start; more is not kept.
_CHATTER_BYTES = 2000
# Changes from one runner to another whose cells are still told apart; older output of a
# sandbox with several runners is dropped.
_MAX_TURNS = 4096


class Commons:
    """One sandbox's, whatever runners come and go in it."""

    def __init__(
        self, configuration: Configuration, outbox: Outbox, poller: Any, workspace: Workspace
    ) -> None:
        self.limits = configuration.limits
        self.outbox = outbox
        self.poller = poller
        self.workspace = workspace
        self.endings = Endings(outbox, workspace, self.limits)
        self.streams = Streams(poller, self._emit_from_pipe)
        self.owners = Owners()
        self.is_running = False  # some runner has a cell
        self.is_restarting = False  # everything is being killed: nothing starts meanwhile
        self.has_children = True
        self.runners: Set[int] = set()  # pids
        self.tools = b""  # a frame that tells a runner of the host's tools; b"": there are none
        self._unattached: Dict[int, int] = {}

    def emit(self, cell: Cell, number: int, kind: int, data: bytes) -> None:
        """Text of `cell` under `number`, as far as its budget goes."""
        budget = cell.budget
        if budget.admits(len(data)):
            budget.show(data)
            self.outbox.put_data(kind, number, data)
            return
        was_truncated = budget.is_truncated
        shown = budget.cut(data)
        if shown:
            self.outbox.put_data(kind, number, shown)
        if not was_truncated:
            info = {"file": budget.file_name, "limit_bytes": budget.limit_bytes}
            self.endings.put_notice(number, "output_truncated", info)

    def _emit_from_pipe(self, cell: Cell, kind: int, data: bytes) -> None:
        if not cell.number:
            cell.chatter = (cell.chatter + data)[-_CHATTER_BYTES:]
            return
        self.emit(cell, cell.number, kind, data)

    # -- ATTACH: one request for all runners, one answer when the last of them has replied

    def await_attached(self, number: int, count: int) -> None:
        """`count` runners were asked under `number`."""
        self._unattached[number] = count + 1
        self.is_attached(number)

    def is_attaching(self, number: int) -> bool:
        return number in self._unattached

    def is_attached(self, number: int) -> bool:
        """One runner has replied, or won't; False when `number` is no ATTACH."""
        left = self._unattached.get(number)
        if left is None:
            return False
        self._unattached[number] = left - 1
        if left == 1:
            del self._unattached[number]
            self.outbox.put_frame(Kind.ANSWER, number, {})
        return True


class Owners:
    """Which runner a request's number was given to. The host's numbers rise."""

    def __init__(self) -> None:
        self._starts: List[int] = []  # from this number on ...
        self._owners: List[object] = []  # ... they are this one's

    def note(self, number: int, owner: object) -> None:
        """The host gave the request `number` to `owner`."""
        if self._owners and self._owners[-1] is owner:
            return
        if self._starts and number <= self._starts[-1]:
            return
        self._starts.append(number)
        self._owners.append(owner)
        if len(self._starts) > _MAX_TURNS:
            del self._starts[: _MAX_TURNS // 2], self._owners[: _MAX_TURNS // 2]

    def owns(self, owner: object, number: int) -> bool:
        """Whether `number` was `owner`'s; no for what is long forgotten."""
        if len(self._starts) == 1:
            return self._owners[0] is owner and number >= self._starts[0]
        from bisect import bisect_right  # only where there are several runners

        index = bisect_right(self._starts, number) - 1
        return index >= 0 and self._owners[index] is owner
