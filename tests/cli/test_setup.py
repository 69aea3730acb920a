"""`setup`: what people type, see and get back."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import uuid
from io import BytesIO
from pathlib import Path
from tarfile import TarFile, TarInfo

import pytest

from sandbox_kernel.cli import setup
from tests.cli.conftest import Command
from tests.support import docker_engine
from tests.support.registry import registry


@pytest.fixture
def _engine() -> None:
    docker_engine.require()


def test_bubblewrap_needs_no_setup(command: Command):
    done = command("setup", "bubblewrap")
    assert (done.returncode, done.stderr) == (0, "")
    assert "needs no setup" in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["moon"], "moon"),
        (["docker", "--language", "fortran"], "fortran"),
        (["docker", "--base", "a b"], "'a b' is not the name of an image"),
        (["docker", "--image", "--privileged"], "--image"),
        (["docker", "--image", "x", "--language", "python"], "--image only pulls"),
        (["docker", "--base", "x", "--make-base"], "not allowed with"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(command: Command, words: list[str], named: str):
    done = command("setup", *words)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["--image", "x"], ["--base", "x"], ["--language", "all"]])
def test_without_an_engine_the_remedy_is_said(command: Command, tmp_path: Path, words: list[str]):
    done = command("setup", "docker", *words, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"There is no engine at unix://{tmp_path}/none.sock" in done.stderr
    assert "Start it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("_engine")
def test_the_result_names_the_image_and_the_next_command(command: Command):
    done = command("setup", "docker")
    assert done.returncode == 0, done.stderr
    first, following = done.stdout.splitlines()
    assert first.startswith("sandbox-kernel/python: ")
    assert "MiB" in first
    assert following == "Next: sandbox-kernel install --backend docker"


@pytest.mark.parametrize(
    ("languages", "following"),
    [
        (["python", "python"], [""]),
        (["ruby", "all"], [" --language ruby", " --language all"]),
        (["polyglot"], [" --image sandbox-kernel/polyglot --language all"]),
    ],
)
def test_the_next_command_is_for_what_was_asked(capsys, languages: list[str], following: list[str]):
    setup._say_next(languages)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Next: sandbox-kernel install --backend docker{words}" for words in following]


@pytest.mark.usefixtures("_engine")
def test_a_pipe_gets_plain_lines(command: Command):
    done = command("setup", "docker")
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


@pytest.mark.usefixtures("_engine")
def test_an_image_of_the_users_is_pulled_and_named(command: Command):
    with pullable() as name:
        done = command("setup", "docker", "--image", name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{name}: 5 bytes, pulled in ")
        assert done.stdout.endswith(
            f"Next: sandbox-kernel install --backend docker --image {name}\n"
        )
        assert done.stderr == f"{name}: pulling\n"
        docker_engine.api().remove_image(name)


@pytest.mark.usefixtures("_engine")
def test_an_image_that_is_nowhere_is_one_sentence(command: Command):
    done = command("setup", "docker", "--image", "127.0.0.1:1/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot reach the registry of 127.0.0.1:1/none" in done.stderr


@pytest.mark.usefixtures("_engine")
def test_a_terminal_shows_each_step_and_its_end(environment: dict[str, str]):
    with pullable() as name:
        code, shown = in_a_terminal(["setup", "docker", "--image", name], environment)
        docker_engine.api().remove_image(name)
    assert code == 0, shown
    assert f"✓ {name}: pulling" in shown
    assert "0:00:0" in shown


def pullable() -> registry:
    """A registry with one image of five bytes; gives its name."""
    content = BytesIO()
    with TarFile(fileobj=content, mode="w") as archive:
        member = TarInfo("hello")
        member.size = 5
        archive.addfile(member, BytesIO(b"world"))
    return registry(f"tests/{uuid.uuid4().hex[:12]}", content.getvalue())


def in_a_terminal(words: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run the command with a terminal as its stderr: exit code and what was shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "sandbox_kernel.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment | {"TERM": "xterm"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
    return process.returncode, shown.decode("utf-8", "replace")
