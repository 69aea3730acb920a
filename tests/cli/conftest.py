"""The command in a process of its own, with a home and a Jupyter of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.written_notebooks import notebook

__all__ = ["notebook"]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first command leaves what quick starts need, and the others find it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(home: Path, cache: Path) -> dict[str, str]:
    """Nothing of the tester's own settings, account or kernelspecs; those of `sys.prefix` are
    seen."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SANDBOX_KERNEL_", "JUPYTER_", "XDG_", "OPENAI_"))
    }
    ours = {"HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    return kept | ours | {"XDG_CACHE_HOME": str(cache)}


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Command:
    """`command("run", "-c", "…", input=…, **variables)`."""

    def call(*words: str, input: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-P", "-m", "sandbox_kernel.cli", *words],
            input=input,
            text=True,
            capture_output=True,
            cwd=tmp_path,
            env=environment | variables,
            timeout=90,
        )

    return call
