"""A kernel process and the least client that measures it: raw sockets, one thread.

Rule 1: both kernels are started and asked in exactly the same way.
Rule 2: a process that was started here is ended here, by its own id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

from sandbox_kernel.errors import SandboxKernelError

# Longer than any of the measurements on a slow machine; a hang still ends.
PATIENCE_S = 60.0
# libzmq waits 100 ms between attempts to connect, which would be what we measure.
_RECONNECT_MS = 2

Message = dict[str, Any]


class KernelSilent(SandboxKernelError):
    """A kernel did not answer in time. Remedy: run it alone and read its log."""


class Contender(NamedTuple):
    """One side of the comparison: an installed kernelspec."""

    label: str
    argv: list[str]
    interrupt_mode: str
    environment: dict[str, str]


def contender(label: str, kernel_name: str) -> Contender:
    """The installed kernelspec `kernel_name`.

    Raises:
        SandboxKernelError: it isn't installed; the message has the command that does it.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec(kernel_name)
    except NoSuchKernel:
        command = f"sandbox-kernel install --name {kernel_name}"
        raise SandboxKernelError(
            f"There is no kernel {kernel_name!r} to measure. Install it with: {command}"
        ) from None
    argv = [
        sys.executable if item == "python" and not at else item for at, item in enumerate(spec.argv)
    ]
    return Contender(label, argv, spec.interrupt_mode, dict(spec.env))


class Kernel:
    """A started kernel with connected sockets. `started` is the time just before Popen."""

    def __init__(self, side: Contender, directory: Path, environment: dict[str, str]) -> None:
        self.side = side
        self.session = Session(key=os.urandom(16).hex().encode(), username="bench")
        self._directory = directory
        self._context = zmq.Context()
        self._context.linger = 0
        self._path, self._connection = write_connection_file(
            str(directory / "connection.json"),
            ip="127.0.0.1",
            key=self.session.key,
            kernel_name="bench",
        )
        self.shell = self._connect(zmq.DEALER, "shell")
        self.iopub = self._connect(zmq.SUB, "iopub")
        self.iopub.subscribe(b"")
        self.control = self._connect(zmq.DEALER, "control")
        self.log = open(directory / "log", "w+b")  # noqa: SIM115 - closed by close()
        self.process = self._start(environment)

    def _connect(self, kind: int, name: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.IDENTITY, self.session.session.encode())
        socket.connect(f"tcp://127.0.0.1:{self._connection[f'{name}_port']}")
        return socket

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        argv = [item.replace("{connection_file}", self._path) for item in self.side.argv]
        variables = {**os.environ, **self.side.environment, **environment}
        # Installed packages have byte code; a checkout gets it on the warm-up's start.
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        self.started = time.perf_counter()
        return subprocess.Popen(
            argv,
            env=variables,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    # -- messages ----------------------------------------------------------------

    def send(self, socket: zmq.Socket[bytes], kind: str, content: Message) -> str:
        """Send a request; gives its id."""
        message = self.session.send(socket, kind, content)
        return str(message["header"]["msg_id"])

    def execute(self, code: str, **options: Any) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True, **options}
        return self.send(self.shell, "execute_request", content)

    def receive(self, *sockets: zmq.Socket[bytes], timeout_s: float = PATIENCE_S) -> Message:
        """The next message of any of `sockets`.

        Raises:
            KernelSilent: none came in time, or the kernel ended.
        """
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        ready = self._poll(poller, timeout_s)
        for socket in sockets:
            if socket in ready:
                frames = socket.recv_multipart()
                _, parts = self.session.feed_identities(frames)
                return dict(self.session.deserialize(parts))
        raise KernelSilent(
            f"{self.side.label} sent nothing for {timeout_s:g} s or ended. "
            f"Its log ends with: {self.last_words()}"
        )

    def _poll(self, poller: zmq.Poller, timeout_s: float) -> dict[Any, int]:
        """Sockets with messages; none when time is up or the kernel is gone."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            ready = poller.poll(int(min(left, 1) * 1000) + 1)
            if ready or self.process.poll() is not None:
                return dict(ready)
        return {}

    def last_words(self) -> str:
        return (self._directory / "log").read_bytes()[-2000:].decode(errors="replace").strip()

    def reply(self, socket: zmq.Socket[bytes], request: str) -> Message:
        """The reply to `request`; others are passed over."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(socket, timeout_s=left)
            if message["parent_header"].get("msg_id") == request:
                return message
        raise KernelSilent(f"{self.side.label} did not reply to a request.")

    def wait_idle(self, request: str, take: Callable[[Message], None] | None = None) -> float:
        """Read iopub until `request` is idle; the time at which it was. `take` sees all else."""
        while True:
            message = self.receive(self.iopub)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["content"].get("execution_state") == "idle":
                return time.perf_counter()
            if take is not None:
                take(message)

    def run(self, code: str, take: Callable[[Message], None] | None = None) -> float:
        """Run a cell to its end; seconds from sending it to its idle and its reply.

        Raises:
            SandboxKernelError: the cell failed.
        """
        begun = time.perf_counter()
        request = self.execute(code)
        self.wait_idle(request, take)
        reply = self.reply(self.shell, request)
        ended = time.perf_counter()
        if reply["content"]["status"] != "ok":
            raise SandboxKernelError(
                f"{self.side.label} failed to run {code[:60]!r}: "
                f"{reply['content'].get('evalue', reply['content']['status'])}"
            )
        return ended - begun

    def ready(self) -> None:
        """Wait for kernel_info and for iopub, as front ends do, then run one empty cell."""
        self.reply(self.shell, self.send(self.shell, "kernel_info_request", {}))
        self.nudge()
        self.run("pass")

    def nudge(self) -> None:
        """Ask until something arrives on iopub: a subscription takes a moment to be known."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.send(self.control, "kernel_info_request", {})
            with contextlib.suppress(KernelSilent):
                self.receive(self.iopub, timeout_s=0.05)
                return
        raise KernelSilent(f"{self.side.label} published nothing. {self.last_words()}")

    # -- ending ------------------------------------------------------------------

    def interrupt(self) -> None:
        """As jupyter_client would for this kernelspec."""
        if self.side.interrupt_mode == "message":
            self.send(self.control, "interrupt_request", {})
        else:
            os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """End it, kindly first."""
        if self.process.poll() is None:
            self.send(self.control, "shutdown_request", {"restart": False})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        # The group is ours: the process leads its own session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        self._context.destroy(linger=0)


@contextlib.contextmanager
def started(side: Contender, **environment: str) -> Iterator[Kernel]:
    """A fresh kernel, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sandbox-kernel-bench-") as directory:
        kernel = Kernel(side, Path(directory), environment)
        try:
            yield kernel
        finally:
            kernel.close()


@contextlib.contextmanager
def fresh_session(side: Contender, **environment: str) -> Iterator[Kernel]:
    """A kernel that has run one empty cell: a notebook just opened."""
    with started(side, **environment) as kernel:
        kernel.ready()
        yield kernel
