"""The docker backend measured: its sessions against `docker run`, its kernels against bubblewrap.

A session's time runs from the call that creates it, in a process whose client of the engine
is connected and that has started one before, to its runner's readiness. What a person waits
for who opens a notebook, the process's own start included, is the metric `first_result`.

Rule 1: whatever ends a run, Ctrl-C included, no container of it is left.
Rule 2: the reference is the engine's own command, as anybody would type it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from sandbox_kernel import languages
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend, engine, owners
from sandbox_kernel.backends.words import clean
from sandbox_kernel.bench.client import PATIENCE_S, Contender, Kernel, KernelSilent, started
from sandbox_kernel.bench.metrics import Figures
from sandbox_kernel.bench.promises import BUBBLEWRAP, DOCKER, DOCKER_PROMISES, DOCKER_RUN
from sandbox_kernel.bench.suite import WARM_UP_CELL, Job, Progress, Suite, kernel_jobs
from sandbox_kernel.errors import SandboxKernelError
from sandbox_kernel.kernelspecs import KERNEL_MODULE
from sandbox_kernel.limits import MIB
from sandbox_kernel.provision import provision, spec_from
from sandbox_kernel.session import SandboxSession
from sandbox_kernel.settings import Settings

COMMAND = ("python3", "-c", "pass")
# From Ctrl-C to the end of a `docker run` that is on its way; it takes half a second.
_END_PATIENCE_S = 10.0
# What a metric's cell imports, which an image need not have.
_NEEDS = {"stalled": "IPython", "chart": "matplotlib"}


def suite(image: str | None = None) -> Suite:
    """Everything about one image; None: that of the settings, or the language's own.

    Raises:
        BackendUnavailable: there is no engine; the message has the remedy.
        SettingsError: the settings in force are not for this backend.
    """
    options = {"language": "python", "backend": DOCKER, **({"image": image} if image else {})}
    spec = spec_from(Settings.load(options))
    backend = DockerBackend()
    name = spec.image or languages.get(spec.language).image
    info = backend.engine.info()
    run = docker_run(backend.engine, name)
    # What the settings say of containers is refused by a backend that has none.
    beside = {"language": "python", "backend": BUBBLEWRAP, "image": "", "runtime": "", "mount": ""}
    sides = _kernel(DOCKER, options), _kernel(BUBBLEWRAP, beside)
    session: Job = {DOCKER: partial(measure_session, backend, spec), DOCKER_RUN: run}

    def warm_up(tell: Progress) -> dict[str, str]:
        # The session first: a missing image is its error to explain.
        for label, take in session.items():
            tell(f"warm-up: {label}")
            take()
        lacking: dict[str, str] = {}
        for side in sides:
            tell(f"warm-up: kernel of {side.label}")
            lacking |= _warm_up_kernel(side)
        return lacking

    return Suite(
        ours=DOCKER,
        promises=DOCKER_PROMISES,
        jobs={"session": session, **kernel_jobs(sides)},
        warm_up=warm_up,
        notes=_notes(name, run),
        details=_details(info, name, spec),
    )


def _kernel(label: str, options: Mapping[str, str]) -> Contender:
    """As a kernelspec with these settings would start it; none has to be installed."""
    settings = [f"--{name}={text}" for name, text in options.items()]
    argv = [sys.executable, "-P", "-m", KERNEL_MODULE, "-f", "{connection_file}", *settings]
    return Contender(label, argv, "message", {})


def _warm_up_kernel(side: Contender) -> dict[str, str]:
    """Everything into the page cache; the metrics that this side lacks a module for."""
    with started(side) as kernel:
        kernel.ready()
        lacking = {
            metric: f"the Python of {side.label} has no {module}"
            for metric, module in _NEEDS.items()
            if not _has(kernel, module)
        }
        if "chart" not in lacking:
            kernel.run(WARM_UP_CELL)
    return lacking


def _has(kernel: Kernel, module: str) -> bool:
    try:
        kernel.run(f"import {module}")
    except KernelSilent:
        raise
    except SandboxKernelError:
        return False
    return True


def _notes(image: str, run: Any) -> tuple[str, ...]:
    reference = f"docker run --rm --network none {image} {' '.join(COMMAND)}"
    by = "as a command" if run.func is _by_command else "its calls made by the SDK"
    return (
        "session ready for its first cell: from the call that creates the session, in a process "
        "whose client of the engine is connected, to its runner's readiness. "
        f"docker run: wall time of `{reference}`, {by}.",
        "start to …: from just before the kernel's process is started. "
        "shutdown to exit: from shutdown_request until that process is gone.",
    )


def _details(info: Mapping[str, Any], image: str, spec: SandboxSpec) -> dict[str, Any]:
    return {
        "engine": info.get("ServerVersion"),
        "runtime": spec.runtime or info.get("DefaultRuntime"),
        "storage": info.get("Driver"),
        "image": image,
    }


# --- one session --------------------------------------------------------------------------


def measure_session(backend: DockerBackend, spec: SandboxSpec) -> Figures:
    """Create it, wait until it takes a cell, run one, look at its memory, close it."""
    return asyncio.run(_measure_session(backend, spec))


async def _measure_session(backend: DockerBackend, spec: SandboxSpec) -> Figures:
    begun = time.perf_counter()
    sandbox = provision(backend, spec)
    session = SandboxSession(backend, spec, sandbox=sandbox)
    try:
        await session.start()
        ready = time.perf_counter()
        outcome = await session.execute("pass", on_event=lambda _event: None)
        if outcome.error is not None:
            raise SandboxKernelError(f"A session failed to run a cell: {outcome.error.value}")
        usage = await sandbox.measure()
    finally:
        closing = time.perf_counter()
        await session.close()
    figures = {"seconds": ready - begun, "close_seconds": time.perf_counter() - closing}
    if usage.memory_bytes is not None:
        figures["mebibytes"] = usage.memory_bytes / MIB
    return figures


# --- the reference ------------------------------------------------------------------------


def docker_run(eng: engine.Engine, image: str) -> partial[Figures]:
    """`docker run`: by the program where there is one, else by the calls that it makes."""
    program = shutil.which("docker")
    if program is None:
        return partial(_by_sdk, eng, image)
    return partial(_by_command, eng, image, program)


def _by_command(eng: engine.Engine, image: str, program: str) -> Figures:
    """Wall time of the command, from before its process is made to its end."""
    name = f"sandbox-kernel-bench-{secrets.token_hex(8)}"
    labels = [f"--label={key}={value}" for key, value in _labels().items()]
    words = [program, "run", "--rm", "--network", "none", "--name", name, *labels, image, *COMMAND]
    begun = time.perf_counter()
    # In a session of its own: Ctrl-C in between would leave a container that never started.
    process = subprocess.Popen(
        words,
        # The same engine as the backend's, whatever the program's context says.
        env={**os.environ, "DOCKER_HOST": engine.place()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    except BaseException as error:
        _end(process)
        with contextlib.suppress(Exception):  # the SDK's: it is gone already, or the engine is
            eng.remove(name)
        if isinstance(error, subprocess.TimeoutExpired):
            raise SandboxKernelError(f"`docker run` took over {PATIENCE_S:g} s.") from None
        raise
    seconds = time.perf_counter() - begun
    _require_success(process.returncode, output, image)
    return {"seconds": seconds}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end, since it removes its container then; not for ever."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_PATIENCE_S)
        return
    process.kill()
    process.communicate()


def _by_sdk(eng: engine.Engine, image: str) -> Figures:
    """The calls behind `docker run --rm`, by a client that is connected already."""
    api = eng.api()
    host_config = api.create_host_config(network_mode="none")
    begun = time.perf_counter()
    made = api.create_container(
        image,
        list(COMMAND),
        labels=_labels(),
        host_config=host_config,
    )["Id"]
    try:
        api.start(made)
        code = int(api.wait(made, timeout=PATIENCE_S)["StatusCode"])
        output = b"" if code == 0 else api.logs(made)
    finally:
        eng.remove(made)
    seconds = time.perf_counter() - begun
    _require_success(code, output, image)
    return {"seconds": seconds}


def _labels() -> dict[str, str]:
    """So that `gc` finds what a crash of the engine leaves of it."""
    return owners.labels(secrets.token_hex(16))


def _require_success(code: int, output: bytes, image: str) -> None:
    if code:
        raise SandboxKernelError(
            f"`docker run` of {' '.join(COMMAND)} in {image!r}, which sessions are compared with, "
            f"ended with exit code {code}: {clean(output)!r}. Choose an image in which it works."
        )
