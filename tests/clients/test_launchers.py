"""Launchers without jupyter_client: the argv is started, raw sockets are spoken.

VS Code does it so: it writes the connection file itself, passes it as `--f=PATH`, has no
provisioner, and sends hidden start-up code. Also the transports: ipc and CURVE.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.kernelspec import get_kernel_spec

from tests.support.kernels import IS_OURS, KERNEL_NAME, Family
from tests.support.waiting import DEADLINE_S, until
from tests.support.wire import Wire

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def connection(tmp_path: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """A connection file as VS Code writes it, on free ports."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in CHANNELS]
    ports = {
        f"{channel}_port": holder.getsockname()[1]
        for channel, holder in zip(CHANNELS, holders, strict=True)
    }
    for holder in holders:
        holder.close()
    info = {
        "key": str(uuid.uuid4()),
        "signature_scheme": "hmac-sha256",
        "transport": "tcp",
        "ip": "127.0.0.1",
        "kernel_name": KERNEL_NAME,
        **ports,
        **changes,
    }
    path = tmp_path / f"kernel-v{uuid.uuid4().hex[:8]}.json"
    path.write_text(json.dumps(info))
    return path, info


def argv_of_the_kernelspec(connection_arguments: list[str]) -> list[str]:
    argv = get_kernel_spec(KERNEL_NAME).argv
    at = argv.index("-f")
    python = sys.executable if argv[0] == "python" else argv[0]
    return [python, *argv[1:at], *connection_arguments, *argv[at + 2 :]]


@contextmanager
def launched(argv: list[str], cwd: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The kernel's argv as a plain child process."""
    process = subprocess.Popen(
        argv, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    family = Family(process.pid)
    try:
        yield process
    finally:
        family.note()
        process.terminate()
        try:
            process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        family.end()


def execute(wire: Wire, code: str, **options: Any) -> str:
    content = {
        "code": code, "silent": False, "store_history": True, "user_expressions": {},
        "allow_stdin": True, "stop_on_error": True, **options,
    }  # fmt: skip
    return wire.request("execute_request", content)


def assert_it_serves(info: dict[str, Any]) -> None:
    """One session as an editor has it: info, hidden code, a cell, interrupt, shutdown."""
    with Wire(info) as wire:
        wire.meet()
        hidden = execute(wire, "import os as _hidden", silent=True, store_history=False)
        assert wire.wait_for("shell", "execute_reply", hidden).content["status"] == "ok"
        cell = execute(wire, "print('from the editor')")
        assert "from the editor" in wire.wait_for("iopub", "stream", cell).content["text"]
        reply = wire.wait_for("shell", "execute_reply", cell)
        assert (reply.content["status"], reply.content["execution_count"]) == ("ok", 1)


@pytest.mark.parametrize(
    "spelling", [["-f", "{}"], ["-f={}"], ["--f={}"], ["--connection-file", "{}"],
                 ["--connection-file={}"], ["--f", "{}"]],
    ids=" ".join,
)  # fmt: skip
def test_an_editor_starts_the_argv_itself(tmp_path: Path, spelling: list[str]):
    if not IS_OURS and spelling[0].startswith("--connection"):
        pytest.skip("not a spelling of the reference kernel's")
    path, info = connection(tmp_path)
    argv = argv_of_the_kernelspec([part.format(path) for part in spelling])
    with launched(argv, tmp_path):
        assert_it_serves(info)


@ours_only
def test_what_other_programs_append_is_ignored(tmp_path: Path):
    path, info = connection(tmp_path)
    argv = argv_of_the_kernelspec(["-f", str(path)])
    with launched([*argv, "--Session.debug=True", "script.py", "--debug", "-x"], tmp_path):
        assert_it_serves(info)


@ours_only
def test_a_misspelt_setting_is_refused_in_the_cell_that_names_it(tmp_path: Path):
    """Ignored, `--netwrok none` would be a limit that its owner believes in."""
    path, info = connection(tmp_path)
    argv = argv_of_the_kernelspec(["-f", str(path)])
    with launched([*argv, "--netwrok", "none"], tmp_path), Wire(info) as wire:
        wire.meet()
        reply = wire.wait_for("shell", "execute_reply", execute(wire, "1"))
        assert reply.content["status"] == "error"
        assert "netwrok" in reply.content["evalue"]


def test_an_editor_interrupts_and_shuts_down(tmp_path: Path):
    path, info = connection(tmp_path)
    with launched(argv_of_the_kernelspec([f"--f={path}"]), tmp_path) as process, Wire(info) as wire:
        wire.meet()
        cell = execute(wire, "import time; print('begun'); time.sleep(3600)")
        wire.wait_for("iopub", "stream", cell)
        if IS_OURS:
            asked = wire.request("interrupt_request", {}, channel="control")
            wire.wait_for("control", "interrupt_reply", asked)
        else:
            process.send_signal(signal.SIGINT)
        reply = wire.wait_for("shell", "execute_reply", cell)
        assert reply.content["ename"] == "KeyboardInterrupt"
        family = Family(process.pid)
        family.note()
        asked = wire.request("shutdown_request", {"restart": False}, channel="control")
        wire.wait_for("control", "shutdown_reply", asked)
        assert process.wait(timeout=DEADLINE_S) == 0
        until(lambda: not family.alive(), "the end of its processes")


def test_an_editor_answers_a_question(tmp_path: Path):
    path, info = connection(tmp_path)
    with launched(argv_of_the_kernelspec([f"--f={path}"]), tmp_path), Wire(info) as wire:
        # Connected before the question, as routers only answer who is there.
        wire.socket("stdin")
        wire.meet()
        cell = execute(wire, "print(input('editor? '))")
        question = wire.wait_for("stdin", "input_request", cell)
        assert question.content["prompt"] == "editor? "
        wire.request("input_reply", {"value": "yes"}, channel="stdin")
        assert "yes" in wire.wait_for("iopub", "stream", cell).content["text"]


def test_the_ipc_transport_serves(start_kernel, tmp_path: Path):
    short = Path(os.path.relpath(tmp_path))  # a socket's path has at most 107 bytes
    kernel = start_kernel(
        transport="ipc",
        ip=str(min(tmp_path / "k", short / "k", key=lambda path: len(str(path)))),
        connection_file=str(tmp_path / "kernel.json"),
    )
    assert kernel.connection_info["transport"] == "ipc"
    assert kernel.run("print('by ipc'); 6 * 7").result["text/plain"] == "42"
    control = kernel.request("kernel_info_request", {}, channel="control")
    assert control["content"]["status"] == "ok"


@ours_only
def test_ipc_sockets_are_nobody_elses(start_kernel, tmp_path: Path):
    kernel = start_kernel(
        transport="ipc",
        ip=str(tmp_path / "k"),
        connection_file=str(tmp_path / "kernel.json"),
    )
    kernel.run("1")
    sockets = list(tmp_path.glob("k-*"))
    assert len(sockets) == 5
    # Connecting takes the right to write.
    assert [oct(path.stat().st_mode & 0o022) for path in sockets] == ["0o0"] * 5


class TestCurve:
    """Keys in the connection file: encrypted on all five sockets."""

    @pytest.fixture
    def encrypted(self, start_kernel):
        if not zmq.has("curve"):
            pytest.skip("this zmq has no CURVE")
        return start_kernel(transport_encryption="required")

    def test_an_encrypted_kernel_serves(self, encrypted):
        assert encrypted.connection_info["curve_publickey"]
        assert encrypted.run("print('encrypted')").stdout == "encrypted\n"
        control = encrypted.request("kernel_info_request", {}, channel="control")
        assert control["content"]["status"] == "ok"
        until(encrypted.raw.hb_channel.is_beating, "an encrypted heartbeat")

    def test_who_has_no_key_gets_no_answer_on_any_socket(self, encrypted):
        with Wire(encrypted.connection_info) as plain:
            plain.subscribe()
            plain.request("kernel_info_request", {})
            plain.request("kernel_info_request", {}, channel="control")
            heart = plain.socket("hb")
            heart.send(b"ping")
            # A whole round trip of somebody else's: an answer would have come meanwhile.
            assert encrypted.run("print('for those with keys')").status == "ok"
            for channel in ("shell", "control", "iopub"):
                with pytest.raises(TimeoutError):
                    plain.receive(channel, timeout_s=0.3)
            assert not heart.poll(300)


@ours_only
class TestBadConnectionFiles:
    """A clear sentence on stderr, exit code not 0, no traceback."""

    def refuse(self, tmp_path: Path, *arguments: str) -> str:
        argv = argv_of_the_kernelspec(list(arguments))
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_missing_file_is_named(self, tmp_path: Path):
        assert "nowhere.json" in self.refuse(tmp_path, "-f", str(tmp_path / "nowhere.json"))

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "{}", '{"transport": "carrier pigeon"}', '{"shell_port": "x"}', "\x00\xff"],
    )
    def test_a_file_that_is_not_one_is_named(self, tmp_path: Path, text: str):
        path = tmp_path / "bad.json"
        path.write_bytes(text.encode("latin-1"))
        assert "bad.json" in self.refuse(tmp_path, "-f", str(path))

    def test_no_file_at_all_is_explained(self, tmp_path: Path):
        assert "connection" in self.refuse(tmp_path).lower()

    def test_a_port_in_use_is_named(self, tmp_path: Path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            path, _ = connection(tmp_path, shell_port=port)
            assert str(port) in self.refuse(tmp_path, "-f", str(path))


def test_a_client_that_subscribes_late_still_sees_its_first_cell(tmp_path: Path):
    """Sockets connect one by one; this kernel may have answered before the last one does.

    What is early is kept for five seconds: a cell that waits for no sandbox is well within.
    """
    code = "%sandbox help" if IS_OURS else "display('%sandbox')"
    path, info = connection(tmp_path)
    with launched(argv_of_the_kernelspec([f"--f={path}"]), tmp_path), Wire(info) as wire:
        cell = execute(wire, code)
        wire.wait_for("shell", "execute_reply", cell)
        wire.subscribe()
        assert wire.receive("iopub", timeout_s=60).type == "iopub_welcome"
        shown = wire.wait_for("iopub", "display_data", cell).content["data"]
        assert "%sandbox" in shown["text/plain"]
        states = [wire.wait_for("iopub", "status", cell).content["execution_state"]]
        assert states == ["idle"]


def test_a_question_waits_for_a_client_whose_stdin_connects_late(tmp_path: Path):
    path, info = connection(tmp_path)
    with launched(argv_of_the_kernelspec([f"--f={path}"]), tmp_path), Wire(info) as wire:
        wire.subscribe()
        cell = execute(wire, "print('asking'); print(input('late? '))")
        wire.wait_for("iopub", "stream", cell)
        question = wire.wait_for("stdin", "input_request", cell)
        assert question.content["prompt"] == "late? "
        wire.request("input_reply", {"value": "yes"}, channel="stdin")
        assert wire.wait_for("shell", "execute_reply", cell).content["status"] == "ok"
