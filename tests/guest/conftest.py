"""Supervisors on pipes, on this Python and on the oldest that guests may have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.guest.support import DEADLINE_S, FAITHFUL, SUPERVISOR, Guest


def _oldest_python() -> str | None:
    installed = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python3.8"))
    # pyenv's own first: what it puts into PATH only asks which version is meant.
    return str(installed[-1]) if installed else shutil.which("python3.8")


@pytest.fixture(params=["this Python", "Python 3.8"])
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter inside: the supervisor promises to run on 3.8."""
    found = sys.executable if request.param == "this Python" else _oldest_python()
    if found is None:
        pytest.skip("There is no Python 3.8 on this machine.")
    return found


@pytest.fixture
def start_guest(python: str, tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    """Start supervisors for one test: `start_guest(SOURCE, limits={…})`."""
    with ExitStack() as stack:

        def start(source: str = FAITHFUL, prefix: list[str] | None = None, **options: Any) -> Guest:
            script = tmp_path / "runner.py"
            script.write_text(source)
            command = [*(prefix or []), python, "-I", "-S", str(SUPERVISOR)]
            options.setdefault("runner", [python, "-I", "-S", str(script)])
            return stack.enter_context(closing(Guest(command, tmp_path, **options)))

        yield start


@pytest.fixture
def guest(start_guest: Callable[..., Guest]) -> Guest:
    """A supervisor with a faithful runner."""
    return start_guest()


@pytest.fixture
def start_raw(python: str) -> Callable[[bytes], tuple[int, bytes, str]]:
    """Give a supervisor bytes and the end of its input: exit code, output, last words."""

    def start(stream: bytes) -> tuple[int, bytes, str]:
        command = [python, "-I", "-S", str(SUPERVISOR)]
        done = subprocess.run(command, input=stream, capture_output=True, timeout=DEADLINE_S)
        return done.returncode, done.stdout, done.stderr.decode()

    return start
