"""From samples to a judgement. Pure, but for the table that is printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel.bench.promises import PROMISES, Promise

if TYPE_CHECKING:
    from rich.table import Table


class Measured(NamedTuple):
    """Samples of one metric: by contender, one dict of figures a round."""

    metric: str
    samples: dict[str, list[dict[str, float]]]
    omission: str = ""  # why there are none

    def median(self, label: str, figure: str) -> float | None:
        """None when that contender was not measured, or has no such figure."""
        values = [sample[figure] for sample in self.samples.get(label, []) if figure in sample]
        return statistics.median(values) if values else None


class Judgement(NamedTuple):
    """One promise and what came of it. `is_kept` None: there was nothing to judge."""

    promise: Promise
    ours: float | None
    reference: float | None
    ratio: float | None
    is_kept: bool | None

    @property
    def is_broken(self) -> bool:
        """A goal that was missed, or could not be judged."""
        return self.promise.goal is not None and not self.is_kept


def judge(
    measured: Iterable[Measured],
    promises: Iterable[Promise] = PROMISES,
    *,
    ours: str = "sandbox",
) -> list[Judgement]:
    """Every promise about a metric that was measured, for the contender called `ours`."""
    by_name = {item.metric: item for item in measured}
    return [
        _judge(promise, by_name[promise.metric], ours)
        for promise in promises
        if promise.metric in by_name and not by_name[promise.metric].omission
    ]


def _judge(promise: Promise, measured: Measured, label: str) -> Judgement:
    ours = measured.median(label, promise.figure)
    reference = measured.median(promise.reference, promise.figure)
    ratio = ours / reference if ours is not None and reference else None
    value = ratio if promise.kind == "ratio" else ours
    is_kept = None if value is None or promise.goal is None else value <= promise.goal
    return Judgement(promise, ours, reference, ratio, is_kept)


def as_json(measured: list[Measured], judgements: list[Judgement], machine: dict[str, Any]) -> Any:
    """Everything, for a file: judgements and the samples they rest on."""
    return {
        "machine": machine,
        "results": [
            {
                **judgement.promise._asdict(),
                "compared_with": judgement.promise.reference,
                "ours": judgement.ours,
                "reference": judgement.reference,
                "ratio": judgement.ratio,
                "kept": judgement.is_kept,
            }
            for judgement in judgements
        ],
        "samples": {item.metric: item.samples for item in measured},
    }


def machine(details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the figures were taken on."""
    import os
    import platform
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        **{name: version(name) for name in ("sandbox-kernel", "ipykernel", "pyzmq")},
        **(details or {}),
    }


def tables(judgements: Iterable[Judgement], ours: str = "sandbox") -> list[Table]:
    """A table for each reference, in the order in which they come."""
    by_reference: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_reference.setdefault(judgement.promise.reference, []).append(judgement)
    return [_table(items, ours, reference) for reference, items in by_reference.items()]


def _table(judgements: list[Judgement], ours: str, reference: str) -> Table:
    from rich.table import Table

    made = Table(box=None, header_style="bold")
    made.add_column("metric")
    for heading in (ours, reference, "ratio", "goal"):
        made.add_column(heading, justify="right")
    made.add_column("kept")
    for judgement in judgements:
        made.add_row(*_cells(judgement), style="red" if judgement.is_broken else None)
    return made


def _cells(judgement: Judgement) -> tuple[str, ...]:
    promise = judgement.promise
    ratio = f"{judgement.ratio:.2f}" if judgement.ratio is not None else ""
    values = (show(judgement.ours, promise), show(judgement.reference, promise))
    return (promise.title, *values, ratio, *_goal(judgement))


def _goal(judgement: Judgement) -> tuple[str, str]:
    promise = judgement.promise
    if promise.goal is None:
        return "", ""
    is_ratio = promise.kind == "ratio"
    goal = f"≤ {promise.goal:g} ×" if is_ratio else f"≤ {show(promise.goal, promise)}"
    return goal, {True: "yes", False: "NO", None: "not judged"}[judgement.is_kept]


def show(value: float | None, promise: Promise) -> str:
    """`value` in the promise's unit; milliseconds are measured as seconds."""
    if value is None:
        return "-"
    match promise.unit:
        case "ms":
            return f"{value * 1000:.3g} ms" if value < 1 else f"{value * 1000:.0f} ms"
        case "s":
            return f"{value:.3f} s"
        case "MiB":
            return f"{value:.1f} MiB"
        case "/s":
            return f"{value:.1f} /s"
    return f"{value:,.0f}"
