"""`sandbox-kernel bench`: this kernel against ipykernel, on one machine, in one run.

    promises   the goals, as data
    client     a kernel process and the least client that measures it
    metrics    one function a metric
    report     medians, judgement, table

Rule 1: the two kernels take turns (A B A B), so that a busy machine is busy for both.
Rule 2: everything is judged by medians of at least five rounds; one warm-up is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sandbox_kernel.bench.client import Contender, contender, started
from sandbox_kernel.bench.metrics import METRICS
from sandbox_kernel.bench.report import Measured

OURS, REFERENCE = "sandbox-python", "python3"
FEWEST_ROUNDS = 5

Progress = Callable[[str], None]


def contenders() -> tuple[Contender, Contender]:
    """Ours and ipykernel, as installed here.

    Raises:
        SandboxKernelError: one of them isn't; the message has the command that does it.
    """
    return contender("sandbox", OURS), contender("ipykernel", REFERENCE)


def measure(
    sides: Iterable[Contender], names: Iterable[str], rounds: int, tell: Progress
) -> list[Measured]:
    """Every metric of `names`, `rounds` times for each side in turn."""
    sides = list(sides)
    _compile_package()
    for side in sides:
        tell(f"warm-up: {side.label}")
        _warm_up(side)
    measured = []
    for name in names:
        samples: dict[str, list[dict[str, float]]] = {side.label: [] for side in sides}
        for number in range(1, rounds + 1):
            for side in sides:
                tell(f"{name}: round {number} of {rounds}, {side.label}")
                samples[side.label].append(METRICS[name](side))
        measured.append(Measured(name, samples))
    return measured


def _compile_package() -> None:
    """As pip does on installing a wheel; a checkout's guest cannot do it by itself."""
    import compileall
    from pathlib import Path

    compileall.compile_dir(Path(__file__).parent.parent, quiet=2)


def _warm_up(side: Contender) -> None:
    """Files into the page cache, byte code written, matplotlib's font cache built."""
    with started(side) as kernel:
        kernel.ready()
        kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")


__all__ = ["FEWEST_ROUNDS", "METRICS", "Contender", "Measured", "contenders", "measure"]
