"""`python -m sandbox_kernel.kernel`: what it says when it cannot do its work."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from tests.support.waiting import until

COMMAND = [sys.executable, "-P", "-m", "sandbox_kernel.kernel"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def start_with(start_kernel, tmp_path):
    """Start the real kernel with further words on its command line."""

    def start(*words: str, **options):
        (tmp_path / "kernels" / "real").mkdir(parents=True)
        spec = {
            "argv": [*COMMAND, "-f", "{connection_file}", *words],
            "display_name": "real",
            "language": "python",
            "interrupt_mode": "message",
        }
        (tmp_path / "kernels" / "real" / "kernel.json").write_text(json.dumps(spec))
        manager = KernelSpecManager(
            kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False
        )
        return start_kernel("real", kernel_spec_manager=manager, **options)

    return start


@pytest.mark.parametrize("words", [[], ["-f", "/nonexistent/c.json"], ["-f", "/etc/passwd"]])
def test_without_a_connection_file_it_ends_with_one_clear_line(words):
    ended = run(*words)
    assert ended.returncode == 1
    assert ended.stderr.startswith("[sandbox-kernel] ")
    assert "Jupyter client" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_named(tmp_path):
    from jupyter_client.connect import write_connection_file

    path, info = write_connection_file(str(tmp_path / "c.json"), key=b"k")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", info["iopub_port"]))
        taken.listen()
        # A setting that is wrong: no sandbox is needed to see this.
        ended = run("-f", path, "--memory=1")
    assert ended.returncode == 1
    assert f"iopub channel cannot listen on tcp://127.0.0.1:{info['iopub_port']}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--netwrok", "all"], "netwrok"),
        (["--network=all"], "network"),
        (["--memory=lots"], "memory"),
        (["--memory"], "--memory has no value"),
        (["--python=/nonexistent/python"], "/nonexistent/python"),
        (["--backend=chroot"], "chroot"),
    ],
)
def test_a_wrong_setting_starts_no_sandbox_and_is_told_in_the_notebook(start_with, words, told):
    kernel = start_with(*words)
    banner = kernel.request("kernel_info_request", {})["content"]["banner"]
    assert told in banner
    run = kernel.run("print(open('/etc/passwd').read())")
    assert run.error["ename"] == "SettingsError"
    assert told in run.error["evalue"]
    assert run.types == ["status", "execute_input", "error", "status"]
    for kind in ("complete", "inspect", "is_complete", "history", "comm_info"):
        assert kernel.request(f"{kind}_request", {"code": "x", "cursor_pos": 1})
    kernel.interrupt()
    assert kernel.run("%sandbox status").error["ename"] == "SettingsError"


def test_the_version_is_the_languages_and_never_pythons(start_with):
    python = sys.version.split()[0]
    kernel = start_with("--language=bash")
    asked = [kernel.request("kernel_info_request", {})["content"]]
    kernel.run("true")  # by then the guest has said it
    asked.append(kernel.request("kernel_info_request", {})["content"])
    assert all(python not in info["banner"] for info in asked)
    assert asked[0]["language_info"]["version"] != python
    assert asked[1]["language_info"]["version"][:1].isdigit()


def test_sigint_never_ends_the_kernel(start_with):
    kernel = start_with("--memory=1")
    os.kill(kernel.pid, signal.SIGINT)
    assert kernel.request("kernel_info_request", {})["content"]["status"] == "ok"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_kernel_ends_with_its_parent(tmp_path):
    from jupyter_client.connect import write_connection_file

    path, info = write_connection_file(str(tmp_path / "c.json"), key=b"k")
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    environment = {**os.environ, "JPY_PARENT_PID": str(parent.pid)}
    kernel = subprocess.Popen([*COMMAND, "-f", path, "--memory=1"], env=environment)
    try:
        until(lambda: is_listening(info["shell_port"]), "the kernel")
        parent.communicate(b"\n")
        until(lambda: kernel.poll() is not None, "the end of the kernel")
        assert kernel.returncode == 0
    finally:
        kernel.kill()
        kernel.wait()


def test_nothing_heavy_is_imported_before_the_sandbox_is_launched():
    """Start-up is a race between host and guest; the guest must be off first."""
    probe = (
        "import sys; import sandbox_kernel.kernel.__main__;"
        "print([n for n in ('zmq', 'asyncio', 'json', 'logging', 'IPython') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_the_server_imports_no_client_library_and_no_kernel():
    heavy = (
        "jupyter_client",
        "ipykernel",
        "IPython",
        "tornado",
        "traitlets",
        "docker",
        "rich",
        "nh3",
        "logging.config",
        "psutil",
        "zmq.asyncio",
    )
    probe = (
        "import sys; import sandbox_kernel.kernel.server, sandbox_kernel.session;"
        f"print([n for n in {heavy} if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert found.stdout == "[]\n"
