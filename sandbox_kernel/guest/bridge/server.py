"""Answers the supervisor's requests by asking the kernel, and passes on what it shows.

Rule 1: every request gets one REPLY. A cell's comes when the kernel has both answered and
said that it is idle, so that nothing of it comes later; a kernel that says only one of the
two is waited for a bounded time.
Rule 2: what a message shows belongs to the cell that its parent names, however late.
Rule 3: a kernel is never faster than its reader: it is stopped while we cannot keep up.
Rule 4: when the kernel ends, so does this process, in the same way; the supervisor reports.
"""

import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from ..framing import Decoder, Frame, FramingError, Kind
from ..runners.python.channel import Channel, Request, read_json
from . import translation
from .arguments import Command
from .arrival import Arrived
from .connection import MAX_UNSENT_BYTES, Peer
from .kernel_process import KernelProcess
from .outlet import Outlet
from .wire import Json, Message
from .zmtp import Skipped, ZmtpError

# From an answer to the idle that belongs to it, and the other way round.
_IDLE_WAIT_S = 1.0
_ANSWER_WAIT_S = 5.0
# From a cell's `exit` to the kernel's end, if it comes by itself.
_QUIT_WAIT_S = 0.5
# An interrupt that came before the cell had begun is repeated when it has.
_BEGIN_S = 0.05
# Of a dead kernel's last words: what fits into a socket and a pipe, several times.
_LAST_READS = 64
_LAST_WORDS_BYTES = 4096
# What a fence brings, and what it brings when the cell broke what it calls.
_OF_FENCES = ("sandbox_fence", "error")
_NEVER = float("inf")


class Pending:
    """One request that the kernel has not finished."""

    def __init__(self, kind: int, cell: int, meta: Json) -> None:
        self.kind, self.cell, self.meta = kind, cell, meta
        self.content: Optional[Json] = None  # of the kernel's reply
        self.is_begun = self.is_idle = False
        self.is_fencing = self.is_fenced = False
        self.due_s = _NEVER  # when what is still missing is not waited for any longer

    @property
    def is_over(self) -> bool:
        if self.kind == Kind.COMM:  # has no reply
            return self.is_idle or self.content is not None
        return self.content is not None and (self.is_idle or self.kind != Kind.EXECUTE)


class Server:
    """Serves for as long as the kernel lives."""

    def __init__(
        self,
        channel: Channel,
        inputs: int,
        wakeup: int,
        kernel: KernelProcess,
        command: Command,
        arrived: Arrived,
    ) -> None:
        self._channel, self._kernel, self._command = channel, kernel, command
        self._wakeup, self._inputs = wakeup, inputs
        os.set_blocking(inputs, False)
        self._answers = Decoder({Kind.INPUT_REPLY})
        self._connection, self._wire = arrived.connection, arrived.wire
        self._session, self._info = arrived.session, arrived.info
        self._outlet = Outlet(channel, kernel)
        self._pending: Dict[int, Pending] = {}
        self._current: Optional[Pending] = None  # the cell that runs
        self._latest = 0
        self._question: Optional[Json] = None  # the header of an input_request
        self._is_interrupted = self._has_refused = False
        self._is_early = False  # the interrupt came before the cell had begun
        self._interrupt_s = _NEVER  # when it is repeated
        self._last_words = b""  # of a kernel that publishes its own output
        self._pipes = {kernel.stdout: Kind.STDOUT, kernel.stderr: Kind.STDERR}

    def serve(self) -> None:
        """Answer until the supervisor is gone or the kernel is; does not return."""
        self._channel.send(Kind.RUNNER_READY, 0, self._info)
        try:
            while True:
                self._wait()
                self._settle()
        except ZmtpError:
            self._kernel.kill()
            os._exit(70)

    # -- what there is to do

    def _wait(self) -> None:
        poll = select.poll()
        for fd in (self._channel.descriptor, self._inputs, self._wakeup, *self._pipes):
            poll.register(fd, select.POLLIN)
        for peer in self._connection.peers.values():
            if not peer.is_closed:
                events = select.POLLIN | (select.POLLOUT if peer.unsent_bytes else 0)
                poll.register(peer.fileno(), events)
        ready = {fd for fd, _ in poll.poll(self._timeout_ms())}
        signals = self._read_signals() if self._wakeup in ready else b""
        # A cell was sent before the interrupt that means it, and begins before it here, too.
        if self._channel.descriptor in ready or (signals and self._has_request()):
            self._on_requests()
        if signals:
            self._on_signals(signals)
        if self._inputs in ready:
            self._on_answers()
        self._on_output(ready)

    def _timeout_ms(self) -> Optional[float]:
        due_s = min([self._interrupt_s, *(one.due_s for one in self._pending.values())])
        return None if due_s == _NEVER else max(due_s - time.monotonic(), 0.0) * 1000 + 1

    def _read_signals(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._wakeup, 4096)
        return b""

    def _has_request(self) -> bool:
        return bool(select.select([self._channel.descriptor], [], [], 0)[0])

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGINT in numbers:
            self._on_interrupt()
        if self._kernel.reap():
            self._end()

    def _end(self) -> None:
        """The kernel is dead: pass on what it said, then do as it did."""
        for _ in range(_LAST_READS):
            if not self._read_pipes() + self._read(self._connection.iopub, self._on_iopub):
                break
        if self._last_words:
            self._outlet.text(self._latest_cell(), Kind.STDERR, self._last_words)
        with suppress(ZmtpError):
            self._read(self._connection.shell, self._on_shell)
        self._outlet.flush()
        self._settle()
        self._kernel.die_alike()

    # -- requests

    def _on_requests(self) -> None:
        while True:
            request = self._channel.receive()
            if request is None:
                self._kernel.kill()
                os._exit(0)
            self._on_request(request)
            if not self._channel.has_request:
                return

    def _on_request(self, request: Request) -> None:
        for fd in request.descriptors:  # the kernel has its own, which we read
            os.close(fd)
        frame, meta = request.frame, read_json(request.frame)
        pending = self._pending[frame.cell] = Pending(frame.kind, frame.cell, meta)
        self._latest = max(self._latest, frame.cell)
        if self._connection.shell.unsent_bytes > MAX_UNSENT_BYTES:
            pending.content = {"status": "error", "ename": "KernelStuck"}
            pending.content["evalue"] = "The kernel does not read its requests. Restart it."
            pending.is_idle = True
        else:
            self._ask(pending, frame)
        if frame.kind == Kind.EXECUTE:
            self._begin(pending)

    def _begin(self, pending: Pending) -> None:
        self._current = pending
        self._question = None
        self._is_interrupted = self._has_refused = self._is_early = False
        self._interrupt_s = _NEVER
        self._outlet.has_error = False

    def _ask(self, pending: Pending, frame: Frame) -> None:
        buffers: List[bytes] = []
        metadata: Json = {}
        if frame.kind == Kind.EXECUTE:
            kind, content = "execute_request", translation.execution(pending.meta, frame.data)
        elif frame.kind == Kind.COMM:
            kind, content, buffers = translation.comm(pending.meta, frame.data)
            metadata = pending.meta.get("metadata") or {}
        elif frame.kind == Kind.ATTACH:
            code = translation.attachment(pending.meta, self._command.attach)
            kind, content = "execute_request", translation.silent(code)
            if not code:
                pending.content = {"status": "ok"}
                return
        else:
            kind, content = translation.request(frame.kind, pending.meta, frame.data)
        message_id = "%s-%d" % (self._session, frame.cell)
        parts = self._wire.encode(kind, message_id, content, metadata=metadata, buffers=buffers)
        self._connection.shell.send(parts)

    def _on_answers(self) -> None:
        try:
            chunk = os.read(self._inputs, 65536)
            frames = self._answers.feed(chunk)
        except (BlockingIOError, FramingError):
            return
        for frame in frames:
            current = self._current
            if current is not None and current.cell == frame.cell:
                self._answer(frame.data.decode("utf-8", "replace"))

    def _answer(self, text: str) -> None:
        question, self._question = self._question, None
        if question is not None:
            message_id = "%s-%d" % (self._session, self._latest)
            content: Json = {"value": text, "status": "ok"}
            parts = self._wire.encode("input_reply", message_id, content, parent=question)
            self._connection.stdin.send(parts)

    # -- interrupts

    def _on_interrupt(self) -> None:
        """The kernel has heard SIGINT itself, unless it is one that must not."""
        current = self._current
        if current is None:
            return
        self._is_interrupted = True
        self._is_early = not current.is_begun
        if self._command.is_interrupted_by_message:
            self._send_interrupt()

    def _send_interrupt(self) -> None:
        parts = self._wire.encode("interrupt_request", self._session + "-0", {})
        self._connection.control.send(parts)

    def _note_begun(self, pending: Pending) -> None:
        if not pending.is_begun:
            pending.is_begun = True
            if pending is self._current and self._is_early:
                self._interrupt_s = time.monotonic() + _BEGIN_S

    def _repeat_interrupt(self) -> None:
        self._interrupt_s = _NEVER
        if self._current is None:
            return
        if self._command.is_interrupted_by_message:
            self._send_interrupt()
            return
        with suppress(OSError):
            os.kill(self._kernel.pid, signal.SIGINT)

    # -- what the kernel says

    def _on_output(self, ready: "set[int]") -> None:
        connection = self._connection
        for peer in connection.peers.values():
            if peer.unsent_bytes and peer.fileno() in ready:
                peer.flush()
        if ready.intersection(self._pipes):
            self._read_pipes()
        # Questions and answers come after what was shown before them.
        others = [
            (connection.stdin, self._on_stdin),
            (connection.shell, self._on_shell),
            (connection.control, self._on_control),
        ]
        is_told = any(peer.fileno() in ready for peer, _ in others)
        if is_told or connection.iopub.fileno() in ready:
            self._read(connection.iopub, self._on_iopub)
        for peer, handle in others:
            if peer.fileno() in ready:
                self._read(peer, handle)
        self._outlet.flush()
        if all(peer.is_closed for peer in connection.peers.values()):
            self._kernel.kill()  # a kernel that closed its sockets is of no use

    def _read_pipes(self) -> int:
        total = 0
        for fd, kind in list(self._pipes.items()):
            content = self._kernel.read(fd)
            total += len(content)
            if content and self._command.has_own_output:
                self._last_words = (self._last_words + content)[-_LAST_WORDS_BYTES:]
            elif content:
                self._outlet.text(self._latest_cell(), kind, content)
            elif self._is_at_end(fd):
                del self._pipes[fd]
                os.close(fd)
        return total

    def _is_at_end(self, fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _latest_cell(self) -> int:
        """Whose a text is that names no cell: the one that runs, or the last request's."""
        return self._current.cell if self._current is not None else self._latest

    def _read(self, peer: Peer, handle: Any) -> int:
        messages = peer.receive()
        with self._outlet.keeping_up(len(messages)):
            for parts in messages:
                if isinstance(parts, Skipped):
                    self._outlet.refuse(self._latest_cell(), parts.size)
                    continue
                message = self._wire.decode(parts)
                if message is not None:
                    handle(message)
        return len(messages)

    def _request_of(self, message: Message) -> int:
        """The number of the request of ours that a message answers; 0 for none."""
        session, _, number = message.parent_id.rpartition("-")
        if session == self._session and number.isdigit() and len(number) < 11:
            cell = int(number)
            if cell <= self._latest:
                return cell
        return 0

    def _on_iopub(self, message: Message) -> None:
        if message.kind == "status":
            self._on_status(message)
            return
        cell = self._request_of(message) or self._latest_cell()
        pending = self._pending.get(cell)
        if pending is not None:
            self._note_begun(pending)
            if pending.is_fencing and message.kind in _OF_FENCES:
                pending.is_fenced = True
                return
            if pending.due_s != _NEVER:  # more may come as long as something does
                pending.due_s = time.monotonic() + _IDLE_WAIT_S
        if message.kind == "stream":
            text = translation.stream(message)
            if text is not None:
                self._outlet.text(cell, *text)
            return
        output = translation.output(message)
        if output is not None:
            self._outlet.send(cell, *output)

    def _on_status(self, message: Message) -> None:
        pending = self._pending.get(self._request_of(message))
        if pending is None:
            return
        self._note_begun(pending)
        if message.content.get("execution_state") == "idle":
            pending.is_idle = True
            if pending.content is None:
                pending.due_s = time.monotonic() + _ANSWER_WAIT_S

    def _on_shell(self, message: Message) -> None:
        cell = self._request_of(message)
        pending = self._pending.get(cell)
        if pending is None or pending.content is not None:
            return
        pending.content = message.content
        pending.due_s = time.monotonic() + _IDLE_WAIT_S
        # One thing after the other: what was asked before this is over.
        for earlier in self._pending.values():
            if earlier.kind == Kind.COMM and earlier.cell < cell:
                earlier.is_idle = True

    def _on_control(self, message: Message) -> None:
        """Answers to interrupts, which say nothing that the cell's end doesn't."""

    def _on_stdin(self, message: Message) -> None:
        if message.kind != "input_request" or self._current is None:
            return
        self._question = message.header
        if self._current.meta.get("allow_stdin"):
            question = translation.question(message)
            self._outlet.send(self._current.cell, Kind.INPUT_REQUEST, question, b"")
            return
        if not self._has_refused:
            self._has_refused = True
            self._outlet.note(
                self._current.cell,
                "The cell asked for input, and this client cannot answer questions: "
                "it was given an empty line.",
            )
        self._answer("")

    # -- replies

    def _settle(self) -> None:
        """Reply to what is over, and to what has been waited for long enough."""
        now_s = time.monotonic()
        if now_s >= self._interrupt_s:
            self._repeat_interrupt()
        done = [one for one in self._pending.values() if one.is_over or now_s >= one.due_s]
        for pending in done:
            if pending.kind == Kind.EXECUTE:
                if self._is_fenced(pending, now_s):
                    continue
                self._finish(pending)
            else:
                content = translation.reply(pending.kind, pending.content or {}, pending.meta)
                self._outlet.reply(pending.cell, content)
            del self._pending[pending.cell]

    def _is_fenced(self, pending: Pending, now_s: float) -> bool:
        """Whether a cell that is over has to wait for what it showed."""
        if not self._command.fence or pending.is_fenced:
            return False
        if not pending.is_fencing:
            pending.is_fencing = True
            pending.due_s = now_s + _IDLE_WAIT_S
            # Under the cell's own number: what comes late is taken for the latest request's.
            message_id = "%s-%d" % (self._session, pending.cell)
            content = translation.silent(self._command.fence)
            self._connection.shell.send(self._wire.encode("execute_request", message_id, content))
        return now_s < pending.due_s

    def _finish(self, pending: Pending) -> None:
        """The end of a cell: what its processes wrote, the reason of a failure, the reply."""
        self._read_pipes()
        self._last_words = b""
        content: Dict[str, Any] = pending.content or {"status": "error"}
        if content.get("status") != "ok" and not self._outlet.has_error:
            self._outlet.send(pending.cell, Kind.ERROR, self._explain(content), b"")
        if translation.asks_to_quit(content):
            self._quit()
        asked = pending.meta.get("user_expressions")
        self._outlet.reply(pending.cell, translation.execute_reply(content, asked))
        self._current = None

    def _quit(self) -> None:
        """Some kernels end at a cell's `exit`, some leave that to their console: to us.

        Without a reply, so that the next cell is the next kernel's for certain, and the
        supervisor tells what is lost.
        """
        self._outlet.flush()
        end_s = time.monotonic() + _QUIT_WAIT_S
        while not self._kernel.reap() and time.monotonic() < end_s:
            select.select([self._wakeup], [], [], max(end_s - time.monotonic(), 0.0))
            with suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
        self._kernel.kill()
        os._exit(0)

    def _explain(self, content: Json) -> Json:
        if self._is_interrupted:
            return translation.failure("Interrupted", "The cell was interrupted.")
        if "ename" in content:
            return translation.failure_of(content)
        return translation.failure("CellError", "The kernel says that the cell failed, not why.")
