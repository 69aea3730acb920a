"""`%dependencies`, declared packages and metadata in a real kernel, without a package index.

What is asked for was "installed" by the test into the same cache, under the key that the
kernel computes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from types import SimpleNamespace

import pytest

from sandbox_kernel import events
from sandbox_kernel.dependencies.requirements import parse_all
from sandbox_kernel.dependencies.store import Store
from sandbox_kernel.kernel import dependencies
from sandbox_kernel.kernel.dependencies import Progress, plain
from tests.support import docker_engine
from tests.support.layers import HandMade, get, manage
from tests.support.sessions import BACKENDS

USE = "import canary_package; print(canary_package.value)"


@pytest.fixture(scope="module", params=BACKENDS)
def kernel_backend(request):
    if request.param == "docker":
        docker_engine.require()
    return request.param


@pytest.fixture
def cache(tmp_path, monkeypatch, kernel_backend):
    """A cache in which `canary` is installed, with its own twin under another name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    HandMade().install(monkeypatch)
    made = manage(kernel_backend)
    asyncio.run(made.ensure(parse_all(["canary"], "pip"), on_output=lambda _text: None))
    made.close()
    yield str(tmp_path / "cache")
    Store(kernel_backend, get(kernel_backend).layer_store()).remove_all()


@pytest.fixture
def start(start_kernel, cache):
    def start_one(**settings):
        variables = {f"SANDBOX_KERNEL_{name.upper()}": text for name, text in settings.items()}
        return start_kernel(env={"XDG_CACHE_HOME": cache, **variables})

    return start_one


def test_a_line_makes_packages_importable_and_keeps_variables(start):
    kernel = start()
    assert kernel.run("mine = 7").status == "ok"
    assert kernel.run(USE).error["ename"] == "ModuleNotFoundError"
    ran = kernel.run(f"%dependencies canary\n{USE}\nprint(mine)")
    assert ran.stdout == "42\n7\n"
    shown = [bundle["text/plain"] for bundle in ran.displays]
    assert shown == ["canary 1.0 (1 package, 37 bytes) was there already"]
    assert kernel.run("!canary").stdout.strip() == "sings"
    assert "canary 1.0" in kernel.run("%dependencies").stdout


def test_what_was_imported_before_is_named_in_the_next_cell(start):
    kernel = start()
    kernel.run("import sys, types; sys.modules['canary_package'] = types.ModuleType('x')")
    ran = kernel.run("%dependencies canary\n1")
    assert "until the kernel is restarted: canary_package." in ran.stderr
    assert kernel.run("1").stderr == ""


def test_metadata_that_ask_for_what_is_declared_show_nothing(start_kernel, cache, tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps({"metadata": {"sandbox_kernel": {"dependencies": ["canary"]}}}))
    env = {
        "XDG_CACHE_HOME": cache,
        "JPY_SESSION_NAME": str(path),
        "SANDBOX_KERNEL_DEPENDENCY": "canary",
    }
    ran = start_kernel(env=env).run(USE)
    assert (ran.stdout, ran.displays) == ("42\n", [])


def test_declared_packages_are_there_from_the_start(start):
    ran = start(dependency="canary", dependencies="declared").run(USE)
    assert ran.stdout == "42\n"
    assert ran.displays == []


def test_a_cell_gets_only_what_the_owner_allows(start):
    kernel = start(dependency="canary", dependencies="declared")
    refused = kernel.run("%dependencies plotly\nprint('ran')")
    assert refused.error["ename"] == "DependencyRefused"
    assert "plotly" in refused.error["evalue"]
    assert refused.stdout == ""
    assert kernel.run("%dependencies canary\nprint('ran')").stdout == "ran\n"


def test_with_none_a_cell_gets_nothing(start):
    kernel = start(dependencies="none")
    assert "none" in kernel.run("%dependencies canary").error["evalue"]
    listed = kernel.run("import os; print(os.path.exists('/opt/sandbox-kernel/layers'))")
    assert listed.stdout == "False\n"


def test_options_and_addresses_are_refused_by_name(start):
    kernel = start()
    for text in ("--index-url=https://evil.example", "-r x", "git+https://evil.example/x"):
        refused = kernel.run(f"%dependencies {text}")
        assert refused.error["ename"] == "DependencyRefused"
        assert text.split()[0] in refused.error["evalue"]


def test_wrong_settings_are_said_in_the_notebook(start):
    kernel = start(dependency="--index-url=x")
    assert "index-url" in kernel.run("1").error["evalue"]
    assert kernel.run("1").error["ename"] == "SettingsError"


def test_a_notebooks_metadata_count_as_a_cell(start_kernel, cache, tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps({"metadata": {"sandbox_kernel": {"dependencies": ["canary"]}}}))
    env = {"XDG_CACHE_HOME": cache, "JPY_SESSION_NAME": str(path)}
    assert start_kernel(env=env).run(USE).stdout == "42\n"
    kernel = start_kernel(env={**env, "SANDBOX_KERNEL_DEPENDENCIES": "none"})
    ran = kernel.run("print('runs all the same')")
    assert ran.stdout == "runs all the same\n"
    assert "The notebook's metadata asks for canary" in ran.stderr
    assert kernel.run("print(1)").stderr == "", "it is said once"


def test_the_packages_survive_a_restart_of_the_program(start):
    kernel = start()
    kernel.run("%dependencies canary")
    assert kernel.run("import os; os._exit(1)").status == "error"
    assert kernel.run(USE).stdout == "42\n"


def test_an_interrupt_ends_an_installation_and_leaves_nothing(start_kernel, cache, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        url = f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple"
        kernel = start_kernel(env={"XDG_CACHE_HOME": cache, "PIP_INDEX_URL": url})
        running = kernel.start_running("%dependencies nothing-comes\nprint('ran')")
        asked, _ = silent_index.accept()
        with asked:
            kernel.interrupt()
            ran = kernel.finish(running)
    assert ran.error["ename"] == "KeyboardInterrupt"
    assert ran.stdout == ""
    building = tmp_path / "cache" / "sandbox-kernel" / "dependencies" / "building"
    assert list(building.iterdir()) == []
    assert kernel.run("print('next')").stdout == "next\n"


# --- what is shown while it works -----------------------------------------------------------


def shown_by(work):
    heard = []
    work(Progress("canary", heard.append))
    assert len({event.transient["display_id"] for event in heard}) <= 1
    return heard


def test_what_was_asked_for_in_two_ways_is_listed_once():
    layer = SimpleNamespace(ecosystem="pip", packages=[("canary", "1.0")])
    made = SimpleNamespace(attached=[layer, layer])
    packages = dependencies.Packages(None, None, None, made)
    heard = []
    asyncio.run(packages.install("", heard.append))
    assert [event.text for event in heard] == ["pip: canary 1.0\n"]


def test_progress_is_one_display_that_is_replaced(monkeypatch):
    monkeypatch.setattr(dependencies, "UPDATE_INTERVAL_S", 0)

    def work(progress):
        progress.hear("Collecting a\nColl")
        progress.hear("ecting b\n")
        progress.finish("Installed a 1.0")

    heard = shown_by(work)
    assert [type(event) for event in heard] == [
        events.DisplayShown,
        events.DisplayUpdated,
        events.DisplayUpdated,
    ]
    assert heard[1].bundle["text/plain"].endswith("Collecting a\nCollecting b")
    assert heard[-1].bundle == {"text/plain": "Installed a 1.0"}


def test_ten_thousand_lines_are_a_handful_of_messages():
    def work(progress):
        for number in range(10_000):
            progress.hear(f"line {number}\n")
        progress.finish("Installed")

    began_s = time.monotonic()
    assert len(shown_by(work)) <= 2 + (time.monotonic() - began_s) / 0.2


def test_a_failure_is_one_line_since_its_error_has_the_last_words(monkeypatch):
    monkeypatch.setattr(dependencies, "UPDATE_INTERVAL_S", 0)

    def work(progress):
        progress.hear("No matching distribution\n")
        progress.fail()

    assert shown_by(work)[-1].bundle["text/plain"] == "Nothing was installed of canary."
    assert shown_by(lambda progress: progress.fail()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]52;c;aGk=\x07x", "x"),
        ("\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\", "here"),
        ("a\u202eb\x00\x08c", "abc"),
        ("x" * 1000, "x" * 160 + "…"),
    ],
)
def test_an_installers_line_is_text_and_no_more(line, expected):
    assert plain(line) == expected
