"""Runners for the tests: with IPython, without it, and without it on the oldest Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest_runners.support import Runner, old_python, this_python

PLAIN = {"SANDBOX_RUNNER_SHELL": "plain"}


def _start(shell: str, cwd: Path) -> Runner:
    if shell != "plain-3.8":
        return Runner(this_python(), cwd, PLAIN if shell == "plain" else {})
    python = old_python()
    if python is None:
        pytest.skip("this machine has no Python 3.8 without IPython")
    return Runner(python, cwd, {})


@pytest.fixture
def start_runner(tmp_path: Path) -> Iterator[Callable[[str], Runner]]:
    """Start a runner with the shell of that name."""
    started: list[Runner] = []

    def start(shell: str) -> Runner:
        started.append(_start(shell, tmp_path))
        return started[-1]

    yield start
    for runner in started:
        runner.close()


@pytest.fixture(params=["ipython", "plain", "plain-3.8"])
def runner(request: pytest.FixtureRequest, start_runner: Callable[[str], Runner]) -> Runner:
    """A fresh runner; each test runs with every shell."""
    return start_runner(request.param)


@pytest.fixture
def ipython(start_runner: Callable[[str], Runner]) -> Runner:
    """A fresh runner with IPython."""
    return start_runner("ipython")


@pytest.fixture
def plain(start_runner: Callable[[str], Runner]) -> Runner:
    """A fresh runner without IPython, on this Python."""
    return start_runner("plain")
