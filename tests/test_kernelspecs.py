"""The kernelspecs that come with the package: one a language, as `install` would write it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sandbox_kernel import kernelspecs, languages

ROOT = Path(__file__).parents[1]
FOLDERS = ROOT / "kernelspecs"
PICTURES = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


@pytest.fixture(params=[f"sandbox-{name}" for name in languages._ALIASES])
def folder(request: pytest.FixtureRequest) -> Path:
    return FOLDERS / str(request.param)


def test_every_language_of_ours_has_one():
    assert {f"sandbox-{name}" for name in languages._ALIASES} <= {
        path.name for path in FOLDERS.iterdir()
    }


def test_it_is_what_install_writes_but_for_the_interpreter(folder, tmp_path):
    name = folder.name.removeprefix("sandbox-")
    options = {} if name == "python" else {"language": name}
    written = kernelspecs.install(options, prefix=str(tmp_path))
    packaged = json.loads((folder / "kernel.json").read_text())
    assert packaged["argv"][0] == "python"
    assert written.argv[0] == sys.executable
    assert packaged["argv"][1:] == written.argv[1:]
    assert {**packaged, "argv": []} == {**written.content, "argv": []}


def test_install_takes_its_pictures(folder, tmp_path):
    name = folder.name.removeprefix("sandbox-")
    directory = kernelspecs.install({"language": name}, prefix=str(tmp_path)).directory
    for picture in PICTURES:
        assert (directory / picture).read_bytes() == (folder / picture).read_bytes()


@pytest.mark.parametrize("pixels", [32, 64])
def test_its_pictures_have_the_size_of_their_names(folder, pixels):
    content = (folder / f"logo-{pixels}x{pixels}.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (pixels, pixels)


def test_its_drawing_says_whose_it_is_and_asks_for_nothing_else(folder):
    """No script, no link, no font of the reader's: the drawing looks alike everywhere."""
    text = (folder / "logo-svg.svg").read_text()
    drawing = ElementTree.fromstring(text)
    shown = json.loads((folder / "kernel.json").read_text())["display_name"]
    assert drawing.findtext("{http://www.w3.org/2000/svg}title") == shown
    tags = {element.tag.rpartition("}")[2] for element in drawing.iter()}
    assert tags <= {"svg", "title", "rect", "path", "g"}
    assert "href" not in text
    assert "url(" not in text


def test_no_two_look_alike():
    drawings = [(path / "logo-svg.svg").read_text() for path in FOLDERS.iterdir()]
    assert len(set(drawings)) == len(drawings)


def test_the_name_of_the_language_is_the_one_that_papermill_and_nbconvert_know(folder):
    known = {"python": "python", "ipykernel": "python", "r": "R", "bash": "bash"}
    name = folder.name.removeprefix("sandbox-")
    language = json.loads((folder / "kernel.json").read_text())["language"]
    assert language == known.get(name, languages.get(name).jupyter_name)
    if name in known:
        from papermill.translators import papermill_translators

        assert papermill_translators.find_translator(folder.name, language)


def test_only_pythons_appears_in_jupyter_by_itself():
    """The others would be kernels that fail where their language is not installed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert list(wheel["shared-data"]) == ["kernelspecs/sandbox-python"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_brings_the_pictures_of_all(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install hatchling")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    with zipfile.ZipFile(tmp_path / done.stdout.strip().splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
    for name in languages._ALIASES:
        for picture in PICTURES:
            assert f"sandbox_kernel/_kernelspecs/sandbox-{name}/{picture}" in names
