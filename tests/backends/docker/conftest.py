"""An engine of our own for what nobody may do to the machine's, and sessions that are closed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.limits import Limits
from tests.support.engines import Docked, OwnEngine, image, own_engine, shared_engine
from tests.support.recorder import Recorder
from tests.support.waiting import PATIENCE_S

# A runtime that never starts anything. It does what it is asked before ("features", "--version"
# are not asked for by this engine), and ends when the test ends it.
SLEEPER = """#!/bin/sh
echo $$ >> {directory}/sleepers
exec sleep 600
"""


@pytest.fixture(scope="session")
def proxy() -> Iterator[Recorder]:
    """Where an engine that wants out would have to go."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def private_engine(proxy: Recorder) -> Iterator[OwnEngine]:
    """One for the whole run: with TLS, with a proxy that only records, with a sleepy runtime."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), proxy.url) | {"NO_PROXY": ""}
    with own_engine(environment=proxies, port=port, prepare=_prepare) as engine:
        engine.load("sandbox-kernel/base")
        yield engine


def _prepare(directory: Path) -> list[str]:
    runtime = directory / "sleeper"
    runtime.write_text(SLEEPER.format(directory=directory))
    runtime.chmod(0o755)
    make_certificates(directory / "tls")
    return ["--add-runtime", f"sleeper={runtime}"]


def make_certificates(directory: Path) -> None:
    """An authority, and a server's and a client's certificate by it, for an hour or so."""
    directory.mkdir(mode=0o700)

    def openssl(*arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60
        )

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        *new, "-x509", "-days", "1", "-subj", "/CN=ca", "-keyout", "ca-key.pem", "-out", "ca.pem"
    )
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        prefix = f"{name}-" if name == "server" else ""
        extension = directory / f"{name}.cnf"
        extension.write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{prefix}key.pem", "-out", f"{name}.csr")
        openssl(
            *("x509", "-req", "-days", "1", "-in", f"{name}.csr", "-CA", "ca.pem"),
            *("-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", extension.name),
            *("-out", f"{prefix}cert.pem"),
        )


@pytest.fixture
def engine() -> Engine:
    """The machine's."""
    return shared_engine()


@pytest.fixture
def use_private(private_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> OwnEngine:
    """From here on, DOCKER_HOST names our own."""
    monkeypatch.setenv("DOCKER_HOST", private_engine.url)
    return private_engine


Open = Callable[..., Docked]


@pytest.fixture
async def dock() -> AsyncIterator[Open]:
    """`dock(**limits)` gives a session in a container that nobody has started yet."""
    made: list[Docked] = []

    def make(
        *, engine: Engine | None = None, spec: dict[str, Any] | None = None, **limits: Any
    ) -> Docked:
        limits.setdefault("interrupt_grace_s", PATIENCE_S)
        used = engine or Engine()
        fields = {"image": image(used.api()), **(spec or {})}
        docked = Docked(SandboxSpec(limits=Limits(**limits), **fields), used)
        made.append(docked)
        return docked

    yield make
    for docked in made:
        await docked.session.close()
