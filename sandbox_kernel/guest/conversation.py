"""What is said between the host and one runner: requests in, events out, cell by cell.

Rule 1: one EXECUTE at a time is with a runner; the next, and all that came after it for
the same runner, waits here.
Rule 2: a runner's frame is passed on only if a runner may send that kind, for a request
that the host made of this one. What it says about itself (kind, cell, sizes) is all that
is believed; who it is, this side says.
Rule 3: a cell's events end with CELL_ENDED, however its runner ended.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Sequence, Set

if TYPE_CHECKING:
    from sandbox_kernel.guest.backlog import Backlog
    from sandbox_kernel.guest.cells import MEASURED_KINDS, Cell, Cells
    from sandbox_kernel.guest.commons import Commons
    from sandbox_kernel.guest.endings import read_outcome
    from sandbox_kernel.guest.framing import HEADER, Frame, FramingError, Kind
    from sandbox_kernel.guest.processes import Reaped, Runner, raise_oom_score
    from sandbox_kernel.guest.relay import (
        DROP,
        LAST,
        MAX_UNREAD_BYTES,
        PASS,
        TAKE,
        Receiver,
        RunnerLied,
        Sender,
    )
    from sandbox_kernel.guest.usage import Meter
    from sandbox_kernel.guest.workspace import file_clock_ns
else:
    from backlog import Backlog
    from cells import MEASURED_KINDS, Cells
    from endings import read_outcome
    from framing import HEADER, Frame, FramingError, Kind
    from processes import raise_oom_score
    from relay import DROP, LAST, MAX_UNREAD_BYTES, PASS, TAKE, Receiver, RunnerLied, Sender
    from usage import Meter
    from workspace import file_clock_ns

# Version and banner are a few hundred.
_MAX_READY_BYTES = 64 * 1024
# Of a dead runner's last words: what fits into a socket, several times.
_LAST_READS = 64


class Conversation:
    """All requests and events of one runner, and the cells of those it comes after.

    Args:
        name: the runner's, "" for the main one.
    """

    def __init__(self, commons: Commons, name: str) -> None:
        self.name = name
        self._commons = commons
        self._limits = commons.limits
        self._display_bytes = commons.limits["artifact_bytes"] * 4 // 3 + 1024 * 1024
        self._outbox = commons.outbox
        self._endings = commons.endings
        self._streams = commons.streams
        owners = commons.owners
        self._cells = Cells(
            commons.limits, commons.workspace.fd, lambda number: owners.owns(self, number)
        )
        self.fd = -1  # the runner's socket, while the poller knows it
        self.inputs_fd = -1  # the one that is read inside a cell; known while it is full
        self._mask = 0
        self._meter: Optional[Meter] = None
        self._queue = Backlog()
        self._outstanding: Set[int] = set()
        self._current: Optional[Cell] = None
        self._ending: Optional[Iterator[None]] = None
        self._is_stopped = False  # frames wait in the receiver until a cell has ended
        self._is_asking = False  # an INPUT_REQUEST has no INPUT_REPLY yet
        self.is_ready = self._is_held = False
        self._is_failed = False
        self._takes_tools = False

    def hold(self) -> None:
        """The runner is about to die: what is queued is for the next one."""
        self._is_held = True

    def attach(self, runner: Runner) -> None:
        """A fresh runner: what the old one owed is settled already."""
        self._is_held = False
        self.is_ready = self._is_stopped = self._is_asking = False
        self._requests = Sender(runner.requests)
        self._inputs = Sender(runner.inputs)
        self._receiver = Receiver(
            runner.requests, self._judge, self._outbox.put_borrowed, self._take
        )
        self._runner = runner
        self._meter = None
        self._last: Optional[Cell] = None  # ended, and its pipes may serve the next cell
        self._startup = self._cells.renew_background()
        self._streams.watch(self._startup, Kind.STDERR, runner.chatter_fd)

    def listen(self, is_wanted: bool, is_full: bool) -> None:
        """Tell the poller what of the runner's is worth waking up for; mostly no news."""
        if (is_wanted and self._inputs.size > 0) != (self.inputs_fd >= 0):
            self._watch_inputs()
        mask = 0
        if is_wanted:
            mask = (0 if is_full else select.EPOLLIN) | (select.EPOLLOUT if self.has_unsent else 0)
        if mask == self._mask:
            return
        if not self._mask:
            self.fd = self._runner.requests.fileno()
            self._commons.poller.register(self.fd, mask)
        elif mask:
            self._commons.poller.modify(self.fd, mask)
        else:
            with suppress(OSError, ValueError):  # closed: epoll forgot it by itself
                self._commons.poller.unregister(self.fd)
            self.fd = -1
        self._mask = mask

    def _watch_inputs(self) -> None:
        if self.inputs_fd < 0:
            self.inputs_fd = self._runner.inputs.fileno()
            self._commons.poller.register(self.inputs_fd, select.EPOLLOUT)
            return
        with suppress(OSError, ValueError):  # closed: epoll forgot it by itself
            self._commons.poller.unregister(self.inputs_fd)
        self.inputs_fd = -1

    @property
    def is_busy(self) -> bool:
        return self._current is not None

    @property
    def is_asked(self) -> bool:
        """Whether the runner has a request besides a cell: user code runs in these, too."""
        return bool(self._outstanding)

    @property
    def is_ending(self) -> bool:
        """A cell's files are on their way; nothing more is read from the runner until then."""
        return self._ending is not None

    @property
    def can_advance(self) -> bool:
        if self._ending is not None:
            return not self._outbox.is_full
        return bool(self._queue) and self._is_next_free

    @property
    def has_queued_cells(self) -> bool:
        return self._queue.has_cells

    @property
    def has_unsent(self) -> bool:
        return bool(self._requests.size)

    def peak_bytes(self) -> int:
        return self._meter.peak_bytes() if self._meter else 0

    def read_chatter(self) -> str:
        """The last of what the runner wrote before its first cell, for a failed start."""
        self._streams.drain(self._startup)
        return self._startup.chatter.decode("utf-8", "replace").strip()

    # -- host to runner

    def request(self, frame: Frame) -> None:
        """Pass a request on, or keep it until the runner takes it."""
        if not self._queue.put(frame):
            self.refuse(frame.cell, "Too many requests wait for the runner already.")
            return
        self._commons.owners.note(frame.cell, self)
        self._send_queued()

    def answer_input(self, frame: Frame) -> None:
        """INPUT_REPLY has a socket of its own: the runner waits for it inside a cell."""
        if self._current is None or frame.cell != self._current.number or not self._is_asking:
            return  # that cell ended meanwhile; the next one must not get its answer
        self._is_asking = False
        self._inputs.send(_encode(frame))

    def tell_tools(self) -> None:
        """Which of the host's functions there are: before anything that may call one."""
        if self.is_ready and self._takes_tools and self._commons.tools:
            self._requests.send(self._commons.tools)

    def pass_tool_reply(self, frame: Frame) -> None:
        """On the socket that is read inside a cell, like INPUT_REPLY."""
        if not self.is_ready or not self._commons.owners.owns(self, frame.cell):
            return
        if self._inputs.size <= MAX_UNREAD_BYTES:  # a runner's that reads no replies
            self._inputs.send(_encode(frame))

    def cancel_queued(self) -> None:
        """SIGINT before the runner has taken a cell: it ends as if interrupted at once."""
        for frame in self._queue.take_cells():
            self._endings.put_cancelled(frame.cell)

    def refuse_queued(self, reason: str) -> None:
        for frame in self._queue.take_all():
            self.refuse(frame.cell, reason)

    def refuse(self, cell: int, reason: str) -> None:
        if not self._commons.is_attached(cell):
            self._outbox.put_frame(Kind.REFUSAL, cell, {"reason": reason})

    def flush(self) -> None:
        self._requests.flush()
        self._inputs.flush()

    @property
    def _is_next_free(self) -> bool:
        """Whether the first of the queue may go to the runner."""
        if not self.is_ready or self._is_held or self._ending is not None:
            return False
        return not (self._queue.is_cell_first and self._commons.is_running)

    def _send_queued(self) -> None:
        while self._queue and self._is_next_free:
            frame = self._queue.pop()
            if self._requests.size > MAX_UNREAD_BYTES:
                self.refuse(frame.cell, "The runner does not read its requests.")
            elif frame.kind == Kind.EXECUTE:
                self._begin(frame)
            else:
                if frame.kind != Kind.ATTACH:  # that number is every runner's
                    self._cells.issue(frame.cell)
                self._outstanding.add(frame.cell)
                self._requests.send(_encode(frame))

    def _begin(self, frame: Frame) -> None:
        try:
            meta = frame.read_meta()
        except FramingError as error:
            self.refuse(frame.cell, str(error))
            return
        count = meta.get("execution_count", 0)
        cell = self._cells.issue(frame.cell, count if isinstance(count, int) else 0)
        cell.is_silent = bool(meta.get("silent"))
        self._current = cell
        self._commons.is_running = True
        self._is_failed = False
        cell.started_ns = file_clock_ns()
        cell.started_s = time.monotonic()
        self._requests.send(_encode(frame), self._pipes_for(cell))
        # After it was sent: reading /proc takes as long as a small cell, on another CPU.
        if self._meter is not None:
            self._meter.reset_peak()
            cell.cpu_s = self._meter.cpu_s()

    def _pipes_for(self, cell: Cell) -> Sequence[int]:
        """Write ends for the runner's 1 and 2; none when it goes on with those it has."""
        last, self._last = self._last, None
        if last is not None and self._meter is not None:
            is_alone = self._meter.is_alone(self._commons.runners)
            if is_alone and self._streams.hand_over(last, cell):
                return ()
        return self._streams.open(cell)

    # -- runner to host

    def receive(self) -> bool:
        """Read what the runner sent and pass it on; False when it closed its socket.

        Raises:
            RunnerLied: what it sent are no frames of a runner's.
        """
        count = self._receiver.receive()
        if count:
            self._relay()
        return count != 0

    def hear_last_words(self) -> None:
        """Pass on what a dead runner sent. Raises `RunnerLied` like `receive`."""
        for _ in range(_LAST_READS):
            if self.is_ending or not self._receiver.receive():
                return
            self._relay()

    def advance(self) -> None:
        """Go on with what had to wait: an ending cell, frames behind it, queued requests.

        Raises:
            RunnerLied: the frames behind are none of a runner's.
        """
        while self._ending is not None:
            if self._outbox.is_full:
                return
            if next(self._ending, self) is self:
                self._ending = None
                if self._is_stopped:
                    self._relay()
        self._send_queued()

    def lose(self, reaped: Reaped, reason: str) -> None:
        """The runner is gone: whatever it owed is settled now."""
        for number in sorted(self._outstanding):
            self.refuse(number, reason)
        self._outstanding.clear()
        self._requests.clear()
        self._inputs.clear()
        if self._meter is not None:
            self._meter.close()
            self._meter = None
        self.is_ready = self._is_stopped = False
        self.listen(False, False)
        self._streams.close(self._startup)
        if self._current is not None:
            self._streams.drain(self._current)
            used = {
                "cpu_s": max(reaped.cpu_s - self._current.cpu_s, 0.0),
                "peak_memory_bytes": reaped.peak_memory_bytes,
            }
            self._ending = self._end(self._current, "lost", used)

    def _relay(self) -> None:
        # What the cell's processes wrote before this was sent comes first.
        if self._current is not None:
            self._streams.drain(self._current)
        self._is_stopped = self._receiver.relay()

    def _judge(self, kind: int, number: int, length: int) -> int:
        """What becomes of a frame (see `Receiver`). Nothing is emitted here: order."""
        if kind == Kind.REPLY:
            return self._judge_reply(number)
        cell = self._cells.find(number)
        if cell is None:
            return DROP
        if kind in (Kind.STDOUT, Kind.STDERR):
            return self._judge_stream(cell, length)
        if kind in MEASURED_KINDS:
            return self._judge_rich(cell, kind, length)
        if kind == Kind.RUNNER_READY:
            return self._judge_ready(number, length)
        if kind == Kind.INPUT_REQUEST:
            return self._judge_question(cell)
        if kind == Kind.TOOL_CALL:
            return PASS if number and self._commons.tools else DROP
        return PASS

    def _judge_reply(self, number: int) -> int:
        if self._current is not None and number == self._current.number:
            return LAST
        if number not in self._outstanding:
            return DROP
        self._outstanding.remove(number)
        return TAKE if self._commons.is_attaching(number) else PASS

    def _judge_stream(self, cell: Cell, length: int) -> int:
        if not length:
            return DROP  # it would cost the budget nothing
        if cell.budget.limit_bytes:
            return TAKE
        cell.budget.written_bytes += length
        return PASS

    def _judge_rich(self, cell: Cell, kind: int, length: int) -> int:
        if kind == Kind.ERROR and cell is self._current:
            self._is_failed = True
        if cell.count(kind) > self._limits["displays"]:
            return DROP if cell.is_dropping_displays else TAKE
        return PASS if length <= self._display_bytes else TAKE

    def _judge_ready(self, number: int, length: int) -> int:
        if self.is_ready or number:
            return DROP
        if length > _MAX_READY_BYTES:
            raise RunnerLied("It said %d bytes of itself." % length)
        return TAKE

    def _judge_question(self, cell: Cell) -> int:
        if cell is not self._current or self._is_asking:
            return DROP
        self._is_asking = True
        return PASS

    def _take(self, kind: int, number: int, content: bytes) -> None:
        if kind == Kind.RUNNER_READY:
            self._introduce(content)
            return
        if kind == Kind.REPLY:
            if self._commons.is_attached(number):
                return
            assert self._current is not None
            outcome, is_flushed = read_outcome(content, self._is_failed)
            # What C still held would come out of the next cell's pipes.
            self._last = self._current if is_flushed else None
            self._ending = self._end(self._current, outcome)
            return
        cell = self._cells.find(number)
        assert cell is not None
        if kind in (Kind.STDOUT, Kind.STDERR):
            self._commons.emit(cell, number, kind, content)
        elif len(content) > self._display_bytes:
            limit = {"size": len(content), "limit_bytes": self._display_bytes}
            self._endings.put_notice(number, "display_too_large", limit)
        else:
            cell.is_dropping_displays = True
            self._endings.put_notice(
                number, "displays_dropped", {"limit": self._limits["displays"]}
            )

    def _introduce(self, content: bytes) -> None:
        """Tell the host what the runner says of itself, and which one it is."""
        try:
            meta = Frame(Kind.RUNNER_READY, 0, content, b"").read_meta()
        except FramingError as error:
            raise RunnerLied("What it said of itself is unreadable: %s." % error) from None
        meta.pop("runner", None)
        self._takes_tools = bool(meta.get("tools"))
        if self.name:
            meta["runner"] = self.name
        self.is_ready = True
        # Not before: until the exec is through, the runner's part of /proc is root's, because
        # a fork of this process is as non-dumpable as this one.
        self._meter = Meter(self._runner.pid)
        raise_oom_score(self._runner.pid)
        self._outbox.put_frame(Kind.RUNNER_READY, 0, meta)
        self.tell_tools()

    # -- the end of a cell

    def _end(
        self, cell: Cell, outcome: str, used: Optional[Dict[str, Any]] = None
    ) -> Iterator[None]:
        """All that follows an EXECUTE's reply, in steps: wait between them for the host."""
        receipt: Dict[str, Any] = {"wall_s": time.monotonic() - cell.started_s}
        receipt.update(used or self._measure(cell))
        self._is_asking = False
        self._streams.drain(cell)
        yield from self._endings.put_tail(cell)
        receipt["files"] = 0
        for _ in self._endings.put_files(cell):
            receipt["files"] += 1
            yield
        receipt["output_bytes"] = cell.budget.written_bytes
        self._endings.put_end(cell.number, outcome, receipt)
        self._streams.retire(cell)
        self._current = None
        self._commons.is_running = False

    def _measure(self, cell: Cell) -> Dict[str, Any]:
        if self._meter is None:
            return {}
        return {
            "cpu_s": max(self._meter.cpu_s() - cell.cpu_s, 0.0),
            "peak_memory_bytes": self._meter.peak_bytes(),
        }


def _encode(frame: Frame) -> bytes:
    meta, data = frame.meta, frame.data
    header = HEADER.pack(len(meta) + len(data), frame.kind, frame.cell, len(meta))
    return header + meta + data
