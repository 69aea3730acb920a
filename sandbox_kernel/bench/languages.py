"""Every language measured: first result beside its own interpreter, cells beside Python's.

Rule 1: both are kernels of ours, started as a kernelspec would; none has to be installed.
Rule 2: what an interpreter needs to start is measured in the same round, and not ours to save.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from sandbox_kernel import languages
from sandbox_kernel.availability import find_problem
from sandbox_kernel.bench.client import Contender, Kernel, started
from sandbox_kernel.bench.metrics import ROUND_TRIPS, Figures
from sandbox_kernel.bench.promises import LANGUAGE, language_promises
from sandbox_kernel.bench.suite import Job, Progress, Suite
from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.kernelspecs import KERNEL_MODULE

PYTHON, ALONE = "python", "alone"
# A cell that does nothing and has no result, in each language; and as a whole program.
NOTHING = {
    "python": "pass",
    "bash": ":",
    "javascript": "void 0;",
    "typescript": "void 0;",
    "r": "invisible(0)",
    "ruby": "nil",
    "perl": "1;",
    "php": "1;",
    "lua": "do end",
    "sql": "SELECT 1",
}
_ALONE_S = 30.0


def suite(wanted: str, backend: str) -> Suite:
    """One language, or "all" that can run here.

    Raises:
        SettingsError: there is no such language, or it cannot run here.
    """
    names = _runnable() if wanted == "all" else [languages.get(wanted).name]
    if wanted != "all" and (problem := find_problem(wanted)):
        raise SettingsError(problem)
    jobs: dict[str, Job] = {}
    for name in names:
        side = _kernel(name, backend)
        jobs[f"{name}_first_result"] = {
            LANGUAGE: partial(first_result, name, side),
            ALONE: partial(alone, name),
        }
        jobs[f"{name}_round_trip"] = {
            LANGUAGE: partial(round_trip, name, side),
            PYTHON: partial(round_trip, "python", _kernel("python", backend)),
        }

    def warm_up(tell: Progress) -> dict[str, str]:
        for name in ("python", *names):
            tell(f"warm-up: {name}")
            first_result(name, _kernel(name, backend))
        return {}

    return Suite(
        LANGUAGE,
        language_promises(names),
        jobs,
        warm_up,
        notes=(
            "first result: from just before the kernel's process is started to the reply to the "
            f"first cell; {ALONE}: the same cell as a program, by the interpreter alone.",
            f"round trip: of a cell that does nothing; {PYTHON}: of `pass` in a Python kernel.",
        ),
    )


def _runnable() -> list[str]:
    return [name for name in NOTHING if name != "python" and not find_problem(name)]


def _kernel(name: str, backend: str) -> Contender:
    settings = [f"--language={name}", f"--backend={backend}"]
    argv = [sys.executable, "-P", "-m", KERNEL_MODULE, "-f", "{connection_file}", *settings]
    return Contender(name, argv, "message", {})


def first_result(name: str, side: Contender) -> Figures:
    """From just before the process is started to the reply to the first cell."""
    with started(side) as kernel:
        kernel.reply(kernel.shell, kernel.send(kernel.shell, "kernel_info_request", {}))
        reply = kernel.reply(kernel.shell, kernel.execute(NOTHING[name]))
        seconds = time.perf_counter() - kernel.started
        if reply["content"]["status"] != "ok":
            raise SandboxKernelError(
                f"The first cell of {name} failed: {reply['content'].get('evalue')}"
            )
        return {"seconds": seconds, "beyond_seconds": seconds - alone(name)["seconds"]}


def round_trip(name: str, side: Contender) -> Figures:
    """Median of many: from sending a cell that does nothing to its reply and idle."""
    with started(side) as kernel:
        kernel.reply(kernel.shell, kernel.send(kernel.shell, "kernel_info_request", {}))
        kernel.nudge()
        kernel.run(NOTHING[name])
        return {"seconds": statistics.median(_times(kernel, NOTHING[name]))}


def _times(kernel: Kernel, code: str) -> Iterable[float]:
    return [kernel.run(code) for _ in range(ROUND_TRIPS)]


def alone(name: str) -> Figures:
    """The same cell as a program, run by the interpreter without us."""
    language = languages.get(name)
    if language.runner:  # written in Python
        language = languages.PYTHON
    with tempfile.TemporaryDirectory(prefix="sandbox-kernel-bench-") as directory:
        path = Path(directory) / language.file_name
        path.write_text(language.opening + NOTHING[language.name] + "\n", encoding="utf-8")
        program = next(filter(None, map(_which, language.programs)), language.programs[0])
        begun = time.perf_counter()
        subprocess.run(
            [program, *(item.replace("{file}", str(path)) for item in language.command[1:])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=_ALONE_S,
        )
        return {"seconds": time.perf_counter() - begun}


def _which(program: str) -> str | None:
    import shutil

    own = os.path.dirname(sys.executable)
    return shutil.which(program, path=os.pathsep.join([own, os.environ.get("PATH", os.defpath)]))
