"""`sandbox-kernel bench`: this kernel against others, on one machine, in one run.

    promises    the goals, as data
    client      a kernel process and the least client that measures it
    metrics     one function a metric of kernels
    packages    what packages cost that were installed before
    containers  the docker backend: against `docker run`, and against bubblewrap
    languages   every language: against its interpreter, and against Python's cells
    engine      programs: pools, sessions, what a thousand runs leave
    memory      what processes of the machine use
    suite       which metrics with which contenders
    report      medians, judgement, table

Rule 1: contenders take turns (A B A B), so that a busy machine is busy for all of them.
Rule 2: everything is judged by medians of at least five rounds; one warm-up is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox_kernel.bench.report import Measured
from sandbox_kernel.bench.suite import Job, Progress, Suite, against_ipykernel

FEWEST_ROUNDS = 5


def measure(suite: Suite, names: Iterable[str], rounds: int, tell: Progress) -> list[Measured]:
    """Every metric of `names`, `rounds` times for each contender in turn.

    Those that cannot be measured here have no samples, and a reason instead.
    """
    _compile_package()
    impossible = suite.warm_up(tell)
    measured = []
    for name in names:
        if name in impossible:
            measured.append(Measured(name, {}, impossible[name]))
        else:
            measured.append(_measure(name, suite.jobs[name], rounds, tell))
    return measured


def _measure(name: str, job: Job, rounds: int, tell: Progress) -> Measured:
    samples: dict[str, list[dict[str, float]]] = {label: [] for label in job}
    for number in range(1, rounds + 1):
        for label, take in job.items():
            tell(f"{name}: round {number} of {rounds}, {label}")
            samples[label].append(take())
    return Measured(name, samples)


def _compile_package() -> None:
    """As pip does on installing a wheel; a checkout's guest cannot do it by itself."""
    import compileall
    from pathlib import Path

    compileall.compile_dir(Path(__file__).parent.parent, quiet=2)


__all__ = ["FEWEST_ROUNDS", "Measured", "Suite", "against_ipykernel", "measure"]
