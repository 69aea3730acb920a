"""What is compared with what: the metrics of one run, each with its contenders.

`against_ipykernel` is the one for sandboxes made of this host; `containers.suite` the one
for backends with images. To add one: a function that returns a `Suite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from sandbox_kernel.bench import packages
from sandbox_kernel.bench.client import Contender, contender, started
from sandbox_kernel.bench.metrics import METRICS, Figures
from sandbox_kernel.bench.promises import PROMISES, Promise

OURS, REFERENCE = "sandbox-python", "python3"
WARM_UP_CELL = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"

Progress = Callable[[str], None]
# One metric: by contender, what takes one sample of it.
Job = Mapping[str, Callable[[], Figures]]


class Suite(NamedTuple):
    """One kind of run.

    Args:
        ours: label of the contender that is judged.
        promises: what it is judged by, in the order of the table.
        jobs: by name of the metric, in the order of the run.
        warm_up: gets everything into the page cache; the metrics that cannot be measured
            here, each with the reason.
        notes: lines below the table: what the words in it mean, exactly.
        details: for `--json`, besides what is known of the machine.
    """

    ours: str
    promises: tuple[Promise, ...]
    jobs: dict[str, Job]
    warm_up: Callable[[Progress], dict[str, str]]
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = {}


def against_ipykernel(backend: str) -> Suite:
    """Ours, on that backend, and ipykernel; as installed here.

    Raises:
        SandboxKernelError: one of them isn't; the message has the command that does it.
    """
    ours = contender("sandbox", OURS)
    ours.argv.append(f"--backend={backend}")
    sides = ours, contender("ipykernel", REFERENCE)

    def warm_up(tell: Progress) -> dict[str, str]:
        for side in sides:
            tell(f"warm-up: {side.label}")
            warm_up_kernel(side)
        return {}

    jobs = kernel_jobs(sides)
    jobs[packages.METRIC] = {ours.label: partial(packages.dependencies, ours, backend)}
    return Suite("sandbox", PROMISES, jobs, warm_up)


def kernel_jobs(sides: Iterable[Contender]) -> dict[str, Job]:
    """Every metric of kernels, for each of `sides`."""
    sides = list(sides)
    return {
        name: {side.label: partial(metric, side) for side in sides}
        for name, metric in METRICS.items()
    }


def warm_up_kernel(side: Contender) -> None:
    """Files into the page cache, byte code written, matplotlib's font cache built."""
    with started(side) as kernel:
        kernel.ready()
        kernel.run(WARM_UP_CELL)
