"""One notebook: its cells run, and its data and results beside the copy."""

import nbformat
import pytest
from rich.progress import Progress

from sandbox_kernel.demo.execution import execute
from sandbox_kernel.demo.jobs import job_for
from sandbox_kernel.errors import SettingsError


@pytest.fixture
def folder(notebook):
    """A notebook's, with data that it names and other files."""
    path = notebook("a.ipynb", "'data/wanted.csv'")
    (path.parent / "data").mkdir()
    (path.parent / "data" / "wanted.csv").write_text("1,2")
    (path.parent / "private.txt").write_text("secret")
    return path.parent


def test_data_that_a_notebook_names_is_copied_and_other_files_are_not(folder, tmp_path):
    out = tmp_path / "out"
    execute(job_for(folder / "a.ipynb"), out, str(tmp_path), Progress())
    assert (out / "data" / "wanted.csv").read_text() == "1,2"
    assert not (out / "private.txt").exists()
    executed = nbformat.read(out / "a.ipynb", as_version=4)
    assert executed.cells[0].execution_count == 1


def test_data_that_are_there_already_are_not_replaced_by_others(folder, tmp_path):
    mine = tmp_path / "out" / "data" / "wanted.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(SettingsError, match="choose another --output"):
        execute(job_for(folder / "a.ipynb"), tmp_path / "out", str(tmp_path), Progress())
    assert mine.read_text() == "mine"
