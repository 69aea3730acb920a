"""What we promise about speed. Data: each number once; `bench` judges by it, tests read it.

A `ratio` goal compares medians of one run on one machine: ours / ipykernel's. A `value`
goal is absolute. All are upper bounds but `lost`, which is exact.
"""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    metric: str
    figure: str  # which number of the metric's is judged
    title: str
    unit: str  # "s", "ms", "MiB" or "" for a count
    kind: str  # "ratio" or "value"
    goal: float


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
    Promise("memory", "mebibytes", "host process, resident", "MiB", "value", 40),
    Promise(
        "stalled", "lost", "20,000 messages to a client that stalls for 4 s, lost", "", "value", 0
    ),
)
