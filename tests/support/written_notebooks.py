"""Notebooks that a test writes down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """`notebook("a.ipynb", "x = 1", "x + 1", kernel="sandbox-bash")`: its path, in a folder."""

    def write(name: str, *cells: str, kernel: str = "") -> Path:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        if kernel:
            made.metadata["kernelspec"] = {"name": kernel, "display_name": "any"}
        nbformat.write(made, folder / name)
        return folder / name

    return write
