"""Notebooks in every language, by the tools that run and convert notebooks.

Each kernel is installed into a prefix of its own, as `install --language` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert.exporters import HTMLExporter, ScriptExporter

from sandbox_kernel import kernelspecs, languages
from sandbox_kernel.availability import find_problem
from tests.support.kernels import IS_OURS
from tests.support.notebooks import PATIENCE, printed
from tests.support.samples import SAMPLES

pytestmark = pytest.mark.skipif(not IS_OURS, reason="the languages of the sandbox kernel")

Run = Callable[..., "CompletedProcess[str]"]

# Language: a cell of parameters, one that uses them, and what that prints for `-p` below.
PARAMETERS = {
    "python": ("count = 1\nname = 'nobody'", "print(name * count)", "Zoe Zoe Zoe "),
    "ipykernel": ("count = 1\nname = 'nobody'", "print(name * count)", "Zoe Zoe Zoe "),
    "r": ("count <- 1\nname <- 'nobody'", "cat(strrep(name, count))", "Zoe Zoe Zoe "),
    "bash": (
        "count=1\nname=nobody",
        'for i in $(seq "$count"); do printf "%s" "$name"; done',
        "Zoe Zoe Zoe ",
    ),
}


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`notebook("ruby", "puts 1")` writes one, and makes Jupyter find its kernel."""
    prefix = tmp_path / "prefix"
    monkeypatch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))

    def make(language: str, *sources: str) -> Path:
        if reason := find_problem(language):
            pytest.skip(f"{language}: {reason}")
        spec = kernelspecs.install({"language": language}, prefix=str(prefix))
        made = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {
                    "name": spec.name,
                    "display_name": spec.display_name,
                    "language": spec.content["language"],
                }
            },
            cells=[nbformat.v4.new_code_cell(source) for source in sources],
        )
        path = tmp_path / f"{language}.ipynb"
        nbformat.write(made, path)
        return path

    return make


def shown(output: nbformat.NotebookNode) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


@pytest.mark.parametrize("language", languages.names())
def test_an_executed_notebook_converts_in_colour_and_to_a_file(
    notebook: Callable[..., Path], language: str
):
    sample = SAMPLES[language]
    executed = nbformat.read(notebook(language, sample.code), as_version=4)
    NotebookClient(executed, **PATIENCE).execute()
    assert sample.output in "".join(map(shown, executed.cells[0].outputs))

    html, _ = HTMLExporter().from_notebook_node(executed)
    # Pygments' short names: a comment, a text, a word of the language; and what it cannot read.
    comment = re.escape(sample.code.splitlines()[0])
    assert re.search(rf'<span class="c[1mhp]?">[^<]*{comment}', html)
    assert re.search(rf'<span class="s[a-z0-9]*">[^<]*{sample.text}', html)
    assert re.search(r'<span class="(k[a-z]?|nb|ow|nf)">', html)
    assert 'class="err"' not in html

    script, resources = ScriptExporter().from_notebook_node(executed)
    assert sample.code in script
    assert resources["output_extension"] == languages.get(language).file_extension


@pytest.mark.parametrize("language", PARAMETERS)
def test_papermill_gives_parameters(
    notebook: Callable[..., Path], run_module: Run, tmp_path: Path, language: str
):
    defaults, use, expected = PARAMETERS[language]
    path = notebook(language, defaults, use)
    written = nbformat.read(path, as_version=4)
    written.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(written, path)
    if not languages.get(language).has_state:
        pytest.skip(f"{language}: variables do not live from cell to cell")
    done = run_module("papermill", str(path), "out.ipynb", "-p", "count", "3", "-p", "name", "Zoe ")
    assert done.returncode == 0, done.stderr
    result = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert ["injected-parameters"] in [cell.metadata.get("tags", []) for cell in result.cells]
    assert printed(result.cells[-1]) in (expected, expected + "\n")


def test_papermill_says_for_which_languages_it_has_no_parameters(
    notebook: Callable[..., Path], run_module: Run
):
    """Not ours to change: the notebook itself runs, without `-p`."""
    path = notebook("perl", 'print "ran\\n";')
    assert run_module("papermill", str(path), "out.ipynb").returncode == 0
    refused = run_module("papermill", str(path), "out.ipynb", "-p", "count", "3")
    assert refused.returncode != 0
    assert "No parameter translator functions specified for kernel" in refused.stderr
