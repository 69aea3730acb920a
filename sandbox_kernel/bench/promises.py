"""What we promise about speed. Data: each number once; `bench` judges by it, tests read it.

A `ratio` goal compares medians of one run on one machine: ours / the reference's. A `value`
goal is absolute. All are upper bounds but `lost`, which is exact. A goal of None is no
promise: the figure is shown for who reads the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Promise(NamedTuple):
    metric: str
    figure: str  # which number of the metric's is judged
    title: str
    unit: str  # "s", "ms", "MiB", "/s" or "" for a count
    kind: str  # "ratio" or "value"
    goal: float | None
    reference: str = "ipykernel"  # label of the contender that ours is compared with


PROMISES: tuple[Promise, ...] = (
    Promise("kernel_info", "seconds", "start to kernel_info", "s", "ratio", 0.5),
    Promise("first_result", "seconds", "start to the first result", "s", "ratio", 0.6),
    Promise("round_trip", "seconds", "round trip of pass", "ms", "ratio", 0.4),
    Promise("lines", "seconds", "10,000 printed lines", "ms", "ratio", 0.3),
    Promise("lines", "messages", "10,000 printed lines, messages", "", "value", 20),
    Promise("volume", "seconds", "50 MiB of stdout", "s", "ratio", 1.0),
    Promise("volume", "missing_bytes", "50 MiB of stdout, missing bytes", "", "value", 0),
    Promise("chart", "seconds", "first chart of a fresh session", "s", "ratio", 1.1),
    Promise("interrupt", "seconds", "interrupt to idle", "ms", "value", 0.1),
    Promise("shutdown", "seconds", "shutdown to exit", "ms", "value", 0.5),
    Promise(
        "dependencies", "seconds", "packages that are there already, added", "ms", "value", 0.05
    ),
    Promise("memory", "mebibytes", "host process, resident", "MiB", "value", 40),
    Promise(
        "stalled", "lost", "20,000 messages to a client that stalls for 4 s, lost", "", "value", 0
    ),
)

DOCKER, BUBBLEWRAP, DOCKER_RUN = "docker", "bubblewrap", "docker run"


def _beside_bubblewrap(
    metric: str, title: str, unit: str, kind: str, goal: float | None, figure: str = "seconds"
) -> Promise:
    return Promise(metric, figure, title, unit, kind, goal, BUBBLEWRAP)


# Of the docker backend: containers against the engine's own command, then kernels by kernels.
DOCKER_PROMISES: tuple[Promise, ...] = (
    Promise(
        "session", "seconds", "session ready for its first cell", "s", "ratio", 1.3, DOCKER_RUN
    ),
    Promise("session", "close_seconds", "session closed", "ms", "value", 0.5, DOCKER_RUN),
    Promise("session", "mebibytes", "container, after a cell", "MiB", "value", None, DOCKER_RUN),
    _beside_bubblewrap("kernel_info", "start to kernel_info", "s", "ratio", None),
    _beside_bubblewrap("first_result", "start to the first result", "s", "ratio", None),
    _beside_bubblewrap("round_trip", "round trip of pass", "ms", "ratio", 1.2),
    _beside_bubblewrap("lines", "10,000 printed lines", "ms", "ratio", None),
    _beside_bubblewrap("lines", "10,000 printed lines, messages", "", "value", 20, "messages"),
    _beside_bubblewrap("volume", "50 MiB of stdout", "s", "ratio", 2.0),
    _beside_bubblewrap(
        "volume", "50 MiB of stdout, missing bytes", "", "value", 0, "missing_bytes"
    ),
    _beside_bubblewrap("chart", "first chart of a fresh session", "s", "ratio", None),
    _beside_bubblewrap("interrupt", "interrupt to idle", "ms", "ratio", None),
    _beside_bubblewrap("shutdown", "shutdown to exit", "ms", "value", 0.5),
    _beside_bubblewrap("memory", "host process, resident", "MiB", "value", None, "mebibytes"),
    _beside_bubblewrap(
        "stalled",
        "20,000 messages to a client that stalls for 4 s, lost",
        "",
        "value",
        0,
        "lost",
    ),
)


LANGUAGE = "sandbox"
# Seconds from start to first result, of what needs next to no start of its own; all others
# get one second besides what their interpreter takes alone.
_FIRST_RESULT_S = {"bash": 0.3, "javascript": 0.5}
_BEYOND_INTERPRETER_S = 1.0
_ROUND_TRIP_RATIO = 2.0


def language_promises(names: Iterable[str]) -> tuple[Promise, ...]:
    """Two for each language: its first result, and its round trip beside Python's."""
    found: list[Promise] = []
    for name in names:
        metric, title = f"{name}_first_result", f"{name}: start to the first result"
        goal = _FIRST_RESULT_S.get(name)
        found.append(Promise(metric, "seconds", title, "s", "value", goal, "alone"))
        if goal is None:
            title = f"{name}: beyond its interpreter's own start"
            limit = _BEYOND_INTERPRETER_S
            found.append(Promise(metric, "beyond_seconds", title, "s", "value", limit, "alone"))
    for name in names:
        metric, title = f"{name}_round_trip", f"{name}: round trip of an empty cell"
        found.append(Promise(metric, "seconds", title, "ms", "ratio", _ROUND_TRIP_RATIO, "python"))
    return tuple(found)


ENGINE, PYTHON_ALONE = "engine", "python3 -c"
# Seconds from claim to result of a fresh sandbox from a pool, and of one that is made then.
_POOL_S = {BUBBLEWRAP: 0.010, DOCKER: 0.015}
_COLD_S = {BUBBLEWRAP: 0.250}
_WARM_S = 0.002
_IDLE_MEBIBYTES = 40
# Of 200 runs. What is no leak, too, moves the size of a process: a heap grows in steps.
_GROWN_MEBIBYTES = 2


def engine_promises(backends: Iterable[str]) -> tuple[Promise, ...]:
    """Of programs that run code by `Engine`, on each of these backends."""
    found: list[Promise] = []
    for name in backends:

        def promise(
            metric: str, figure: str, title: str, unit: str, goal: float | None, on: str = name
        ) -> Promise:
            title = f"{on}: {title}"
            return Promise(f"{on}_{metric}", figure, title, unit, "value", goal, PYTHON_ALONE)

        found += [
            promise("pool", "seconds", "POOL, claim to result, p50", "ms", _POOL_S.get(name)),
            promise("pool", "p99_seconds", "POOL, claim to result, p99", "ms", None),
            promise("pool", "refilled_per_s", "POOL, sandboxes made in advance", "/s", None),
            promise("session", "seconds", "PER_SESSION, a warm run, p50", "ms", _WARM_S),
            promise("execution", "seconds", "PER_EXECUTION, cold", "ms", _COLD_S.get(name)),
            promise("idle", "mebibytes", "idle pooled sandbox (PSS)", "MiB", _IDLE_MEBIBYTES),
            promise("runs", "descriptors", "200 runs, descriptors more", "", 0),
            promise("runs", "threads", "200 runs, threads more", "", 0),
            promise("runs", "processes", "200 runs, processes more", "", 0),
            promise("runs", "mebibytes", "200 runs, memory more", "MiB", _GROWN_MEBIBYTES),
        ]
        if name == DOCKER:
            title = "its share of the engine: its containerd-shim (PSS)"
            found.append(promise("idle", "shim_mebibytes", title, "MiB", None))
    return tuple(found)
