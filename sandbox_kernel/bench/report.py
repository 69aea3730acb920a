"""From samples to a judgement. Pure, but for the table that is printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel.bench.promises import PROMISES, Promise

if TYPE_CHECKING:
    from rich.table import Table


class Measured(NamedTuple):
    """Samples of one metric: by contender, one dict of figures a round."""

    metric: str
    samples: dict[str, list[dict[str, float]]]

    def median(self, label: str, figure: str) -> float | None:
        """None when that contender was not measured."""
        values = [sample[figure] for sample in self.samples.get(label, [])]
        return statistics.median(values) if values else None


class Judgement(NamedTuple):
    """One promise and what came of it. `is_kept` None: there was nothing to judge."""

    promise: Promise
    ours: float | None
    reference: float | None
    ratio: float | None
    is_kept: bool | None


def judge(measured: Iterable[Measured], promises: Iterable[Promise] = PROMISES) -> list[Judgement]:
    """Every promise about a metric that was measured."""
    by_name = {item.metric: item for item in measured}
    return [
        _judge(promise, by_name[promise.metric])
        for promise in promises
        if promise.metric in by_name
    ]


def _judge(promise: Promise, measured: Measured) -> Judgement:
    ours = measured.median("sandbox", promise.figure)
    reference = measured.median("ipykernel", promise.figure)
    ratio = ours / reference if ours is not None and reference else None
    value = ratio if promise.kind == "ratio" else ours
    return Judgement(
        promise, ours, reference, ratio, value <= promise.goal if value is not None else None
    )


def as_json(measured: list[Measured], judgements: list[Judgement], machine: dict[str, Any]) -> Any:
    """Everything, for a file: judgements and the samples they rest on."""
    return {
        "machine": machine,
        "results": [
            {
                **judgement.promise._asdict(),
                "ours": judgement.ours,
                "reference": judgement.reference,
                "ratio": judgement.ratio,
                "kept": judgement.is_kept,
            }
            for judgement in judgements
        ],
        "samples": {item.metric: item.samples for item in measured},
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import os
    import platform
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        **{name: version(name) for name in ("sandbox-kernel", "ipykernel", "pyzmq")},
    }


def table(judgements: list[Judgement]) -> Table:
    from rich.table import Table

    made = Table(box=None, header_style="bold")
    made.add_column("metric")
    for heading in ("sandbox", "ipykernel", "ratio", "goal"):
        made.add_column(heading, justify="right")
    made.add_column("kept")
    for judgement in judgements:
        made.add_row(*_cells(judgement), style=None if judgement.is_kept else "red")
    return made


def _cells(judgement: Judgement) -> tuple[str, ...]:
    promise = judgement.promise
    ratio = f"{judgement.ratio:.2f}" if judgement.ratio is not None else ""
    is_ratio = promise.kind == "ratio"
    goal = f"≤ {promise.goal:g} ×" if is_ratio else f"≤ {show(promise.goal, promise)}"
    kept = {True: "yes", False: "NO", None: "not judged"}[judgement.is_kept]
    values = (show(judgement.ours, promise), show(judgement.reference, promise))
    return (promise.title, *values, ratio, goal, kept)


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
    return f"{value:,.0f}"
