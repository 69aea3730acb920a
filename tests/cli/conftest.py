"""The command in a process of its own, with a home and a Jupyter of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Nothing of the tester's own settings or kernelspecs; those of `sys.prefix` are seen."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SANDBOX_KERNEL_", "JUPYTER_", "XDG_"))
    }
    return kept | {"HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


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
