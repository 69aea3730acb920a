"""stdin and stdout: the protocol's alone, and the end of everything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.mcp_servers import COMMAND, environment, sandboxes_below, temporary
from tests.support.processes import alive
from tests.support.traces import Traces
from tests.support.waiting import DEADLINE_S, until

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Raw:
    """A server, spoken to by lines."""

    def __init__(self, **variables: str) -> None:
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**variables),
        )
        self._number = 0

    def send(self, method: str, params: Any = None, *, is_request: bool = True) -> int:
        self._number += 1
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        self.line(json.dumps(message | ({"id": self._number} if is_request else {})))
        return self._number

    def line(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def answer(self, number: int) -> Any:
        while True:
            message = json.loads(self.read())
            if message.get("id") == number:
                return message

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "The server has closed its stdout."
        return line

    def greet(self) -> None:
        self.answer(self.send("initialize", HELLO))
        self.send("notifications/initialized", is_request=False)

    def run(self, code: str) -> Any:
        arguments = {"name": "run_code", "arguments": {"code": code}}
        return self.answer(self.send("tools/call", arguments))["result"]


@pytest.fixture
def raw() -> Iterator[Raw]:
    server = Raw()
    yield server
    end(server)


def end(server: Raw) -> None:
    server.process.kill()
    server.process.wait()
    for pipe in (server.process.stdin, server.process.stdout, server.process.stderr):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def test_every_line_on_stdout_is_the_protocols(raw: Raw):
    """Code that prints, floods descriptors 1 and 2 and forges an answer: `answer` parses all."""
    raw.greet()
    forged = json.dumps({"jsonrpc": "2.0", "id": 99, "result": {}})
    code = (
        f"import os, sys\nprint({forged!r}, flush=True)\nos.write(1, b'raw\\n')\n"
        f"os.write(2, b'raw\\n')\nsys.__stdout__.write('x'); os.system('echo from a shell')"
    )
    assert "from a shell" in raw.run(code)["structuredContent"]["stdout"]
    assert raw.process.stdin is not None
    raw.process.stdin.close()
    assert raw.process.stdout is not None
    for line in raw.process.stdout:
        assert json.loads(line)["jsonrpc"] == "2.0"


def test_what_is_no_message_does_not_end_it(raw: Raw):
    raw.greet()
    for line in ["", "{", "null", "[]", '{"jsonrpc":"1.0"}', "[" * 10_000, "\x00", '"\ud7ff"']:
        raw.line(line)
    assert raw.run("1 + 1")["structuredContent"]["value"] == "2"


def test_before_the_handshake_nothing_is_run(raw: Raw):
    call = {"name": "run_code", "arguments": {"code": "1"}}
    assert "error" in raw.answer(raw.send("tools/call", call))
    assert not sandboxes_below(raw.process.pid)


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_end_of_stdin_ends_everything(raw: Raw, is_busy: bool):
    raw.greet()
    raw.run("1")
    if is_busy:
        call = {"name": "run_code", "arguments": {"code": "while True: pass"}}
        raw.send("tools/call", call)
        raw.answer(raw.send("tools/list"))
    below = sandboxes_below(raw.process.pid)
    assert below
    assert raw.process.stdin is not None
    raw.process.stdin.close()
    assert raw.process.wait(DEADLINE_S) == 0
    until(lambda: not alive(below), "its sandboxes to be gone")


def test_it_ends_although_nobody_reads_its_stdout(raw: Raw):
    """A client that hangs, and closes stdin: no thread and no full pipe keeps the sandboxes."""
    raw.greet()
    raw.run("1")
    below = sandboxes_below(raw.process.pid)
    assert below
    for _ in range(40):
        raw.send("tools/list")
    assert raw.process.stdin is not None
    raw.process.stdin.close()
    assert raw.process.wait(DEADLINE_S) == 0
    until(lambda: not alive(below), "its sandboxes to be gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_stdin_is_open(raw: Raw, number: int):
    raw.greet()
    raw.run("1")
    below = sandboxes_below(raw.process.pid)
    raw.process.send_signal(number)
    assert raw.process.wait(DEADLINE_S) == 0
    until(lambda: not alive(below), "its sandboxes to be gone")


@pytest.mark.parametrize("code", ["1", "import time; print('on', flush=True); time.sleep(3600)"])
def test_kill_9_of_the_server_leaves_nothing(tmp_path: Path, code: str):
    temporary_path = tmp_path / "tmp"
    server = Raw(**temporary(temporary_path))
    traces = Traces(server.process.pid, temporary_path)
    try:
        server.greet()
        if code == "1":
            server.run(code)
        else:
            call = {"name": "run_code", "arguments": {"code": code}, "_meta": {"progressToken": 7}}
            server.send("tools/call", call)
            while "notifications/progress" not in server.read():
                pass
        traces.look()
        assert traces.count > 1
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        until(lambda: not traces.left(), "what it had made to be gone")
    finally:
        traces.end()
        end(server)


def test_a_file_as_stdin_is_read_to_its_end(tmp_path: Path):
    script = tmp_path / "in.jsonl"
    script.write_text(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize"}) + "\n")
    with script.open() as stdin, (tmp_path / "out").open("w+") as stdout:
        done = subprocess.run(
            COMMAND, stdin=stdin, stdout=stdout, timeout=DEADLINE_S, env=environment()
        )
        stdout.seek(0)
        answers = [json.loads(line) for line in stdout]
    assert done.returncode == 0
    assert [answer["id"] for answer in answers] == [1]


def test_no_stdin_at_all_ends_at_once():
    done = subprocess.run(
        COMMAND, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_that_is_far_too_long_is_said_on_stderr(raw: Raw):
    raw.greet()
    with contextlib.suppress(BrokenPipeError):
        raw.line("x" * (33 * 1024**2))
    _, said = raw.process.communicate(timeout=DEADLINE_S)
    assert "A message is longer than" in said
    assert not psutil.pid_exists(raw.process.pid) or raw.process.poll() == 0
