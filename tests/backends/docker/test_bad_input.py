"""What cannot work is one clear sentence with the remedy, in a session and on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sandbox_kernel import languages
from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.errors import BackendUnavailable, SandboxKernelError, SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from tests.support.docker_engine import containers_of
from tests.support.engines import image, loaded_image

ROOT = Path(__file__).parent.parent.parent.parent
NOBODY = 65534
RUN = ("run", "--backend", "docker")
OTHER = "arm64" if os.uname().machine == "x86_64" else "amd64"


async def refusal(spec, engine=None):
    """What a session says at its start. Nothing is left of it."""
    session = SandboxSession(DockerBackend(engine or Engine()), spec)
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
    python, path = python_for(user)
    done = subprocess.run(
        [python, "-m", "sandbox_kernel.cli", *RUN, *arguments, "-c", "print(6 * 7)"],
        env={**os.environ, **path, **(environment or {})},
        cwd="/",
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


def test_no_permission_on_the_socket(engine):
    """Root may open every socket, so somebody else tries."""
    if os.geteuid() != 0:
        pytest.skip("another user can be tried by root only")
    errors = complaint(expected_code=1, user=NOBODY)
    assert "does not let this user in" in errors
    assert "usermod -aG docker" in errors


def python_for(user):
    """An interpreter and an import path that `user` may read."""
    if user is None:
        return sys.executable, {}
    packages = Path(str(find_spec("docker").origin)).parent.parent
    path = {"PYTHONPATH": f"{ROOT}:{packages}", "HOME": "/nonexistent"}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}", "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            code = f"import sys, docker; assert sys.version_info[1] == {sys.version_info[1]}"
            tried = subprocess.run(
                [python, "-c", code], env=path, cwd="/", timeout=60, capture_output=True,
                check=False, user=user, group=user, extra_groups=[],
            )  # fmt: skip
            if tried.returncode == 0:
                return python, path
    pytest.skip("no Python here that another user may read, with this checkout and its packages")


# --- images ---------------------------------------------------------------------------


async def test_a_language_without_an_image_of_its_own_wants_one(engine, monkeypatch):
    bare = languages.PYTHON._replace(name="bare", image="")
    monkeypatch.setitem(languages._registered, "bare", bare)
    message = await refusal(SandboxSpec(language="bare"))
    assert message == "The language 'bare' has no image: choose one with --image."


async def test_unknown_image(engine):
    message = await refusal(SandboxSpec(image="nowhere/nothing:1"))
    assert "There is no image 'nowhere/nothing:1' on the engine" in message
    assert "sandbox-kernel setup docker --image nowhere/nothing:1" in message
    errors = complaint("--image", "nowhere/nothing:1", expected_code=1)
    assert "sandbox-kernel setup docker --image nowhere/nothing:1" in errors


async def test_image_of_ours_that_nobody_made():
    message = await refusal(SandboxSpec(image="sandbox-kernel/none-such"))
    assert "Make it with: sandbox-kernel setup docker" in message


@pytest.mark.parametrize("text", ["UPPER", "a b", "-rm", "x\x1by", "a" * 300])
async def test_text_that_is_no_image(text, engine):
    code, errors, output = command("--image=" + text)
    assert code in (1, 2)
    assert output == ""
    assert_is_clear(errors)
    assert text[:100] in errors or repr(text)[1:-1] in errors


async def test_image_of_another_architecture(engine):
    with loaded_image(engine.api(), "sandbox-kernel-tests/other", {"bin/sh": b"x"}, OTHER):
        message = await refusal(SandboxSpec(image="sandbox-kernel-tests/other"))
        assert f"is made for {OTHER}" in message
        assert "docker pull --platform" in message
        errors = complaint("--image", "sandbox-kernel-tests/other", expected_code=1)
        assert f"is made for {OTHER}" in errors


async def test_image_with_programs_of_another_machine(engine):
    """It says that it is for this one, as images do that were built carelessly."""
    content = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(200)
    with loaded_image(engine.api(), "sandbox-kernel-tests/foreign", {"bin/sh": content}) as name:
        message = await refusal(SandboxSpec(image=name))
        assert f"The programs in the image '{name}' are for another machine" in message


async def test_image_without_a_shell(engine):
    with loaded_image(engine.api(), "sandbox-kernel-tests/bare", {"program": b"x"}) as name:
        message = await refusal(SandboxSpec(image=name))
        assert f"The image '{name}' has no shell" in message
        assert "distroless" in message
        errors = complaint("--image", name, expected_code=1)
        assert "has no shell" in errors


async def test_image_with_a_shell_that_is_none(engine):
    """A program that is no shell: it answers, but not as one."""
    script = b"#!/bin/true\n"
    with loaded_image(engine.api(), "sandbox-kernel-tests/liar", {"bin/sh": script}) as name:
        message = await refusal(SandboxSpec(image=name))
        assert "Choose" in message


# --- limits, mounts, runtimes, and what belongs to other backends ------------------------


@pytest.mark.parametrize(
    ("limits", "option", "said"),
    [
        ({"cpus": 4000.0}, ("--cpus", "4000"), "cpus is 4000"),
        ({"memory_bytes": 2**47}, ("--memory", "128t"), "memory is 1.31e+05 GiB"),
    ],
)
async def test_limits_beyond_the_machine(limits, option, said, name):
    message = await refusal(SandboxSpec(image=name, limits=Limits(**limits)))
    assert message.startswith(said.split(" is ")[0])
    assert "machine" in message
    assert "Ask for" in message
    errors = complaint("--image", name, *option, expected_code=1)
    assert said.split(" is ")[0] in errors
    assert "Ask for" in errors


async def test_forbidden_mount(name):
    errors = complaint("--image", name, "--mount", "/:/data:ro", expected_code=1)
    assert "The mount of '/' is refused" in errors
    spec = SandboxSpec(image=name, mounts=(Mount("/data", "/var/run"),))
    session = SandboxSession(DockerBackend(), spec)
    with pytest.raises(SandboxKernelError, match=r"The mount of .*/run"):
        await session.start()
    await session.close()
    assert containers_of(os.getpid()) == []


async def test_unknown_runtime(name):
    message = await refusal(SandboxSpec(image=name, runtime="kata-none"))
    assert "'kata-none'" in message
    assert "runc" in message
    errors = complaint("--image", name, "--runtime", "kata-none", expected_code=1)
    assert "'kata-none'" in errors


async def test_unknown_runtime_of_containerd(name):
    """Engines find these by name when they are used."""
    message = await refusal(SandboxSpec(image=name, runtime="io.containerd.none.v2"))
    assert "io.containerd.none.v2" in message


def test_python_of_the_host_is_refused(name):
    errors = complaint("--image", name, "--python", sys.executable, expected_code=2)
    assert sys.executable in errors
    assert "choose an image" in errors


def test_network_is_refused(name):
    code, errors, _ = command("--image", name, "--network", "all")
    assert code == 2
    assert "network" in errors
    assert "none" in errors
    with pytest.raises(SettingsError, match="no network but 'none'"):
        DockerBackend().launch(SandboxSpec(image=name, network="all"))


# --- no registry is called --------------------------------------------------------------


async def test_no_start_calls_a_registry(private_engine, proxy, monkeypatch):
    """All that the engine sends out goes by a proxy, which only records."""
    monkeypatch.setenv("DOCKER_HOST", private_engine.url)
    before = len(proxy.requests)
    for missing in ("nowhere.invalid/thing:1", "python:3.12", "sandbox-kernel/none-such"):
        assert "There is no image" in await refusal(SandboxSpec(image=missing))
    session = SandboxSession(DockerBackend(Engine()), SandboxSpec(image="sandbox-kernel/base"))
    await session.start()
    await session.close()
    assert len(proxy.requests) == before
    # The twin: what does call one is seen.
    pull = ["docker", "-H", private_engine.url, "pull", "-q", "registry.invalid/thing:1"]
    done = await asyncio.to_thread(subprocess.run, pull, capture_output=True, timeout=100)
    assert done.returncode != 0
    assert any(b"registry.invalid" in request for request in proxy.requests[before:])
