"""Engines: the one that runs here, and others of a test's own that may be hung, ended and asked.

Rule 1: an engine of a test's own has every directory below one temporary one, and a bridge of
its own; it is ended by its processes' ids, and so are its containers.
Rule 2: what a census counts on the shared engine is told apart by our labels, never by names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend, owners
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.session import SandboxSession
from tests.support import docker_engine
from tests.support.bridges import bridge
from tests.support.sessions import Cell
from tests.support.waiting import DEADLINE_S, until

# What most tests run: the least that has a Python. `setup docker` makes both.
IMAGES = ("sandbox-kernel/python", "sandbox-kernel/base")


def shared_engine() -> Engine:
    """The machine's engine, with our images."""
    docker_engine.require()
    return Engine()


def give_up(reason: str) -> NoReturn:
    """Skip, or fail where the tests must have an engine."""
    (pytest.fail if docker_engine.is_required() else pytest.skip)(f"docker: {reason}")
    raise AssertionError


def image(api: Any) -> str:
    """The name of an image of ours that is there."""
    from docker.errors import NotFound

    for name in IMAGES:
        with contextlib.suppress(NotFound):
            api.inspect_image(name)
            return name
    give_up("None of our images is there; make one with: sandbox-kernel setup docker")


def containers(api: Any, label: str = owners.SESSION_LABEL) -> list[str]:
    """Ids of the containers that carry `label`, running or not."""
    return known(api, filters={"label": label})


def known(api: Any, **options: Any) -> list[str]:
    """Ids of containers, running or not.

    Docker 20.10 may go on listing one that it removed while it came up after a crash. Asked
    for it, it knows of none.
    """
    ids = [item["Id"] for item in api.containers(all=True, **options)]
    return [container_id for container_id in ids if _is_known(api, container_id)]


def _is_known(api: Any, container_id: str) -> bool:
    from docker.errors import NotFound

    try:
        api.inspect_container(container_id)
    except NotFound:
        return False
    return True


def archive(files: dict[str, bytes]) -> bytes:
    """A tar with `files`, all executable."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, BytesIO(content))
    return buffer.getvalue()


@contextlib.contextmanager
def loaded_image(api: Any, name: str, files: dict[str, bytes], machine: str = "") -> Iterator[str]:
    """An image with `files`, for as long as a test lasts. `machine`: what it says it is for."""
    layer = archive(files)
    described = {
        "architecture": machine or {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]}]
    whole = {"layer.tar": layer}
    whole |= {"config.json": json.dumps(described).encode()}
    whole |= {"manifest.json": json.dumps(manifest).encode()}
    for _ in api.load_image(archive(whole)):
        pass
    try:
        yield name
    finally:
        api.remove_image(name, force=True)


class OwnEngine:
    """A second `dockerd` that belongs to one test module.

    Args:
        directory: everything of it; short, since a socket's path has 107 characters.
        arguments: further ones for dockerd, `--add-runtime NAME=PATH` for instance.
        environment: added to ours; proxies, for instance.
        port: also listen there, with TLS by the files in `directory`/tls.
    """

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        environment: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.directory = directory
        self.socket = directory / "engine.sock"
        self.url = f"unix://{self.socket}"
        self.port = port
        self.arguments = list(arguments)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._network = contextlib.ExitStack()
        self._bridge = self._network.enter_context(bridge())
        self._log = directory / "engine.log"

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        (self.directory / "none.json").write_text("{}")  # the machine's own is not ours
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._is_up, "an engine of our own", every_s=0.1)

    def _command(self) -> list[str]:
        hosts = ["-H", self.url]
        if self.port:
            tls = self.directory / "tls"
            hosts += ["-H", f"tcp://127.0.0.1:{self.port}", "--tlsverify"]
            hosts += [f"--tls{name}={tls}/{file}.pem" for name, file in _TLS_FILES.items()]
        return [
            "dockerd",
            *hosts,
            *("--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"),
            *("--pidfile", f"{self.directory}/pid", "--config-file", f"{self.directory}/none.json"),
            f"--bridge={self._bridge}",
            *("--iptables=false", "--ip-forward=false", "--ip-masq=false"),
            *("--shutdown-timeout", "1"),
            *self.arguments,
        ]

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"dockerd ended: {self._log.read_text()[-3000:]}")
        with contextlib.suppress(Exception):  # whatever the SDK says while it is not up
            return bool(self.client().ping())
        return False

    def client(self) -> Any:
        """A `docker.APIClient` of its socket."""
        import docker

        return docker.APIClient(base_url=self.url, version="auto", timeout=30)

    def load(self, name: str) -> None:
        """Copy an image from the machine's engine."""
        with tempfile.TemporaryFile() as file:
            subprocess.run(["docker", "save", name], stdout=file, check=True, timeout=100)
            file.seek(0)
            load = ["docker", "-H", self.url, "load"]
            subprocess.run(load, stdin=file, check=True, capture_output=True, timeout=100)

    # -- what may happen to an engine

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """As its administrator would."""
        self._end(signal.SIGTERM)

    def crash(self) -> None:
        """As the machine's memory shortage would. Its containers may live on."""
        self._end(signal.SIGKILL)
        # Its containerd dies with it; where nobody reaps, that would look alive to the next one.
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait(60)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """Whatever runs with a path in its directory on its command line, and their children."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(str(self.directory) in word for word in process.cmdline()):
                    found.update({p.pid: p for p in [process, *process.children(recursive=True)]})
        found.pop(os.getpid(), None)
        return list(found.values())

    def remove(self) -> None:
        """End it and all that it started, and remove its files."""
        self.stop()
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=20)
        for mount in sorted(_mounts_below(self.directory), key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True, timeout=20)
        self._network.close()
        shutil.rmtree(self.directory, ignore_errors=True)


_TLS_FILES = {"cacert": "ca", "cert": "server-cert", "key": "server-key"}


def _mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [path for line in lines if (path := line.split()[1]).startswith(f"{directory}/")]


@contextlib.contextmanager
def own_engine(*arguments: str, **options: Any) -> Iterator[OwnEngine]:
    """A `dockerd` of our own. Skips where one cannot be started.

    `prepare` makes files in its directory before, and returns further arguments.
    """
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        give_up("an engine of our own needs root and dockerd")
    prepare = options.pop("prepare", None)
    engine = OwnEngine(Path(tempfile.mkdtemp(prefix="sbk-")), arguments, **options)
    try:
        if prepare is not None:
            engine.arguments += prepare(engine.directory)
        engine.start()
        yield engine
    finally:
        engine.remove()


# --- sessions -------------------------------------------------------------------------


class Docked:
    """A session in a container, and what its cells said.

    Args:
        engine: where; None: the shared one, or what DOCKER_HOST names.
        spec: with an image.
    """

    def __init__(self, spec: SandboxSpec, engine: Engine | None = None) -> None:
        self.backend = DockerBackend(engine or Engine())
        self.session = SandboxSession(self.backend, spec)
        self._spec = spec

    @property
    def container_id(self) -> str:
        """Of the container that lives now."""
        guest = self.session._guest
        assert guest is not None
        return str(guest.sandbox.container_id)  # type: ignore[attr-defined]

    async def run(self, code: str, **options: Any) -> Cell:
        return await (await self.begin(code, wait_for="", **options))

    async def begin(self, code: str, *, wait_for: str = "up", **options: Any) -> asyncio.Task[Cell]:
        """Start a cell, and return when it has printed `wait_for`."""
        await self.session.start()
        cell, is_up = Cell(), asyncio.Event()

        def hear(event: Any) -> None:
            cell.events.append(event)
            if wait_for and wait_for in cell.text():
                is_up.set()

        async def run() -> Cell:
            cell.outcome = await self.session.execute(code, on_event=hear, **options)
            return cell

        task = asyncio.create_task(run())
        if wait_for:
            waiting = asyncio.create_task(is_up.wait())
            await asyncio.wait(
                [task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S
            )
            waiting.cancel()
            assert is_up.is_set(), cell.events
        return task
