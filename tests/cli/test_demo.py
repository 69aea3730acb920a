"""`demo`: notebooks through the installed kernel, or in containers when they ask for one."""

import nbformat
import pytest

from tests.support import docker_engine


def test_a_notebook_becomes_an_executed_one_and_html(command, notebook, tmp_path):
    done = command("demo", str(notebook("a.ipynb", "x = 20", "print(x + 22)")), "--output", "out")
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "42\n"
    assert "42" in (tmp_path / "out" / "a.html").read_text()
    assert str(tmp_path / "out" / "a.html") in done.stdout
    assert "ran behind:" in done.stdout


def test_a_cell_that_fails_is_code_1_and_the_notebook_is_kept(command, notebook, tmp_path):
    done = command("demo", str(notebook("a.ipynb", "print('before')", "1/0")), "--output", "out")
    assert done.returncode == 1
    assert "a.ipynb failed" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "before" in (tmp_path / "out" / "a.html").read_text()


def test_a_notebook_is_never_overwritten_by_its_result(command, notebook):
    path = notebook("a.ipynb", "1")
    before = path.read_bytes()
    done = command("demo", str(path), "--output", str(path.parent))
    assert done.returncode == 2
    assert "choose another --output" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"cells": 3}'])
def test_what_is_not_a_notebook_is_one_clear_line(command, tmp_path, content):
    (tmp_path / "a.ipynb").write_text(content)
    done = command("demo", "a.ipynb")
    assert done.returncode == 2
    assert "a.ipynb is not a notebook" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_notebook_that_asks_for_an_unsandboxed_kernel_does_not_get_it(
    command, notebook, tmp_path
):
    """The file is there for whoever is not in a sandbox."""
    path = notebook("a.ipynb", f"import os; os.path.exists({str(tmp_path)!r})", kernel="python3")
    assert command("demo", str(path), "--output", "out").returncode == 0
    executed = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].data["text/plain"] == "False"


def test_a_notebook_that_asks_for_a_container_runs_in_one(command, notebook, tmp_path):
    """Without a kernelspec for it: the image is enough."""
    docker_engine.require()
    code = "import os; os.path.exists('/.dockerenv'), os.getcwd()"
    path = notebook("a.ipynb", code, kernel="sandbox-python-docker")
    done = command("demo", str(path), "--output", "out")
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4)
    assert "/workspace" in executed.cells[0].outputs[0].data["text/plain"]
    assert "a.ipynb ran in a container of sandbox-kernel/python" in done.stdout
    assert "sandbox-kernel install --backend docker" in done.stdout
