"""nbclient, nbconvert and papermill execute notebooks through the kernelspec."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from tests.support.kernels import IS_OURS, KERNEL_NAME
from tests.support.notebooks import PATIENCE, printed

CHART = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 4, 9])\nplt.show()"


def outputs_of(notebook: nbformat.NotebookNode, index: int) -> list[nbformat.NotebookNode]:
    return notebook.cells[index].outputs


class TestNbclient:
    def execute(self, path: Path, **options) -> nbformat.NotebookNode:
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, kernel_name=KERNEL_NAME, **PATIENCE, **options)
        client.execute(cwd=str(path.parent))
        return notebook

    def test_a_notebook_gets_its_outputs_in_order(self, make_notebook):
        notebook = self.execute(make_notebook("print('first')", "6 * 7", CHART))
        assert printed(notebook.cells[0]) == "first\n"
        assert outputs_of(notebook, 1)[0].data["text/plain"] == "42"
        assert "image/png" in outputs_of(notebook, 2)[0].data
        assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
        nbformat.validate(notebook)

    def test_an_error_stops_the_notebook_and_is_told(self, make_notebook):
        with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
            self.execute(make_notebook("1/0", "print('never')"))

    def test_an_allowed_error_is_an_output(self, make_notebook):
        notebook = self.execute(make_notebook("1/0", "print('after')"), allow_errors=True)
        assert outputs_of(notebook, 0)[0].ename == "ZeroDivisionError"
        assert printed(notebook.cells[1]) == "after\n"

    def test_its_own_timeout_interrupts_the_cell(self, make_notebook):
        path = make_notebook("import time; time.sleep(3600)", "'next'")
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook, timeout=5, interrupt_on_timeout=True, kernel_name=KERNEL_NAME
        )
        with pytest.raises((CellTimeoutError, CellExecutionError)):
            client.execute(cwd=str(path.parent))

    def test_updates_of_displays_land_in_the_notebook(self, make_notebook):
        notebook = self.execute(
            make_notebook(
                "from IPython.display import display\n"
                "h = display({'text/plain': 'old'}, raw=True, display_id=True)",
                "h.update({'text/plain': 'new'}, raw=True)",
            )
        )
        assert outputs_of(notebook, 0)[0].data["text/plain"] == "new"

    def test_a_cell_cannot_read_the_notebook_beside_it(self, make_notebook):
        """Ours: the workspace is not the notebook's directory. The reference's is."""
        code = "import os; print(os.path.exists('made.ipynb'))"
        notebook = self.execute(make_notebook(code))
        assert printed(notebook.cells[0]) == f"{not IS_OURS}\n"


class TestNbconvert:
    def test_execute_writes_an_executed_notebook(self, make_notebook, run_module):
        path = make_notebook("print('converted')", CHART)
        done = run_module(
            "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", str(path)
        )
        assert done.returncode == 0, done.stderr
        notebook = nbformat.read(path.with_name("done.ipynb"), as_version=4)
        assert printed(notebook.cells[0]) == "converted\n"
        assert "image/png" in outputs_of(notebook, 1)[0].data

    def test_execute_to_html_shows_the_chart(self, make_notebook, run_module):
        path = make_notebook("print('in html')", CHART)
        done = run_module("nbconvert", "--to", "html", "--execute", str(path))
        assert done.returncode == 0, done.stderr
        html = path.with_suffix(".html").read_text()
        assert "in html" in html
        assert "data:image/png;base64," in html

    def test_a_failing_notebook_fails_the_command(self, make_notebook, run_module):
        done = run_module("nbconvert", "--to", "html", "--execute", str(make_notebook("1/0")))
        assert done.returncode != 0
        assert "ZeroDivisionError" in done.stderr


class TestPapermill:
    def test_parameters_are_injected_and_used(self, make_notebook, run_module, tmp_path):
        path = make_notebook(
            "count = 1\nname = 'nobody'", "print(name * count)", tags={0: "parameters"}
        )
        arguments = [str(path), "out.ipynb", "-k", KERNEL_NAME, "-p", "count", "3"]
        done = run_module("papermill", *arguments, "-p", "name", "Zoë ")
        assert done.returncode == 0, done.stderr
        notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
        assert ["injected-parameters"] in tags
        assert printed(notebook.cells[-1]) == "Zoë Zoë Zoë \n"

    def test_an_error_is_kept_in_the_output_notebook(self, make_notebook, run_module, tmp_path):
        path = make_notebook("1/0", "print('never')")
        done = run_module("papermill", str(path), "out.ipynb", "-k", KERNEL_NAME)
        assert done.returncode != 0
        assert "ZeroDivisionError" in (tmp_path / "out.ipynb").read_text()

    def test_values_of_all_kinds_reach_the_notebook(self, make_notebook, run_module, tmp_path):
        path = make_notebook("x = None", "print(repr(x))", tags={0: "parameters"})
        done = run_module(
            "papermill", str(path), "out.ipynb", "-k", KERNEL_NAME,
            "-y", "{x: [1, 2.5, true, null, 'quo\"te', {a: b}]}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        assert printed(notebook.cells[-1]) == "[1, 2.5, True, None, 'quo\"te', {'a': 'b'}]\n"
