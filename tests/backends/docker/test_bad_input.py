"""What cannot work is one clear sentence with the remedy, in a session and on the command line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.errors import BackendUnavailable, SandboxKernelError, SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import Session
from tests.support.docker_engine import containers_of
from tests.support.engines import archive, image, imported_image

NOBODY = 65534
OTHER = "arm64" if os.uname().machine == "x86_64" else "amd64"


async def refusal(spec, engine=None):
    """What a session says at its start. Nothing is left of it."""
    session = Session(DockerBackend(engine or Engine()), spec)
    try:
        with pytest.raises(SandboxKernelError) as caught:
            await session.start()
    finally:
        await session.close()
    with contextlib.suppress(BackendUnavailable):
        assert containers_of(os.getpid()) == []
    message = str(caught.value)
    assert_is_clear(message)
    return message


def assert_is_clear(message):
    assert "Traceback" not in message
    assert "mistake in sandbox-kernel" not in message
    assert "requests." not in message
    assert "HTTPConnection" not in message
    assert message.count("\n") <= 1
    assert message.strip().endswith((".", "`", "docker", "python")) or " --" in message


def command(*arguments, environment=None, user=None):
    """`sandbox-kernel run --backend docker …`: its exit code and what it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox_kernel.cli", "run", "--backend", "docker"]
        + [*arguments, "-c", "print(6 * 7)"],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **({} if user is None else {"user": user, "group": user, "extra_groups": []}),
    )
    return done.returncode, done.stderr, done.stdout


def complaint(*arguments, expected_code, **options):
    code, errors, output = command(*arguments, **options)
    assert code == expected_code, errors
    assert output == ""
    assert_is_clear(errors)
    return errors


@pytest.fixture
def name(engine):
    return image(engine.api())


def test_twin_what_is_right_runs(name):
    assert command("--image", name)[::2] == (0, "42\n")


# --- the engine -----------------------------------------------------------------------


async def test_no_engine(monkeypatch, tmp_path):
    url = f"unix://{tmp_path}/none.sock"
    monkeypatch.setenv("DOCKER_HOST", url)
    pattern = rf"There is no engine at {url} .*Start it .*DOCKER_HOST"
    assert re.search(pattern, await refusal(SandboxSpec(image="any")))
    assert re.search(pattern, complaint(expected_code=1))


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "tcp://nowhere.invalid:2376", "nonsense"])
def test_engine_that_is_not_where_docker_host_says(url):
    errors = complaint(expected_code=1, environment={"DOCKER_HOST": url})
    assert f"There is no engine at {url}" in errors


async def test_no_permission_on_the_socket(engine, tmp_path):
    """Root may open every socket, so somebody else tries."""
    if os.geteuid() != 0:
        pytest.skip("another user can be tried by root only")
    code = (
        "from sandbox_kernel.backends.docker.engine import connect\n"
        "from sandbox_kernel.errors import BackendUnavailable\n"
        "try: connect()\n"
        "except BackendUnavailable as error: print(error)"
    )
    socket = tmp_path / "engine.sock"
    os.link("/var/run/docker.sock", socket) if same_disk(tmp_path) else None
    python = python_for_others()
    done = subprocess.run(
        [python, "-c", code],
        env={"PYTHONPATH": import_path(), "DOCKER_HOST": "unix:///var/run/docker.sock"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    assert "does not let this user in" in done.stdout, done.stderr
    assert "usermod -aG docker" in done.stdout
    assert_is_clear(done.stdout)
