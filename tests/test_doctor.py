"""`doctor`: what it finds is what is there."""

import json
import sys
from pathlib import Path

import pytest

from sandbox_kernel import backends, doctor, languages
from sandbox_kernel.backends.base import Check


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Jupyter data directory that is searched first; the kernels directory in it."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    return kernels


def write_kernel(kernels: Path, name: str, interpreter: str, *arguments: str) -> None:
    argv = [interpreter, "-P", "-m", "sandbox_kernel.kernel", "-f", "{connection_file}"]
    (kernels / name).mkdir()
    content = {"argv": [*argv, *arguments], "display_name": name, "language": "python"}
    (kernels / name / "kernel.json").write_text(json.dumps(content))


def finding(report: doctor.Report, subject: str) -> doctor.Finding:
    return next(item for item in report.findings if item.subject == subject)


def test_a_kernel_that_can_start_is_good(jupyter):
    write_kernel(jupyter, "works", sys.executable)
    assert finding(doctor.examine(), "kernel works").level == "good"


@pytest.mark.parametrize(
    ("interpreter", "arguments", "said"),
    [
        ("/no/such/python", (), "cannot be started"),
        ("/bin/false", (), "has no sandbox_kernel.kernel"),
        (sys.executable, ("--memory=2x",), "not a size"),
    ],
)
def test_a_kernel_that_cannot_start_has_a_remedy(jupyter, interpreter, arguments, said):
    write_kernel(jupyter, "broken", interpreter, *arguments)
    found = finding(doctor.examine(), "kernel broken")
    assert found.level == "problem"
    assert said in found.text
    assert "sandbox-kernel install --name broken" in found.remedy


@pytest.mark.parametrize(
    ("arguments", "level", "said", "remedy"),
    [
        (["--language=bash"], "good", "", ""),
        (["--language=ruby", "--env=PATH=/no/such"], "problem", "There is no ruby", "nstall"),
        (["--language=ruby", "--backend=docker"], "note", "There is no engine at", ""),
    ],
)
def test_a_kernel_whose_language_cannot_run_is_a_finding(
    jupyter, monkeypatch, tmp_path, arguments, level, said, remedy
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    write_kernel(jupyter, "works", sys.executable, *arguments)
    found = finding(doctor.examine(), "kernel works")
    assert found.level == level
    assert said in found.text
    assert remedy in found.remedy


def test_every_language_is_looked_at_with_the_settings_in_force(jupyter, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_ENV", "PATH=/no/such")
    found = {item.language: item.state for item in doctor.examine().languages}
    assert list(found) == languages.names()
    assert found["python"] == "ready"
    assert found["ruby"] == "missing"


def test_settings_in_force_name_their_source(jupyter, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_MEMORY", "512m")
    row = doctor.examine().settings["memory"]
    assert row == {"value": "512m", "source": "environment SANDBOX_KERNEL_MEMORY"}


def test_wrong_settings_make_it_unusable_and_are_a_problem(jupyter, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_MEMORY", "2x")
    report = doctor.examine()
    assert not report.is_usable
    assert finding(report, "settings").level == "problem"


def test_a_machine_where_nothing_isolates_is_not_usable(jupyter, monkeypatch):
    """Not the sandbox but its answer is scripted: this machine may well isolate."""

    class Forbidden:
        def check(self) -> Check:
            return Check("bubblewrap", False, "", "Namespaces are off.", "Turn them on.", {})

    monkeypatch.setattr(backends, "get", lambda name="auto": Forbidden())
    report = doctor.examine()
    assert not report.is_usable
    assert finding(report, "bubblewrap").remedy == "Turn them on."


def test_the_report_is_json(jupyter):
    report = json.loads(json.dumps(doctor.examine().as_json()))
    assert report["checks"][0]["backend"] == backends.names()[0]
    assert report["version"]


def test_where_this_suite_runs_something_isolates(jupyter):
    report = doctor.examine()
    assert report.is_usable, report.findings
    assert report.boundary


# --- the language model -----------------------------------------------------------------

KEY = "sk-canary-of-doctor"


def test_a_model_is_named_with_where_its_key_comes_from(jupyter, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_MODEL", "m")
    monkeypatch.setenv("SANDBOX_KERNEL_MODEL_KEY", KEY)
    report = doctor.examine()
    text = finding(report, "model").text
    assert "with a key from the environment SANDBOX_KERNEL_MODEL_KEY" in text
    assert report.settings["model_key"]["value"] == "(set)"
    assert KEY not in json.dumps(report.as_json())
    assert KEY not in repr(report)


def test_a_model_without_the_key_that_it_needs_is_a_problem(jupyter, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("SANDBOX_KERNEL_MODEL", "m")
    assert finding(doctor.examine(), "model").level == "problem"


def test_without_a_model_nothing_is_said_of_one(jupyter):
    assert "model" not in [item.subject for item in doctor.examine().findings]
