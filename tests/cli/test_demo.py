"""`demo`: notebooks through the installed kernel, or in containers when they ask for one."""

from pathlib import Path

import nbformat
import pytest

from sandbox_kernel.cli import demo
from sandbox_kernel.errors import SandboxKernelError
from tests.support import docker_engine

NO_ENGINE = "unix:///nonexistent/engine.sock"


@pytest.fixture
def notebook(tmp_path):
    def write(name: str, *cells: str, kernel: str = "") -> Path:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        if kernel:
            made.metadata["kernelspec"] = {"name": kernel, "display_name": "any"}
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


# --- which kernel -----------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["python3", "sandbox-other", "sandbox-nothing-docker", "../x"])
def test_whatever_else_a_notebook_asks_for_it_runs_in_the_usual_sandbox(notebook, kernel):
    job = demo._job(notebook("a.ipynb", "1", kernel=kernel))
    assert (job.kernel, job.language, job.image) == ("sandbox-python", "python", "")


def test_a_notebook_that_asks_for_a_language_gets_its_kernel(notebook):
    job = demo._job(notebook("a.ipynb", "puts 1", kernel="sandbox-ruby"))
    assert (job.kernel, job.options, job.image) == ("sandbox-ruby", {"language": "ruby"}, "")


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


def test_an_example_without_an_engine_is_skipped_in_one_line(notebook, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    jobs = [
        demo._job(notebook("a.ipynb", "1", kernel="sandbox-bash-docker")),
        demo._job(notebook("b.ipynb", "1")),
    ]
    assert demo._possible(jobs, may_skip=True) == jobs[1:]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Skipped a.ipynb: it needs Docker.")
    assert line.endswith("sandbox-kernel setup docker --language bash")


def test_an_example_without_its_image_is_skipped_with_the_command_for_it(notebook, capsys):
    docker_engine.require()
    job = demo._job(notebook("a.ipynb", "1", kernel="sandbox-ruby-docker"))
    job = job._replace(image="sandbox-kernel-tests/nowhere")
    assert demo._possible([job], may_skip=True) == []
    assert "sandbox-kernel setup docker --image sandbox-kernel-tests/nowhere" in (
        capsys.readouterr().out
    )


def test_a_notebook_that_was_named_and_cannot_run_is_an_error(notebook, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    job = demo._job(notebook("a.ipynb", "1", kernel="sandbox-python-docker"))
    with pytest.raises(SandboxKernelError, match=r"a\.ipynb cannot be executed.*setup docker"):
        demo._possible([job], may_skip=False)


def test_the_image_is_that_of_the_owners_own_kernel(command, notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    options = ("--backend", "docker", "--language", "ruby", "--image", "ruby:3.2-alpine")
    assert command("install", "--prefix", str(tmp_path), *options).returncode == 0
    job = demo._job(notebook("a.ipynb", "1", kernel="sandbox-ruby-docker"))
    assert (job.language, job.image) == ("ruby", "ruby:3.2-alpine")
