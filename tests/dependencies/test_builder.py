"""Real installations by real installers, in a builder on every backend."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time

import pytest
import requests

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.dependencies.requirements import Requirement
from sandbox_kernel.errors import DependencyFailed
from sandbox_kernel.limits import MIB
from tests.support.package_index import sdist, serving, wheel
from tests.support.waiting import DEADLINE_S


def files(layer):
    found = [path.relative_to(layer).as_posix() for path in layer.rglob("*") if path.is_file()]
    return sorted(name for name in found if not name.endswith(".pyc"))


def said(*command, **options):
    """What a program of the layer prints here."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, **options)
    return ran.stdout or ran.stderr


# --- what is installed ------------------------------------------------------------------


async def test_packages_and_what_they_need_come_into_the_layer(building):
    wheel(building.packages, "needed", {"needed.py": "VALUE = 7\n"})
    tool = {"tool.py": "import needed\ndef main(): print(needed.VALUE)\n"}
    wheel(building.packages, "tool", tool, requires=("needed>=1",), scripts="tool = tool:main")
    record = await building("tool")
    assert {item.name: item.version for item in record.resolved} == {"needed": "1.0", "tool": "1.0"}
    assert {"lib/needed.py", "lib/tool.py", "bin/tool"} <= set(files(building.layer))
    assert record.files == sum(path.is_file() for path in building.layer.rglob("*"))
    assert os.access(building.layer / "bin/tool", os.X_OK)
    # The twin of a build: what is in the layer is what runs.
    environment = {"PYTHONPATH": str(building.layer / "lib")}
    assert said(sys.executable, "-c", "import tool; tool.main()", env=environment) == "7\n"


async def test_hashes_are_those_of_the_files_that_the_index_gave(building):
    from hashlib import sha256

    path = wheel(building.packages, "pure")
    [found] = (await building("pure==1.0")).resolved
    assert found.hash == f"sha256:{sha256(path.read_bytes()).hexdigest()}"


async def test_a_source_package_is_built(building):
    sdist(building.packages, "built", "found['argv'] = True")
    record = await building("built")
    assert json.loads((building.layer / "lib/built_found.json").read_text()) == {"argv": True}
    assert [item.name for item in record.resolved] == ["built"]


async def test_sources_are_compiled_so_that_sessions_need_not(building, backend):
    wheel(building.packages, "pure")
    await building("pure")
    assert list((building.layer / "lib/__pycache__").glob("pure.*.pyc"))


async def test_what_the_environment_has_is_not_installed_again(building, backend):
    if backend == "docker":
        pytest.skip("docker: which packages the image has is its maker's business")
    wheel(building.packages, "wanting", {"wanting.py": ""}, requires=("requests",))
    assert [item.name for item in (await building("wanting")).resolved] == ["wanting"]


async def test_an_index_over_http_is_asked_through_the_host(building, monkeypatch):
    with serving() as server:
        server.put_package(wheel(building.packages, "pure"))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        address = server.address.replace("//", "//user:canary@")
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        await building("pure")
        assert "/files/pure-1.0-py3-none-any.whl" in server.paths
        assert all("Authorization" in headers for _, _, headers in server.asked)
    assert "lib/pure.py" in files(building.layer)
    assert "canary" not in building.output


async def test_constraints_of_the_host_hold(building, monkeypatch, tmp_path):
    wheel(building.packages, "pure", version="1.0")
    wheel(building.packages, "pure", version="2.0")
    (tmp_path / "constraints.txt").write_text("pure<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert [item.version for item in (await building("pure")).resolved] == ["1.0"]


async def test_output_comes_while_it_runs(building):
    sdist(building.packages, "slow", "import time; time.sleep(2)")
    heard = []
    await building("slow", on_output=lambda text: heard.append((time.monotonic(), text)))
    assert heard[-1][0] - heard[0][0] > 0.5
    assert "slow" in building.output


# --- what fails -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nowhere", "has no package nowhere."),
        ("pure==9", r"no version of the package that fits pure==9; there are 1\.0, 2\.0\."),
    ],
)
async def test_what_the_index_does_not_have_is_said_first_and_leaves_nothing(
    building, text, sentence
):
    wheel(building.packages, "pure", version="1.0")
    wheel(building.packages, "pure", version="2.0")
    with pytest.raises(DependencyFailed, match=sentence) as failure:
        await building(text)
    assert str(failure.value).startswith("The package index")
    assert "\nThe installer's last lines:\n" in str(failure.value)
    assert not building.layer.exists()


async def test_a_build_that_fails_shows_its_last_lines(building):
    sdist(building.packages, "broken", "raise RuntimeError('the reason')")
    with pytest.raises(DependencyFailed, match="the reason"):
        await building("broken")
    assert not building.layer.exists()


async def test_an_index_that_cannot_be_reached_is_said_first(building, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DependencyFailed, match=r"^The package index at 127\.0\.0\.1:9 cannot be"):
        await building("pure")


async def test_an_option_is_no_package_even_if_it_comes_this_far(building):
    with pytest.raises(DependencyFailed, match="is an option and no package"):
        await building(Requirement("pip", "--index-url=x"))


async def test_a_cancelled_build_leaves_nothing(building):
    sdist(building.packages, "slow", "import time; time.sleep(60)")
    heard = asyncio.Event()
    work = asyncio.create_task(building("slow", on_output=lambda _text: heard.set()))
    async with asyncio.timeout(DEADLINE_S):
        await heard.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert not building.layer.exists()


async def test_an_image_without_python_is_named(building, backend):
    if backend != "docker":
        pytest.skip("bubblewrap: guests have the host's Python")
    spec = SandboxSpec(language="bash", image="sandbox-kernel-tests/bash")
    engine = __import__("tests.support.docker_engine", fromlist=["api"])
    if not engine.api().images(spec.image):
        pytest.skip("docker: the image of the tests of shells is not there")
    with pytest.raises(DependencyFailed, match="it has no Python 3"):
        await building("pure", spec=spec)


# --- limits -----------------------------------------------------------------------------


async def test_a_build_that_takes_too_long_is_ended(building):
    sdist(building.packages, "endless", "while True: pass")
    with pytest.raises(DependencyFailed, match="took longer than"):
        await building("endless", timeout_s=6)
    assert not building.layer.exists()


async def test_a_build_that_fills_the_disk_is_told_how_large_it_is(building):
    sdist(building.packages, "large", "open('x', 'wb').write(bytes(300 << 20))")
    with pytest.raises(DependencyFailed, match="disk, which has 128 MiB"):
        await building("large", workspace_bytes=128 * MIB)


# --- other ecosystems -------------------------------------------------------------------


def _reachable(url):
    try:
        return requests.head(url, timeout=10).status_code < 500
    except requests.RequestException:
        return False


@pytest.mark.slow
async def test_a_package_of_pypi_is_installed(building, monkeypatch):
    if not _reachable("https://pypi.org/simple/six/"):
        pytest.skip("PyPI does not answer here")
    monkeypatch.delenv("PIP_NO_INDEX")
    record = await building("six==1.16.0")
    assert [(item.name, item.version) for item in record.resolved] == [("six", "1.16.0")]
    assert "lib/six.py" in files(building.layer)


@pytest.mark.slow
async def test_a_package_of_npm_is_installed_with_its_programs(building, backend):
    if backend == "docker":
        pytest.skip("docker: the image for Python has no Node.js")
    if not shutil.which("node") or not _reachable("https://registry.npmjs.org/"):
        pytest.skip("npm's registry does not answer here, or there is no Node.js")
    record = await building("semver@7.5.4", ecosystem="npm")
    assert ("semver", "7.5.4") in [(item.name, item.version) for item in record.resolved]
    assert said(building.layer / "node_modules/.bin/semver", "1.2.3") == "1.2.3\n"


@pytest.mark.slow
async def test_a_debian_package_is_unpacked(building):
    if not shutil.which("apt-get") or not _reachable("http://deb.debian.org/debian/"):
        pytest.skip("Debian's mirror does not answer here, or this is no Debian")
    record = await building("hello", ecosystem="apt")
    assert [item.name for item in record.resolved] == ["hello"]
    assert record.resolved[0].hash.startswith("sha256:")
    assert said(building.layer / "usr/bin/hello") == "Hello, world!\n"


async def test_a_gem_of_an_index_of_ones_own_is_installed(building, backend, tmp_path):
    if backend == "docker":
        pytest.skip("docker: the image for Python has no Ruby")
    if not shutil.which("gem"):
        pytest.skip("there is no Ruby here")
    _make_gem_index(tmp_path / "source", tmp_path / "index")
    (tmp_path / "home/.gemrc").write_text(f":sources:\n- file://{tmp_path}/index/\n")
    record = await building("tiny", ecosystem="gem")
    assert [(item.name, item.version) for item in record.resolved] == [("tiny", "1.2.0")]
    assert (building.layer / "gems/tiny-1.2.0/lib/tiny.rb").is_file()
    assert "lib/tiny.rb" in str(files(building.layer))


def _make_gem_index(source, index):
    (source / "lib").mkdir(parents=True)
    (source / "lib/tiny.rb").write_text("module Tiny; VALUE = 3; end\n")
    (source / "tiny.gemspec").write_text(
        "Gem::Specification.new do |s|\n  s.name = 'tiny'; s.version = '1.2.0'; s.summary = 'x'\n"
        "  s.authors = ['x']; s.files = ['lib/tiny.rb']\nend\n"
    )
    (index / "gems").mkdir(parents=True)
    target = index / "gems/tiny-1.2.0.gem"
    subprocess.run(
        ["gem", "build", "tiny.gemspec", "-o", target], cwd=source, check=True, capture_output=True
    )
    subprocess.run(["gem", "generate_index", "-d", index], check=True, capture_output=True)


async def test_an_r_package_of_an_index_of_ones_own_is_installed(building, backend, tmp_path):
    if backend == "docker":
        pytest.skip("docker: the image for Python has no R")
    if not shutil.which("R"):
        pytest.skip("there is no R here")
    _make_r_index(tmp_path / "source", tmp_path / "index/src/contrib")
    (tmp_path / "home/.Rprofile").write_text(
        f'options(repos = c(CRAN = "file://{tmp_path}/index"))'
    )
    record = await building("tiny", ecosystem="cran")
    assert [(item.name, item.version) for item in record.resolved] == [("tiny", "0.1")]
    assert "tiny/DESCRIPTION" in files(building.layer)
    with pytest.raises(DependencyFailed, match="has no package nowhere"):
        await building("nowhere", ecosystem="cran")


def _make_r_index(source, contrib):
    package = source / "tiny"
    (package / "R").mkdir(parents=True)
    (package / "R/tiny.R").write_text("value <- function() 3\n")
    (package / "NAMESPACE").write_text("export(value)\n")
    fields = "Package: tiny\nVersion: 0.1\nTitle: X\nDescription: X.\nLicense: MIT\n"
    (package / "DESCRIPTION").write_text(f"{fields}Author: X\nMaintainer: X <x@example.org>\n")
    contrib.mkdir(parents=True)
    with tarfile.open(contrib / "tiny_0.1.tar.gz", "w:gz") as archive:
        archive.add(package, "tiny")
    (contrib / "PACKAGES").write_text(f"{fields}\n")
