"""What the clients' tests share: notebooks made on the spot, commands run with a bound."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tests.support.kernels import KERNEL_NAME

# A cold matplotlib on two noisy cores.
COMMAND_BOUND_S = 110


@pytest.fixture
def make_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Write a notebook of code cells: `make_notebook("print(1)", "2")`."""

    def make(*sources: str, name: str = "made.ipynb", tags: dict[int, str] | None = None) -> Path:
        notebook = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {
                    "name": KERNEL_NAME,
                    "display_name": "Python (sandbox)",
                    "language": "python",
                }
            }
        )
        for number, source in enumerate(sources):
            cell = nbformat.v4.new_code_cell(source)
            if tags and number in tags:
                cell.metadata["tags"] = [tags[number]]
            notebook.cells.append(cell)
        path = tmp_path / name
        nbformat.write(notebook, path)
        return path

    return make


@pytest.fixture
def run_module(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m MODULE ARGUMENTS…` in a directory of its own."""

    def run(module: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_BOUND_S,
            **options,
        )

    return run
