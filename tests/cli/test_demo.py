"""`demo`: notebooks through the installed kernel."""

import nbformat
import pytest


@pytest.fixture
def notebook(tmp_path):
    def write(name: str, *cells: str):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(made, folder / name)
        return folder / name

    return write


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


def test_data_that_a_notebook_names_is_copied_and_other_files_are_not(command, notebook, tmp_path):
    path = notebook("a.ipynb", "'data/wanted.csv'")
    (path.parent / "data").mkdir()
    (path.parent / "data" / "wanted.csv").write_text("1,2")
    (path.parent / "private.txt").write_text("secret")
    assert command("demo", str(path), "--output", "out").returncode == 0
    assert (tmp_path / "out" / "data" / "wanted.csv").read_text() == "1,2"
    assert not (tmp_path / "out" / "private.txt").exists()


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
