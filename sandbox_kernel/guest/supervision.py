"""The supervisor's event loop: the host on one side, runners on the other.

Rule 1: one thread, and nothing in it waits but `poll`. Neither a runner that doesn't
read nor a host that doesn't keeps the other's requests from being served.
Rule 2: when much waits for the host, runners and pipes are not read (they wait in turn);
the host always is, so that a signal or a restart gets through.
Rule 3: there is always a main runner, or the news that there cannot be one.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

    from sandbox_kernel.guest import processes
    from sandbox_kernel.guest.commons import Commons
    from sandbox_kernel.guest.configuration import Configuration
    from sandbox_kernel.guest.ensemble import Ensemble, RequestRefused
    from sandbox_kernel.guest.files import FILE_KINDS, answer_file_request
    from sandbox_kernel.guest.framing import REQUEST_KINDS, Decoder, Frame, FramingError, Kind
    from sandbox_kernel.guest.home import furnish
    from sandbox_kernel.guest.outbox import Outbox
    from sandbox_kernel.guest.ports import Ports
    from sandbox_kernel.guest.processes import Runner
    from sandbox_kernel.guest.usage import file_system_use, memory_bytes
    from sandbox_kernel.guest.workspace import FileRefused, Workspace
else:
    import _signal as signal

    import processes
    from commons import Commons
    from ensemble import Ensemble, RequestRefused
    from files import FILE_KINDS, answer_file_request
    from framing import REQUEST_KINDS, Decoder, FramingError, Kind
    from home import furnish
    from outbox import Outbox
    from usage import file_system_use, memory_bytes
    from workspace import FileRefused, Workspace

# Below what makes `malloc` map fresh pages for every read.
_READ_BYTES = 64 * 1024
_F_SETPIPE_SZ = 1031
_STREAM_PIPE_BYTES = 1024 * 1024
_SIGNALS = {
    "SIGINT": int(signal.SIGINT),
    "SIGTERM": int(signal.SIGTERM),
    "SIGKILL": int(signal.SIGKILL),
}
_PORT_KINDS = frozenset((Kind.PORT_OPEN, Kind.PORT_DATA, Kind.PORT_CLOSE, Kind.PORT_CREDIT))
_RUNNER_KINDS = frozenset((Kind.EXECUTE, Kind.COMPLETE, Kind.INSPECT, Kind.IS_COMPLETE, Kind.COMM))


class Supervisor:
    """Everything in one place: who is listened to, and who handles what arrives."""

    def __init__(
        self, configuration: Configuration, runner: Runner, host_in: int, host_out: int
    ) -> None:
        self._started_s = time.monotonic()
        self._poller = select.epoll()
        self._host_in, self._host_out = host_in, host_out
        self._decoder = Decoder(REQUEST_KINDS)
        self._outbox = Outbox(host_out)
        self._workspace = Workspace(configuration.workspace)
        commons = Commons(configuration, self._outbox, self._poller, self._workspace)
        self._streams = commons.streams
        self._runners = Ensemble(configuration, commons)
        self._ports: "Ports | None" = None  # until the host opens one
        self._is_writing = False
        self._is_closed = False
        self._child_fd = self._watch_children()
        self._prepare_stream()
        furnish(os.environ.get("HOME", "/nonexistent"))
        self._runners.main.life.adopt(runner)

    def run(self) -> None:
        """Serve until the host closes its end; then everything inside is killed."""
        try:
            self._runners.reap()  # who died before anybody was told of it
            while not self._is_closed:
                self._step()
        except BrokenPipeError:
            pass  # the host is gone
        finally:
            self._runners.kill_all()

    def _step(self) -> None:
        self._runners.advance(time.monotonic())
        self._outbox.flush()
        self._listen()
        for fd, events in self._poller.poll(self._timeout_s()):
            self._handle(fd, events)

    def _timeout_s(self) -> float:
        due_s = min(self._streams.next_due_s(), self._runners.next_due_s())
        if due_s == float("inf"):
            return -1.0
        # `poll` counts in milliseconds: rounded up it never spins before the time.
        return max(due_s - time.monotonic(), 0.0) + 0.0005

    def _handle(self, fd: int, events: int) -> None:
        if self._streams.owns(fd):
            self._streams.on_readable(fd, time.monotonic())
        elif fd == self._host_in:
            self._on_host()
        elif fd == self._child_fd:
            _read_all(fd)
            self._runners.reap()
        elif self._ports is not None and self._ports.owns(fd):
            self._ports.on_event(fd)
        elif fd != self._host_out:
            self._on_runner(fd, events)
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self._is_closed = True

    # -- who is listened to

    def _listen(self) -> None:
        """Tell the poller what is worth waking up for. Most times nothing has changed."""
        self._streams.wake(time.monotonic())
        is_full = self._outbox.is_full or self._runners.is_ending
        self._streams.pause(is_full)
        self._runners.listen(is_full)
        if self._ports is not None:
            self._ports.listen()
        if self._outbox.is_stuck != self._is_writing:
            self._is_writing = self._outbox.is_stuck
            mask = select.EPOLLOUT if self._is_writing else 0
            self._poller.modify(self._host_out, mask)

    # -- what arrives

    def _on_runner(self, fd: int, events: int) -> None:
        seat = self._runners.find(fd)
        if seat is None:
            return
        if events & select.EPOLLOUT:
            seat.talk.flush()
        if events & ~select.EPOLLOUT:
            seat.receive()

    def _on_host(self) -> None:
        try:
            chunk = os.read(self._host_in, _READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._is_closed = True
            return
        for frame in self._decoder.feed(chunk):
            try:
                self._on_request(frame)
            except (RequestRefused, FileRefused) as error:
                self._outbox.put_frame(Kind.REFUSAL, frame.cell, {"reason": str(error)})

    def _on_request(self, frame: Frame) -> None:
        """Do what the host asks. Raises `RequestRefused`, `FileRefused` with the reason."""
        kind = frame.kind
        if kind in _RUNNER_KINDS:
            self._runners.request(frame)
        elif kind == Kind.INPUT_REPLY:
            self._runners.answer_input(frame)
        elif kind == Kind.TOOL_REPLY:
            self._runners.pass_tool_reply(frame)
        elif kind == Kind.SIGNAL:
            self._on_signal(frame)
        elif kind == Kind.RESTART_RUNNER:
            self._runners.restart(frame)
        elif kind in FILE_KINDS:
            meta, data = answer_file_request(self._workspace, frame)
            self._outbox.put_frame(Kind.ANSWER, frame.cell, meta, data)
        elif kind == Kind.STATUS:
            self._outbox.put_frame(Kind.ANSWER, frame.cell, self._status())
        elif kind == Kind.ADD_RUNNER:
            self._runners.add(frame)
            self._outbox.put_frame(Kind.ANSWER, frame.cell, {})
        elif kind == Kind.ATTACH:
            self._runners.attach(frame)
        elif kind == Kind.TOOLS:
            self._runners.tell_tools(frame)
            self._outbox.put_frame(Kind.ANSWER, frame.cell, {})
        elif kind in _PORT_KINDS:
            self._on_port(frame)
        else:
            raise RequestRefused("CONFIGURE is the first frame only.")

    def _on_port(self, frame: Frame) -> None:
        if self._ports is None:
            from ports import Ports  # type: ignore[import-not-found]  # most sandboxes have none

            self._ports = Ports(self._outbox, self._poller)
        try:
            self._ports.request(frame)
        except FramingError as error:
            raise RequestRefused(str(error)) from None

    def _on_signal(self, frame: Frame) -> None:
        try:
            meta = frame.read_meta()
        except FramingError as error:
            raise RequestRefused(str(error)) from None
        name = meta.get("signal")
        number = _SIGNALS.get(name) if isinstance(name, str) else None
        if number is None:
            raise RequestRefused("There is no signal %r to send." % (name,))
        self._runners.signal(meta, number)

    def _status(self) -> "dict[str, object]":
        pids = self._runners.pids()
        _, used, inodes = file_system_use(self._workspace.fd)
        return {
            "processes": len(pids),
            "memory_bytes": memory_bytes(pids),
            "workspace_used_bytes": used,
            "workspace_inodes_used": inodes,
            "uptime_s": time.monotonic() - self._started_s,
            **self._runners.describe(),
        }

    # -- at the start

    def _watch_children(self) -> int:
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        processes.watch_children(write_fd)
        self._poller.register(read_fd, select.EPOLLIN)
        return read_fd

    def _prepare_stream(self) -> None:
        for fd in (self._host_in, self._host_out):
            os.set_blocking(fd, False)
        with suppress(OSError):  # a socket, or over the user's share: slower, no more
            fcntl.fcntl(self._host_out, _F_SETPIPE_SZ, _STREAM_PIPE_BYTES)
        self._poller.register(self._host_in, select.EPOLLIN)
        self._poller.register(self._host_out, 0)


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
