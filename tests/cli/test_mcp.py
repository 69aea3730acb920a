"""`sandbox-kernel mcp`: what its flags refuse, and what it costs those who do not use it."""

import importlib.util
import subprocess
import sys

import pytest

from sandbox_kernel.cli import main
from sandbox_kernel.cli.mcp import _token
from sandbox_kernel.settings import Settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--http", "--host", "0.0.0.0"), "loopback address only"),
        (("--http", "--port", "70000"), "from 0 to 65535"),
        (("--http", "--port", "-1"), "from 0 to 65535"),
        (("--http", "--allow-origin", "*"), "no origin"),
        (("--port", "1"), "--port is for --http only"),
        (("--host", "127.0.0.1"), "--host is for --http only"),
        (("--token-file", "x"), "--token-file is for --http only"),
        (("--max-sessions", "0"), "from 1 to"),
        (("--max-sessions", "many"), "from 1 to"),
        (("--idle-timeout", "soon"), "such as 90s"),
        (("--memory", "2x"), "not a size"),
        (("--backend", "docket"), "did you mean docker?"),
    ],
)
def test_a_bad_flag_is_code_2_and_one_clear_line(command, words, said):
    done = command("mcp", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_token_on_the_command_line_is_refused(command):
    done = command("mcp", "--http", "--mcp-token", "0123456789abcdef0123")
    assert done.returncode == 2
    assert "SANDBOX_KERNEL_MCP_TOKEN" in done.stderr
    assert "0123456789abcdef0123" not in done.stderr


def test_a_weak_token_is_refused_and_not_shown(command):
    done = command("mcp", "--http", "--port", "0", SANDBOX_KERNEL_MCP_TOKEN="hunter2")
    assert done.returncode == 2
    assert "16 or more" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_token_file_that_others_can_read_is_refused(command, tmp_path):
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123")
    path.chmod(0o644)
    done = command("mcp", "--http", "--port", "0", "--token-file", str(path))
    assert done.returncode == 2
    assert f"chmod 600 {path}" in done.stderr
    assert "0123456789abcdef0123" not in done.stderr


def test_a_token_file_is_made_for_its_owner_alone_and_read_the_next_time(tmp_path):
    path = tmp_path / "token"
    settings = Settings.load(environ={"HOME": str(tmp_path)})
    token, is_new = _token(settings, str(path))
    assert len(token) >= 40
    assert path.read_text().strip() == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert not is_new  # whoever reads the file knows it: it is not printed
    assert _token(settings, str(path)) == (token, False)


def test_a_token_file_is_not_made_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        _token(Settings.load(environ={"HOME": str(tmp_path)}), str(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_random_token_is_another_one_every_time(tmp_path):
    settings = Settings.load(environ={"HOME": str(tmp_path)})
    first, second = _token(settings, None), _token(settings, None)
    assert first[1]
    assert first[0] != second[0]


def test_a_port_that_is_taken_is_named(command):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("mcp", "--http", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr


def test_without_the_sdk_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["mcp"]) == 2
    assert "pip install 'sandbox-kernel[mcp]'" in capsys.readouterr().err


def test_neither_the_help_nor_other_commands_import_the_sdk():
    probe = (
        "import sys; from sandbox_kernel.cli import build_parser; build_parser().format_help();"
        "print([m for m in ('mcp', 'mcp_types', 'pydantic', 'sandbox_kernel.engine')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
