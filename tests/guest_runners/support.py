"""A supervisor's half of the conversation with a runner, for tests.

It makes the two socket pairs and, for every EXECUTE, the two pipes, as the real one does,
and sorts what comes back by cell.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_kernel.guest import framing
from sandbox_kernel.guest.framing import RUNNER_KINDS, Decoder, Frame, Kind

MAIN = Path(framing.__file__).parent / "runners" / "python" / "__main__.py"
# Generous: the machines that run this are shared and slow, and stand still now and then.
DEADLINE_S = 60.0


@dataclass
class Cell:
    """All that came back for one request, so far."""

    frames: list[Frame] = field(default_factory=list)
    pipes: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))

    def of(self, kind: int) -> list[Frame]:
        return [frame for frame in self.frames if frame.kind == kind]

    def metas(self, kind: int) -> list[dict[str, Any]]:
        return [json.loads(frame.meta) if frame.meta else {} for frame in self.of(kind)]

    def _text(self, kind: int) -> str:
        return b"".join(frame.data for frame in self.of(kind)).decode()

    @property
    def stdout(self) -> str:
        return self._text(Kind.STDOUT)

    @property
    def stderr(self) -> str:
        return self._text(Kind.STDERR)

    @property
    def piped(self) -> str:
        return self.pipes[0].decode()

    @property
    def piped_errors(self) -> str:
        return self.pipes[1].decode()

    @property
    def displays(self) -> list[dict[str, Any]]:
        return self.metas(Kind.DISPLAY)

    @property
    def result(self) -> str | None:
        """The plain text of the only result, or None."""
        results = self.metas(Kind.RESULT)
        assert len(results) < 2
        return results[0]["data"]["text/plain"] if results else None

    @property
    def error(self) -> dict[str, Any]:
        """The only error."""
        (error,) = self.metas(Kind.ERROR)
        return error

    @property
    def is_answered(self) -> bool:
        return any(frame.kind == Kind.REPLY for frame in self.frames)

    @property
    def reply(self) -> dict[str, Any]:
        (reply,) = self.metas(Kind.REPLY)
        return reply

    @property
    def kinds(self) -> list[int]:
        """The kinds of all frames, of text in several pieces one: a slow printer is met midway."""
        return [kind for kind, _ in self.told]

    @property
    def told(self) -> list[tuple[int, bytes]]:
        """(kind, data) of all frames, neighbours of the same stream as one."""
        found: list[tuple[int, bytes]] = []
        for frame in self.frames:
            data = frame.data
            if found and frame.kind in (Kind.STDOUT, Kind.STDERR) and found[-1][0] == frame.kind:
                data = found.pop()[1] + data
            found.append((frame.kind, data))
        return found


class Runner:
    """A runner process and the supervisor's ends of its sockets and pipes."""

    def __init__(
        self,
        python: str,
        cwd: Path,
        environment: dict[str, str],
        arguments: tuple[str, ...] = (),
        *,
        main: Path = MAIN,
        main_arguments: tuple[str, ...] = (),
    ) -> None:
        ours, theirs = socket.socketpair()
        self._input, their_input = socket.socketpair()
        self._socket = ours
        passed = (theirs.fileno(), their_input.fileno())
        self.process = subprocess.Popen(
            [python, *arguments, str(main), *main_arguments],
            cwd=cwd,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(cwd),
                "SANDBOX_RUNNER_FD": str(passed[0]),
                "SANDBOX_INPUT_FD": str(passed[1]),
                **environment,
            },
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        their_input.close()
        self._decoder = Decoder(RUNNER_KINDS)
        self._pipes: dict[int, bytearray] = {}
        self.cells: dict[int, Cell] = {0: Cell()}
        self.latest = 0
        self.count = 0
        self.is_gone = False
        self.wait_for(lambda: bool(self.cells[0].of(Kind.RUNNER_READY)))
        self.info = self.cells[0].metas(Kind.RUNNER_READY)[0]

    # Requests

    def request(self, kind: int, data: bytes = b"", meta: dict[str, Any] | None = None) -> Cell:
        """Send a request; returns the cell that its answers will be in."""
        self.latest += 1
        cell = self.cells[self.latest] = Cell()
        self._socket.sendall(framing.pack(kind, self.latest, meta, data))
        return cell

    def begin(self, code: str, **meta: Any) -> Cell:
        """Send a cell, and go on without waiting for its end."""
        self.count += 1
        self.latest += 1
        cell = self.cells[self.latest] = Cell()
        defaults = {
            "silent": False,
            "store_history": True,
            "allow_stdin": False,
            "user_expressions": {},
            "execution_count": self.count,
        }
        content = framing.pack(Kind.EXECUTE, self.latest, {**defaults, **meta}, code.encode())
        ends = [os.pipe(), os.pipe()]
        for buffer, (read_end, _) in zip(cell.pipes, ends, strict=True):
            self._pipes[read_end] = buffer
        socket.send_fds(self._socket, [content[:1]], [write_end for _, write_end in ends])
        self._socket.sendall(content[1:])
        for _, write_end in ends:
            os.close(write_end)
        return cell

    def execute(self, code: str, **meta: Any) -> Cell:
        """Run a cell to its end."""
        return self.finish(self.begin(code, **meta))

    def ask(self, kind: int, code: str, **meta: Any) -> dict[str, Any]:
        """Send a request that is no cell and return its reply."""
        return self.finish(self.request(kind, code.encode(), meta)).reply

    def finish(self, cell: Cell) -> Cell:
        """Wait for the cell's reply, then take what its pipes hold."""
        self.wait_for(lambda: cell.is_answered)
        self.take()
        return cell

    def take(self) -> None:
        """Read what has arrived, without waiting."""
        while self._pump(0):
            pass

    def answer(self, text: str, cell: int | None = None) -> None:
        """Reply to an input request."""
        number = self.latest if cell is None else cell
        self._input.sendall(framing.pack(Kind.INPUT_REPLY, number, None, text.encode()))

    def interrupt(self) -> None:
        """SIGINT to the process group, as the supervisor does."""
        os.killpg(self.process.pid, signal.SIGINT)

    # What comes back

    def wait_for(self, condition: Any, deadline_s: float = DEADLINE_S) -> None:
        """Read until `condition()`; fails when that takes too long or cannot come about."""
        end = time.monotonic() + deadline_s
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"nothing came in {deadline_s} s; so far: {self.cells[self.latest]}"
            self._pump(left)
            assert not self.is_gone or condition(), "the runner is gone"

    def _pump(self, timeout_s: float) -> bool:
        """Read what is there; waits for at most `timeout_s`. Whether anything came."""
        poll = select.poll()
        for descriptor in [*self._pipes, *([] if self.is_gone else [self._socket.fileno()])]:
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(timeout_s * 1000)
        for descriptor, _ in ready:
            if descriptor == self._socket.fileno():
                self._read_frames()
            else:
                self._read_pipe(descriptor)
        return bool(ready)

    def _read_frames(self) -> None:
        try:
            chunk = self._socket.recv(2**20)
        except ConnectionError:
            chunk = b""
        if not chunk:
            self.is_gone = True
        for frame in self._decoder.feed(chunk):
            self.cells.setdefault(frame.cell, Cell()).frames.append(frame)

    def _read_pipe(self, descriptor: int) -> None:
        chunk = os.read(descriptor, 65536)
        self._pipes[descriptor] += chunk
        if not chunk:
            os.close(descriptor)
            del self._pipes[descriptor]

    def close(self) -> None:
        """End it and everything that it started."""
        self._socket.close()
        self._input.close()
        for descriptor in self._pipes:
            os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def old_python() -> str | None:
    """The oldest Python that runners support, if this machine has it without IPython."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.8"), *glob.glob(f"{home}/versions/3.8.*/bin/python3.8")]
    check = "import sys, importlib.util as u; sys.exit(u.find_spec('IPython') is not None)"
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", check], check=False).returncode == 0:
            return candidate
    return None


def this_python() -> str:
    """The one that runs the tests, or SANDBOX_TEST_PYTHON; its environment has IPython."""
    return os.environ.get("SANDBOX_TEST_PYTHON", sys.executable)
