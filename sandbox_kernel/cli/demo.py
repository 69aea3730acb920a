"""`demo`: the example notebooks, or those that are named, through our kernels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED, complain
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.demo.jobs import Job


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="execute the example notebooks in the sandbox",
        description="Execute notebooks in sandboxes; keep them as ipynb and html. Those that ask "
        "for a container need an engine and an image.",
        allow_abbrev=False,
    )
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="default: the examples")
    parser.add_argument(
        "--output", metavar="DIR", default="demo-output", help="default: %(default)s"
    )
    parser.set_defaults(execute=demo)


def demo(arguments: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from sandbox_kernel.demo.execution import provide_kernels
    from sandbox_kernel.demo.jobs import examples, job_for, possible

    named = [Path(item) for item in arguments.notebooks]
    output = Path(arguments.output).absolute()
    _require_ready(named or examples(), output)
    jobs = possible([job_for(path) for path in named or examples()], may_skip=not named)
    boundary = _boundary(jobs)
    with TemporaryDirectory(prefix="sandbox-kernel-demo-") as prefix:
        provide_kernels(jobs, prefix)
        failures = _execute_all(jobs, output, prefix)
    _say_where(jobs, output, boundary)
    return FAILED if failures else DONE


def _execute_all(jobs: list[Job], output: Path, prefix: str) -> int:
    """How many of them failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from sandbox_kernel.demo.execution import CellFailedInDemo, execute

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    failures = 0
    with Progress(*columns, TextColumn("{task.fields[cell]}")) as progress:
        for job in jobs:
            try:
                execute(job, output, prefix, progress)
            except CellFailedInDemo as error:
                progress.stop()
                failures += complain(error)
    return failures


def _require_ready(paths: list[Path], output: Path) -> None:
    """Everything that can be known before a kernel is started."""
    from importlib.util import find_spec

    missing = [name for name in ("nbclient", "nbconvert") if find_spec(name) is None]
    if missing:
        raise SandboxKernelError(
            f"The demo needs {' and '.join(missing)}. "
            "Install them with: pip install 'sandbox-kernel[demo]'"
        )
    for path in paths:
        if not path.is_file():
            raise SettingsError(f"There is no notebook {path}.")
        if path.absolute().parent == output:
            raise SettingsError(f"{path} would be overwritten; choose another --output.")


def _boundary(jobs: list[Job]) -> str:
    """What isolates notebooks without containers, found by trying; "" when there are none.

    Raises:
        SandboxKernelError: nothing does, or Jupyter lacks the kernel.
    """
    from sandbox_kernel import backends, kernelspecs
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.demo.jobs import KERNEL
    from sandbox_kernel.settings import Settings

    if all(job.image for job in jobs):
        return ""
    if kernelspecs.find(KERNEL) is None:
        raise SandboxKernelError(
            f"Jupyter has no kernel {KERNEL}. Install it with: sandbox-kernel install"
        )
    settings = Settings.load()
    check = backends.get(settings.backend).check()
    if not check.is_usable:
        raise SandboxKernelError(f"{check.reason} {check.remedy}")
    warm_up(settings)
    return check.boundary


def _say_where(jobs: list[Job], output: Path, boundary: str) -> None:
    images = dict.fromkeys(job.image for job in jobs if job.image)
    print()
    if boundary:
        which = "Every cell" if not images else "Cells without a container"
        print(f"{which} ran behind: {boundary}")
    for image in images:
        names = ", ".join(job.path.name for job in jobs if job.image == image)
        print(f"{names} ran in a container of {image}")
    print("Executed notebooks, each also as html:")
    for job in jobs:
        print(f"  {output / job.path.name}")
        print(f"  {output / job.path.stem}.html")
    _say_next(jobs, output)


def _say_next(jobs: Iterable[Job], output: Path) -> None:
    from importlib.util import find_spec

    from sandbox_kernel import kernelspecs
    from sandbox_kernel.demo.jobs import HOST_KERNEL, option_of

    missing = {job.kernel: job for job in jobs if kernelspecs.find(job.kernel) is None}
    missing.pop(HOST_KERNEL, None)
    for job in missing.values():
        backend = " --backend docker" if job.image else ""
        command = f"sandbox-kernel install{backend}{option_of(job.language)}"
        print(f"For {job.path.name} in Jupyter: {command}")
    lab = f"{Path(sys.executable).parent / 'jupyter'} lab {output}"
    if find_spec("jupyterlab") is None:
        print("For JupyterLab: pip install 'sandbox-kernel[lab]'")
    else:
        print(f"Next, in JupyterLab: {lab}\nThe launcher has it as “Python (sandbox)”.")
