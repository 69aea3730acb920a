"""A supervisor under test: the real one, over pipes, with a scripted runner.

The runner executes the code it is sent, with `send` (any frame), `requests` (its socket)
and `cell` at hand, so a test's code is as faithful or as hostile as it likes.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandbox_kernel.guest import framing
from sandbox_kernel.guest.framing import RUNNER_KINDS, SUPERVISOR_KINDS, Decoder, Frame, Kind

SUPERVISOR = Path(framing.__file__).with_name("supervisor.py")
# A machine with two noisy cores stands still now and then.
DEADLINE_S = 60.0

LIMITS: dict[str, Any] = {
    "memory_bytes": 2 * 2**30,
    "cpus": 2.0,
    "processes": 4096,
    "workspace_bytes": 2**30,
    "workspace_inodes": 100_000,
    "open_files": 1024,
    "output_bytes": 2 * 2**20,
    "artifact_bytes": 10 * 2**20,
    "displays": 5000,
    "artifacts": 50,
}

PRELUDE = r"""
import array, json, os, signal, socket, struct, sys, threading, time

requests = socket.socket(fileno=int(os.environ.pop("SANDBOX_RUNNER_FD")))
inputs = socket.socket(fileno=int(os.environ.pop("SANDBOX_INPUT_FD")))
for sock in (requests, inputs):
    sock.set_inheritable(False)
HEADER = struct.Struct("!IBII")
(EXECUTE, COMPLETE, COMM) = (2, 3, 7)
(STDOUT, STDERR, DISPLAY, UPDATE_DISPLAY, CLEAR_OUTPUT, RESULT, ERROR, INPUT_REQUEST,
 COMM_OUT, REPLY, RUNNER_READY) = range(32, 43)
CELL_ENDED = 64

def frame(kind, cell=0, meta=None, data=b""):
    meta = json.dumps(meta).encode() if meta else b""
    return HEADER.pack(len(meta) + len(data), kind, cell, len(meta)) + meta + data

def send(*args, **named):
    requests.sendall(frame(*args, **named))

def read(sock, count, fds=None):
    content = b""
    while len(content) < count:
        chunk, ancillary, _, _ = sock.recvmsg(count - len(content), 64)
        for _, _, data in ancillary:
            fds.extend(array.array("i", data))
        if not chunk:
            os._exit(0)
        content += chunk
    return content

def receive(sock=requests):
    fds = []
    length, kind, cell, meta_length = HEADER.unpack(read(sock, HEADER.size, fds))
    body = read(sock, length, fds)
    return kind, cell, json.loads(body[:meta_length] or b"{}"), body[meta_length:], fds

def ask(prompt, cell):
    send(INPUT_REQUEST, cell, {"prompt": prompt, "password": False})
    return receive(inputs)[3].decode()

def execute(code, cell, namespace):
    try:
        exec(code, namespace)
    except BaseException as error:
        send(ERROR, cell, {"ename": type(error).__name__, "evalue": str(error), "traceback": []})
        return "error"
    return "ok"

def serve():
    namespace = dict(globals())
    send(RUNNER_READY, 0, {"implementation": "python", "version": "0", "banner": ""})
    while True:
        try:
            kind, cell, meta, data, fds = receive()
        except KeyboardInterrupt:
            continue
        if kind != EXECUTE:
            send(REPLY, cell, {"status": "ok", "kind": kind})
            continue
        for target, fd in zip((1, 2), fds):
            os.dup2(fd, target)
            os.close(fd)
        namespace["cell"] = cell
        status = execute(data.decode(), cell, namespace)
        sys.stdout.flush()
        send(REPLY, cell, {"status": status, "user_expressions": {}})
"""

FAITHFUL = PRELUDE + "\nserve()\n"


class Guest:
    """A running supervisor, and the host's end of its stream."""

    def __init__(self, command: list[str], directory: Path, **configuration: Any) -> None:
        self.workspace = directory / "workspace"
        self.workspace.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
        )
        self.frames: list[Frame] = []
        self.bytes_read = 0
        self._number = 0
        self._decoder = Decoder(RUNNER_KINDS | SUPERVISOR_KINDS)
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        limits = {**LIMITS, **configuration.pop("limits", {})}
        meta = {
            "language": "python",
            "environment": {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            "workspace": str(self.workspace),
            "watch_memory": False,
            "limits": limits,
            **configuration,
        }
        self.send(Kind.CONFIGURE, 0, meta)

    # -- host to guest

    def send(
        self, kind: int, cell: int = 0, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> None:
        self.send_bytes(framing.pack(kind, cell, meta, data))

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def number(self) -> int:
        self._number += 1
        return self._number

    def start(self, code: str, **meta: Any) -> int:
        """Send an EXECUTE; the cell's number."""
        cell = self.number()
        meta = {"silent": False, "execution_count": cell, **meta}
        self.send(Kind.EXECUTE, cell, meta, code.encode())
        return cell

    def request(self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b"") -> Frame:
        """Send a request and wait for what answers it."""
        cell = self.number()
        self.send(kind, cell, meta, data)
        ends = (Kind.ANSWER, Kind.REFUSAL, Kind.REPLY)
        return self.wait(lambda frame: frame.cell == cell and frame.kind in ends)

    def run(self, code: str, **meta: Any) -> Cell:
        """Execute `code` to its end."""
        return self.finish(self.start(code, **meta))

    def finish(self, cell: int) -> Cell:
        self.wait(lambda frame: frame.cell == cell and frame.kind == Kind.CELL_ENDED)
        return Cell([frame for frame in self.frames if frame.cell == cell])

    # -- guest to host

    def wait(self, is_wanted: Callable[[Frame], bool], deadline_s: float = DEADLINE_S) -> Frame:
        """The first frame, of all so far and to come, that is wanted."""
        seen = 0
        deadline_s += time.monotonic()
        while True:
            for frame in self.frames[seen:]:
                if is_wanted(frame):
                    return frame
            seen = len(self.frames)
            if not self._read(deadline_s - time.monotonic()):
                raise AssertionError(f"The frame never came; there are {self.describe()}")

    def wait_kind(self, kind: int, count: int = 1, **expected: Any) -> Frame:
        """The `count`th frame of a kind, with this metadata."""

        def is_wanted(frame: Frame) -> bool:
            nonlocal count
            if frame.kind != kind:
                return False
            meta = frame.read_meta()
            count -= all(meta.get(name) == value for name, value in expected.items())
            return count == 0

        return self.wait(is_wanted)

    def of_kind(self, kind: int) -> list[Frame]:
        return [frame for frame in self.frames if frame.kind == kind]

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self._out], [], [], timeout_s)[0]:
            return False
        chunk = os.read(self._out, 1 << 20)
        self.bytes_read += len(chunk)
        self.frames += self._decoder.feed(chunk)
        return bool(chunk)

    def describe(self) -> str:
        if self.process.poll() is not None:
            return f"the supervisor's end: {self.wait_exit()}"
        return repr([(f.kind, f.cell, f.meta[:200], f.data[:50]) for f in self.frames[-20:]])

    # -- the end

    def close_stream(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_exit(self) -> tuple[int, str]:
        assert self.process.stderr is not None
        code = self.process.wait(DEADLINE_S)
        return code, self.process.stderr.read().decode()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()


class Cell:
    """All frames of one request, in order."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def data(self, kind: int) -> bytes:
        return b"".join(frame.data for frame in self.frames if frame.kind == kind)

    @property
    def stdout(self) -> bytes:
        return self.data(Kind.STDOUT)

    @property
    def stderr(self) -> bytes:
        return self.data(Kind.STDERR)

    @property
    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames]

    @property
    def end(self) -> dict[str, Any]:
        assert self.frames[-1].kind == Kind.CELL_ENDED
        return self.frames[-1].read_meta()

    @property
    def outcome(self) -> str:
        return str(self.end["outcome"])

    @property
    def files(self) -> dict[str, tuple[int, bool, bytes]]:
        """name -> (size, whole, content), in the order in which they were sent."""
        found = {}
        for frame in self.frames:
            if frame.kind == Kind.FILE_GENERATED:
                meta = frame.read_meta()
                found[meta["name"]] = (meta["size"], meta["whole"], frame.data)
        return found

    def notices(self) -> Iterator[dict[str, Any]]:
        for frame in self.frames:
            if frame.kind == Kind.OUTPUT_NOTICE:
                yield frame.read_meta()

    def notice(self, code: str) -> dict[str, Any]:
        found = [meta for meta in self.notices() if meta["code"] == code]
        assert len(found) == 1, list(self.notices())
        return found[0]


def poll(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """What `condition` returns, once it is true."""
    deadline_s += time.monotonic()
    while time.monotonic() < deadline_s:
        found = condition()
        if found:
            return found
        select.select([], [], [], 0.01)
    raise AssertionError("That never happened.")
