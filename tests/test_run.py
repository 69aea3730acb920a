"""The command of all tests: what it installs, starts and ends again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import run

ROOT = Path(run.__file__).parents[1]

# In namespaces of its own the machine's engine cannot be seen, and another disturbs nobody.
IN_NAMESPACES = r"""
set -e
mount --make-rprivate /
mount -t tmpfs none /run
for place in /var/lib/docker /var/lib/containerd; do
    mkdir -p "$place"
    mkdir -p "$1$place"
    mount --bind "$1$place" "$place"
done
exec "$2" -c "$3"
"""
STARTS_AND_STOPS = """
from tests import run
assert not run._engine_answers()
with run.running_engine() as is_running:
    assert is_running
    assert run._engine_answers()
assert not run._engine_answers()
"""


def _in_namespaces(directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0 or shutil.which("unshare") is None or run._which_daemon() is None:
        pytest.skip("This needs root, unshare and dockerd.")
    return subprocess.run(
        # --kill-child: what a broken test would leave ends with it.
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
         "sh", "-c", IN_NAMESPACES, "sh", str(directory), sys.executable, code],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "DOCKER_HOST"},
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip


def test_an_engine_is_started_where_none_answers_and_ends_with_the_tests(tmp_path: Path):
    done = _in_namespaces(tmp_path, STARTS_AND_STOPS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Starting" in done.stdout


def test_an_engine_that_answers_is_used_and_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "_engine_answers", lambda: True)
    monkeypatch.setattr(run, "_start_daemon", lambda *_: pytest.fail("It was started."))
    with run.running_engine() as is_running:
        assert is_running


def test_without_root_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "_engine_answers", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with run.running_engine() as is_running:
        assert not is_running
    assert "no Docker Engine" in capsys.readouterr().out


@pytest.mark.parametrize("is_required", [True, False])
def test_a_missing_engine_is_a_failure_only_where_one_may_be_had(
    monkeypatch: pytest.MonkeyPatch, is_required: bool
):
    seen: dict[str, str] = {}

    def run_it(command: list[str], *, env: dict[str, str], **_: object) -> object:
        seen.update(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run_it)
    monkeypatch.delenv(run.REQUIRE_VARIABLE, raising=False)
    run._run_pytest([], is_required)
    assert seen.get(run.REQUIRE_VARIABLE) == ("docker" if is_required else None)


def test_what_the_tests_read_is_what_the_command_sets():
    from tests.support import docker_engine

    assert run.REQUIRE_VARIABLE == docker_engine.REQUIRE
