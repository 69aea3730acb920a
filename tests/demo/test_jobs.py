"""Which kernel a notebook gets, and what is said of one that cannot run here."""

import pytest

from sandbox_kernel import kernelspecs
from sandbox_kernel.demo.jobs import job_for, possible
from sandbox_kernel.errors import SandboxKernelError
from tests.support import docker_engine

NO_ENGINE = "unix:///nonexistent/engine.sock"


@pytest.mark.parametrize("kernel", ["python3", "sandbox-other", "sandbox-nothing-docker", "../x"])
def test_whatever_else_a_notebook_asks_for_it_runs_in_the_usual_sandbox(notebook, kernel):
    job = job_for(notebook("a.ipynb", "1", kernel=kernel))
    assert (job.kernel, job.language, job.image) == ("sandbox-python", "python", "")


def test_a_notebook_that_asks_for_a_language_gets_its_kernel(notebook):
    job = job_for(notebook("a.ipynb", "puts 1", kernel="sandbox-ruby"))
    assert (job.kernel, job.options, job.image) == ("sandbox-ruby", {"language": "ruby"}, "")


def test_an_example_without_an_engine_is_skipped_in_one_line(notebook, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    jobs = [
        job_for(notebook("a.ipynb", "1", kernel="sandbox-bash-docker")),
        job_for(notebook("b.ipynb", "1")),
    ]
    assert possible(jobs, may_skip=True) == jobs[1:]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Skipped a.ipynb: it needs Docker.")
    assert line.endswith("sandbox-kernel setup docker --language bash")


def test_an_example_without_its_image_is_skipped_with_the_command_for_it(notebook, capsys):
    docker_engine.require()
    job = job_for(notebook("a.ipynb", "1", kernel="sandbox-ruby-docker"))
    job = job._replace(image="sandbox-kernel-tests/nowhere")
    assert possible([job], may_skip=True) == []
    assert "sandbox-kernel setup docker --image sandbox-kernel-tests/nowhere" in (
        capsys.readouterr().out
    )


def test_a_notebook_that_was_named_and_cannot_run_is_an_error(notebook, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    job = job_for(notebook("a.ipynb", "1", kernel="sandbox-python-docker"))
    with pytest.raises(SandboxKernelError, match=r"a\.ipynb cannot be executed.*setup docker"):
        possible([job], may_skip=False)


def test_the_image_is_that_of_the_owners_own_kernel(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    options = {"backend": "docker", "language": "ruby", "image": "ruby:3.2-alpine"}
    kernelspecs.install(options, prefix=str(tmp_path))
    job = job_for(notebook("a.ipynb", "1", kernel="sandbox-ruby-docker"))
    assert (job.language, job.image) == ("ruby", "ruby:3.2-alpine")
