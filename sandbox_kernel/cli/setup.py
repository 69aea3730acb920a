"""`setup`: what a backend needs before its first kernel; for Docker, the images.

Progress goes to stderr: a live line for each step on a terminal, one plain line a step
elsewhere. The result, with the command that comes next, goes to stdout.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE
from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sandbox_kernel.backends.docker.building import Report

# A terminal is redrawn by rich; a build prints hundreds of lines a second.
_DETAIL_CHARACTERS = 60


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "setup",
        help="prepare a backend: build or pull the images of docker",
        description="Prepare a backend. Only this command ever asks a registry for an image.",
        allow_abbrev=False,
    )
    parser.add_argument("backend", choices=("docker", "bubblewrap"), metavar="BACKEND")
    parser.add_argument(
        "--language",
        metavar="L",
        action="append",
        help="build the image of this language, the one of all of them (polyglot), or each (all); "
        "may be repeated (default: python)",
    )
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--base", metavar="IMAGE", help="build on this Debian or Ubuntu")
    base.add_argument(
        "--make-base", action="store_true", help="make a Debian without a registry to build on"
    )
    parser.add_argument("--fresh", action="store_true", help="build anew what is there already")
    parser.add_argument("--image", metavar="IMAGE", help="pull an image of yours, build nothing")
    parser.set_defaults(execute=setup)


def setup(arguments: argparse.Namespace) -> int:
    if arguments.backend == "bubblewrap":
        print("bubblewrap needs no setup. Whether it works here: sandbox-kernel doctor")
        return DONE
    if not arguments.image:
        return _build(arguments)
    if arguments.language or arguments.base or arguments.make_base or arguments.fresh:
        raise SettingsError("--image only pulls: give it alone, without what builds images.")
    return _pull(arguments.image)


def _build(arguments: argparse.Namespace) -> int:
    from sandbox_kernel.backends.docker import base_image
    from sandbox_kernel.backends.docker import setup as images
    from sandbox_kernel.limits import format_size

    languages = arguments.language or ["python"]
    chosen = images.families(languages)
    with _progress() as report:
        if arguments.make_base:
            base = base_image.make(report, is_fresh=arguments.fresh)
        else:
            base = base_image.find(arguments.base, report, last=images.last_base())
        made = list(images.build(chosen, base, report, is_fresh=arguments.fresh))
    for image in made:
        how = f"built in {image.elapsed_s:.0f} s" if image.is_new else "up to date"
        print(f"{image.name}: {format_size(image.size_bytes)}, {how}")
    _say_next(languages)
    return DONE


def _say_next(languages: list[str]) -> None:
    """The commands that make kernels of what was built."""
    command = "Next: sandbox-kernel install --backend docker"
    for name in dict.fromkeys(languages):
        if name == "polyglot":
            print(f"{command} --image sandbox-kernel/polyglot --language all")
        else:
            print(command if name == "python" else f"{command} --language {name}")


def _pull(image: str) -> int:
    from sandbox_kernel.backends.docker import base_image
    from sandbox_kernel.limits import format_size

    started_s = time.monotonic()
    with _progress() as report:
        size_bytes = base_image.pull(image, report)
    print(f"{image}: {format_size(size_bytes)}, pulled in {time.monotonic() - started_s:.0f} s")
    print(f"Next: sandbox-kernel install --backend docker --image {image}")
    return DONE


# --- how it is shown ------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Report]:
    """Who shows how it goes, until the block ends."""
    if not sys.stderr.isatty():
        yield _PlainReport()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        report = _LiveReport(progress)
        yield report
        report.finish()


class _PlainReport:
    """A line a step, for logs and pipes."""

    def step(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Nothing: who reads a log wants the steps."""

    def amount(self, done: int, total: int) -> None:
        """Nothing, as above."""


class _LiveReport:
    """A line a step on a terminal, the last of them alive."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def step(self, text: str) -> None:
        self.finish()
        self._task = self._progress.add_task(text, total=None, detail="")

    def detail(self, text: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, detail=text[:_DETAIL_CHARACTERS])

    def amount(self, done: int, total: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None)

    def finish(self) -> None:
        """What was begun is done."""
        if self._task is not None:
            self._progress.update(self._task, completed=1, total=1, detail="")
            self._progress.stop_task(self._task)
