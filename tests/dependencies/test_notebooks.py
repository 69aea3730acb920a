"""What a notebook's metadata ask for, whatever the file holds."""

from __future__ import annotations

import json
import os

import pytest

from sandbox_kernel.dependencies import notebooks
from sandbox_kernel.dependencies.notebooks import requested


@pytest.fixture
def ask(tmp_path):
    def ask_for(content, name="a.ipynb"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return requested({"JPY_SESSION_NAME": str(path)})

    return ask_for


def notebook(dependencies):
    return {"cells": [], "metadata": {"sandbox_kernel": {"dependencies": dependencies}}}


def test_a_list_in_the_metadata_is_what_a_notebook_asks_for(ask):
    assert ask(notebook(["pandas==3.*", "npm:lodash"])) == ["pandas==3.*", "npm:lodash"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe sandbox_kernel",
        b"sandbox_kernel",
        b'["sandbox_kernel"]',
        b"[" * 100_000 + b'"sandbox_kernel"',
        b'{"metadata": "sandbox_kernel"}',
        b'{"metadata": {"sandbox_kernel": ["a"]}}',
        b'{"metadata": {"sandbox_kernel": {"dependencies": "pandas"}}}',
        b'{"metadata": {"sandbox_kernel": {"dependencies": [1, null, {}, ["a"]]}}}',
        b'{"metadata": {"sandbox_kernel": null}, "metadata": 7}',
        b'{"cells": [], "metadata": {}}',
    ],
)
def test_a_strange_file_asks_for_nothing(ask, content):
    assert ask(content) == []


def test_what_is_no_readable_notebook_asks_for_nothing(ask, tmp_path, monkeypatch):
    assert requested({}) == []
    assert ask(notebook(["a"]), name="a.txt") == []
    assert requested({"JPY_SESSION_NAME": "a.ipynb"}) == []
    assert requested({"JPY_SESSION_NAME": str(tmp_path / "missing.ipynb")}) == []
    assert requested({"JPY_SESSION_NAME": str(tmp_path / "a\0b.ipynb")}) == []
    os.mkfifo(tmp_path / "fifo.ipynb")
    assert requested({"JPY_SESSION_NAME": str(tmp_path / "fifo.ipynb")}) == []
    (tmp_path / "directory.ipynb").mkdir()
    assert requested({"JPY_SESSION_NAME": str(tmp_path / "directory.ipynb")}) == []
    monkeypatch.setattr(notebooks, "MAX_BYTES", 10)
    assert ask(notebook(["a"])) == []
