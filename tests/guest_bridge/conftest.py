"""Bridges for the tests: to a kernel that does what its cells say, and to real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest_runners import support
from tests.guest_runners.support import Runner, this_python

MAIN = support.MAIN.parent.parent.parent / "bridge" / "__main__.py"
SCRIPTED = (sys.executable, str(Path(__file__).parent / "scripted_kernel.py"), "{connection_file}")

Start = Callable[..., Runner]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*argv)` starts a bridge to the kernel of that argv; the scripted one by default."""
    started: list[Runner] = []

    def start_it(*argv: str, options: tuple[str, ...] = ()) -> Runner:
        arguments = ("Scripted", "python3", "Install it.", *options, *(argv or SCRIPTED))
        runner = Runner(
            this_python(), tmp_path, {}, ("-I", "-S"), main=MAIN, main_arguments=arguments
        )
        started.append(runner)
        return runner

    yield start_it
    for runner in started:
        runner.close()


@pytest.fixture
def bridge(start: Start) -> Runner:
    """A bridge to the scripted kernel."""
    return start()
