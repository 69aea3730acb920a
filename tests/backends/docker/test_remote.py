"""Engines that are elsewhere, or somebody else's: TCP with TLS, SSH, Podman's socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.errors import SandboxDied
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from tests.support.engines import Docked, containers
from tests.support.waiting import DEADLINE_S, until

MIB = 2**20
FLOOD = "import sys\nfor _ in range(20): sys.stdout.write('y' * (1 << 20))"
WAIT = "print('up', flush=True)\nimport time\ntime.sleep(600)"


async def try_everything(docked, api):
    """What a session needs of an engine: a stream both ways, an interrupt, an end."""
    assert (await docked.run("print(6 * 7)")).text() == "42\n"
    cell = await docked.run(FLOOD)
    assert cell.text() == "y" * 20 * MIB
    content = os.urandom(5 * MIB)
    await docked.session.files.write("big", content)
    assert await docked.session.files.read("big") == content
    running = await docked.begin(WAIT)
    await docked.session.interrupt()
    cell = await asyncio.wait_for(running, DEADLINE_S)
    assert cell.error.name == "KeyboardInterrupt"
    assert (await docked.run("print('well')")).text() == "well\n"
    await docked.session.close()
    await asyncio.to_thread(until, lambda: not containers(api), "the end of its container")


def spec(image="sandbox-kernel/base"):
    return SandboxSpec(image=image, limits=Limits(memory_bytes=256 * MIB, output_bytes=0))


# --- TCP and TLS ----------------------------------------------------------------------


@pytest.fixture
def use_tls(private_engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{private_engine.port}")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(private_engine.directory / "tls"))
    return private_engine


async def test_engine_over_tcp_with_tls(use_tls):
    docked = Docked(spec())
    try:
        await try_everything(docked, use_tls.client())
    finally:
        await docked.session.close()


async def test_container_ends_when_the_connection_over_tls_breaks(use_tls):
    docked = Docked(spec())
    try:
        running = await docked.begin(WAIT)
        docked.session._guest.sandbox._stream._owner.shutdown(socket.SHUT_RDWR)
        cell = await asyncio.wait_for(running, DEADLINE_S)
        assert cell.error.name == "SandboxDied"
        assert "The variables and the files in the workspace are lost" in cell.error.value
        await asyncio.to_thread(until, lambda: not containers(use_tls.client()), "its end")
    finally:
        await docked.session.close()


@pytest.mark.parametrize("wrong", ["no certificate", "another authority"])
async def test_engine_over_tls_that_does_not_know_us(wrong, use_tls, monkeypatch, tmp_path):
    if wrong == "no certificate":
        monkeypatch.delenv("DOCKER_TLS_VERIFY")
        monkeypatch.delenv("DOCKER_CERT_PATH")
    else:
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        make += ["-nodes", "-subj", "/CN=x", "-keyout", tmp_path / "key.pem"]
        make += ["-out", tmp_path / "cert.pem"]
        await asyncio.to_thread(subprocess.run, make, check=True, capture_output=True)
        shutil.copy(tmp_path / "cert.pem", tmp_path / "ca.pem")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    session = SandboxSession(Docked(spec()).backend, spec())
    with pytest.raises(SandboxDied, match=r"tcp://127\.0\.0\.1:\d+") as caught:
        await session.start()
    await session.close()
    assert "Traceback" not in str(caught.value)
    assert "DOCKER_CERT_PATH" in str(caught.value)


# --- SSH ------------------------------------------------------------------------------

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/me.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
# The user's own ~/.ssh stays out of it: who says `ssh` gets this.
SSH = """#!/bin/sh
exec {ssh} -F none -i {directory}/me -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no \\
    -o LogLevel=ERROR "$@"
"""


@pytest.fixture
def use_ssh(private_engine, monkeypatch):
    """DOCKER_HOST by SSH to this machine, where `docker system dial-stdio` finds our engine."""
    sshd, ssh = shutil.which("sshd", path="/usr/sbin:/usr/bin"), shutil.which("ssh")
    if sshd is None or ssh is None or os.geteuid() != 0:
        pytest.skip("no OpenSSH server here, or we aren't root")
    directory = Path(tempfile.mkdtemp(prefix="sbk-ssh-"))
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "me"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(make, check=True, timeout=60)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / "config").write_text(
        SSHD.format(port=port, directory=directory)
        + f"SetEnv DOCKER_HOST={private_engine.url} PATH={os.environ['PATH']}\n"
    )
    wrapper = directory / "bin/ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(SSH.format(ssh=ssh, directory=directory))
    wrapper.chmod(0o755)
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(directory / "config")])
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", f"ssh://root@127.0.0.1:{port}")
    try:
        until(lambda: can_connect(port), "sshd")
        yield private_engine
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory)


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def test_engine_over_ssh(use_ssh):
    if find_spec("paramiko") is None:
        session = SandboxSession(Docked(spec()).backend, spec())
        with pytest.raises(SandboxDied, match=r"pip install 'sandbox-kernel\[ssh\]'"):
            await session.start()
        await session.close()
        pytest.skip("the SDK has no SSH without paramiko")
    docked = Docked(spec())
    try:
        await try_everything(docked, use_ssh.client())
    finally:
        await docked.session.close()


# --- Podman ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def podman():
    """Podman's service on a socket of our own, with storage of our own, and runc."""
    program = shutil.which("podman")
    if program is None or os.geteuid() != 0:
        pytest.skip("no Podman here, or we aren't root")
    directory = Path(tempfile.mkdtemp(prefix="sbk-pod-"))
    options = [program, "--root", f"{directory}/root", "--runroot", f"{directory}/run"]
    options += ["--tmpdir", f"{directory}/tmp", "--runtime", "runc", "--events-backend", "file"]
    options += ["--cgroup-manager", "cgroupfs"]
    save = subprocess.Popen(["docker", "save", "sandbox-kernel/base"], stdout=subprocess.PIPE)
    loaded = subprocess.run(
        [*options, "load"], stdin=save.stdout, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    save.wait(20)
    url = f"unix://{directory}/podman.sock"
    process = subprocess.Popen(
        [*options, "system", "service", "--time=0", url],
        stdout=subprocess.DEVNULL,
        stderr=(directory / "log").open("wb"),
    )
    try:
        if loaded.returncode:
            pytest.skip(f"Podman does not work here: {loaded.stderr[-300:]}")
        until((directory / "podman.sock").exists, "Podman's socket")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        subprocess.run([*options, "rm", "-af"], capture_output=True, timeout=60, check=False)
        subprocess.run(
            ["umount", "-l", f"{directory}/root/overlay"], capture_output=True, check=False
        )
        shutil.rmtree(directory, ignore_errors=True)


async def test_podman_holds_every_limit_or_runs_nothing(podman, monkeypatch):
    """Podman 4.3 wants the filter as a file of its machine, and knows no `nr_inodes`."""
    monkeypatch.setenv("DOCKER_HOST", podman)
    docked = Docked(spec())
    refusal = ""
    try:
        await docked.session.start()
    except SandboxDied as error:
        refusal = str(error)
    try:
        if not refusal:
            await try_everything(docked, Engine().api())
    finally:
        await docked.session.close()
    assert not refusal or "takes neither a system call filter" in refusal
    assert containers(Engine().api()) == []
