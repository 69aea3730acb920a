"""`bench engine`: programs that run code by `Engine`, on every backend that works here.

Rule 1: measured is what a program sees: from the call of `Session.execute` to its result.
Rule 2: every sample has an engine of its own, whose pool is full and at rest before it is
asked for anything, unless filling it is what is measured.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sandbox_kernel import backends
from sandbox_kernel.bench import memory
from sandbox_kernel.bench.metrics import Figures
from sandbox_kernel.bench.promises import DOCKER, ENGINE, PYTHON_ALONE, engine_promises
from sandbox_kernel.bench.suite import Job, Progress, Suite
from sandbox_kernel.engine import Engine, Session, Strategy
from sandbox_kernel.errors import SandboxKernelError, SettingsError

CODE, PRINTED = "print(6*7)", "42\n"
POOL_SIZE = 8
# A pool is emptied so many times a round: p99 of 40 runs is the slowest but for none.
POOL_TIMES = 5
WARM_RUNS = 200
COLD_RUNS = 3
# A hundred in sandboxes of their own and a hundred in one; a thousand in five rounds.
RUNS_EACH = 100
IDLE_SANDBOXES = 4
# The machine is at rest again: what was destroyed is gone, who came up has slept.
_REST_S = 0.3
_PATIENCE_S = 120.0


def suite(wanted: str | None = None) -> Suite:
    """One backend, or None: all that work here.

    Raises:
        BackendUnavailable: that one does not; the message has the remedy.
        SettingsError: there is no such backend, or none that works.
    """
    names = [backends.get(wanted).name] if wanted else _usable()
    jobs: dict[str, Job] = {}
    for name in names:
        alone = partial(_alone)
        jobs[f"{name}_pool"] = {ENGINE: partial(_run, pool, name), PYTHON_ALONE: alone}
        jobs[f"{name}_session"] = {ENGINE: partial(_run, per_session, name)}
        jobs[f"{name}_execution"] = {
            ENGINE: partial(_run, per_execution, name),
            PYTHON_ALONE: alone,
        }
        jobs[f"{name}_idle"] = {ENGINE: partial(_run, idle, name)}
        jobs[f"{name}_runs"] = {ENGINE: partial(_run, many_runs, name)}

    def warm_up(tell: Progress) -> dict[str, str]:
        lacking: dict[str, str] = {}
        for name in names:
            tell(f"warm-up: {name}")
            _run(per_execution, name)
            try:
                _run(idle, name)
            except PermissionError:
                lacking[f"{name}_idle"] = "only root may read how much memory a sandbox shares"
        return lacking

    return Suite(ENGINE, engine_promises(names), jobs, warm_up, _NOTES)


_NOTES = (
    f"POOL: runs one after the other, each in a fresh sandbox, while a pool of {POOL_SIZE} holds "
    f"out; from the call of execute to its result. {PYTHON_ALONE}: the same code as a process of "
    "this machine's Python, not isolated at all.",
    "PSS: memory of all processes of a sandbox, shared pages counted in proportion.",
    f"200 runs: {RUNS_EACH} in sandboxes of their own and {RUNS_EACH} in one; what this process "
    "has more of afterwards. Five rounds are a thousand.",
)


def _usable() -> list[str]:
    found = [name for name in backends.names() if backends.get(name).check().is_usable]
    if not found:
        raise SettingsError("No backend works here. `sandbox-kernel doctor` says what is missing.")
    return found


def _run(measure: Any, backend: str) -> Figures:
    figures: Figures = asyncio.run(measure(backend))
    return figures


@asynccontextmanager
async def _session(
    backend: str, strategy: Strategy, size: int = POOL_SIZE
) -> AsyncIterator[tuple[Engine, Session]]:
    async with Engine(backend, max_idle_sandboxes=size) as engine:
        session = await engine.create_session(
            "python", strategy=strategy, pool_size=size, dependency_policy="none"
        )
        yield engine, session


async def _timed(session: Session) -> float:
    """Seconds of one run.

    Raises:
        SandboxKernelError: it printed something else, or nothing.
    """
    begun = time.perf_counter()
    result = await session.execute(CODE)
    seconds = time.perf_counter() - begun
    if result.stdout != PRINTED:
        raise SandboxKernelError(f"{CODE!r} printed {result.stdout!r} and ended: {result.error}")
    return seconds


# --- the metrics ----------------------------------------------------------------------------


async def pool(backend: str) -> Figures:
    """Claim to result, and how fast a pool fills."""
    begun = time.perf_counter()
    async with _session(backend, Strategy.POOL) as (engine, session):
        await engine.wait_until_ready(_PATIENCE_S)
        filled = time.perf_counter()
        times: list[float] = []
        for _ in range(POOL_TIMES):
            await engine.wait_until_ready(_PATIENCE_S)
            await asyncio.sleep(_REST_S)
            times += [await _timed(session) for _ in range(POOL_SIZE)]
    return {
        "seconds": statistics.median(times),
        "p99_seconds": statistics.quantiles(times, n=100, method="inclusive")[98],
        "refilled_per_s": POOL_SIZE / (filled - begun),
    }


async def per_session(backend: str) -> Figures:
    """A run in a sandbox that has run code before."""
    async with _session(backend, Strategy.PER_SESSION) as (_, session):
        await _timed(session)
        await asyncio.sleep(_REST_S)
        return {"seconds": statistics.median([await _timed(session) for _ in range(WARM_RUNS)])}


async def per_execution(backend: str) -> Figures:
    """A run in a sandbox that is made for it, when it is asked for."""
    async with _session(backend, Strategy.PER_EXECUTION) as (_, session):
        times = []
        for _ in range(COLD_RUNS):
            times.append(await _timed(session))
            await asyncio.sleep(_REST_S)
        return {"seconds": statistics.median(times)}


async def idle(backend: str) -> Figures:
    """What a sandbox that waits in a pool costs."""
    async with _session(backend, Strategy.POOL, IDLE_SANDBOXES) as (engine, _):
        await engine.wait_until_ready(_PATIENCE_S)
        await asyncio.sleep(2 * _REST_S)
        own, shims = await asyncio.to_thread(_processes, engine)
        figures = {"mebibytes": memory.proportional_mebibytes(own) / IDLE_SANDBOXES}
        if shims:
            figures["shim_mebibytes"] = memory.proportional_mebibytes(shims) / IDLE_SANDBOXES
        return figures


async def many_runs(backend: str) -> Figures:
    """What this process has more of, after many runs."""
    async with _session(backend, Strategy.POOL) as (engine, fresh):
        kept = await engine.create_session("python", dependency_policy="none")
        for session in (fresh, kept):
            for _ in range(2 * POOL_SIZE):
                await _timed(session)
        before = await _used(engine)
        for _ in range(RUNS_EACH):
            await _timed(fresh)
            await _timed(kept)
        after = await _used(engine)
    return {name: max(0.0, after[name] - before[name]) for name in before}


async def _used(engine: Engine) -> Figures:
    """Once all is at rest: the pool full again, what was used destroyed."""
    await asyncio.sleep(2 * _REST_S)
    await engine.wait_until_ready(_PATIENCE_S)
    await asyncio.sleep(2 * _REST_S)
    gc.collect()
    return {
        "descriptors": memory.own_descriptors(),
        "threads": memory.own_threads(),
        "processes": len(memory.descendants(os.getpid())),
        "mebibytes": memory.own_resident_mebibytes(),
    }


def _processes(engine: Engine) -> tuple[list[int], list[int]]:
    """Those of all sandboxes of this process; and what the engine adds to each container."""
    if engine.backend.name != DOCKER:
        return memory.descendants(os.getpid()), []
    from sandbox_kernel.backends.docker import DockerBackend
    from sandbox_kernel.backends.docker.owners import OWNER_LABEL

    assert isinstance(engine.backend, DockerBackend)
    api = engine.backend.engine.api()
    own: list[int] = []
    shims: list[int] = []
    for item in api.containers(filters={"label": OWNER_LABEL}):
        if item["Labels"][OWNER_LABEL].split("/")[3] == str(os.getpid()):
            root = int(api.inspect_container(item["Id"])["State"]["Pid"])
            own += [root, *memory.descendants(root)]
            shims.append(memory.parent_of(root))
    return own, shims


def _alone() -> Figures:
    """The same by a process of this machine's Python."""
    times = []
    for _ in range(POOL_SIZE):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CODE], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        times.append(time.perf_counter() - begun)
        if done.stdout.decode() != PRINTED:
            raise SandboxKernelError(f"{CODE!r} printed {done.stdout!r}.")
    return {"seconds": statistics.median(times)}
