"""`bench --backend docker` on a real engine: that it measures, and leaves nothing."""

import argparse
import os
import signal
import subprocess
import sys

import psutil
import pytest

from sandbox_kernel.backends.docker.owners import OWNER_LABEL
from sandbox_kernel.bench import containers, measure, metrics, report
from sandbox_kernel.bench.promises import DOCKER_PROMISES
from sandbox_kernel.errors import BackendUnavailable, SandboxKernelError, SettingsError
from tests.support import docker_engine
from tests.support.waiting import DEADLINE_S, until

BENCH = [sys.executable, "-m", "sandbox_kernel.cli", "bench"]


@pytest.fixture
def suite():
    docker_engine.require()
    yield containers.suite()
    docker_engine.assert_nothing_left_of(os.getpid())


def owned_by(pids):
    """Containers of these processes, running or not."""
    found = docker_engine.api().containers(all=True, filters={"label": OWNER_LABEL})
    return [item for item in found if int(item["Labels"][OWNER_LABEL].split("/")[3]) in pids]


def tree_of(process):
    with psutil.Process(process.pid).oneshot():
        children = psutil.Process(process.pid).children(recursive=True)
    return {process.pid, *(child.pid for child in children)}


# --- what is measured ---------------------------------------------------------------------


def test_sessions_and_docker_run_take_turns_and_every_promise_about_them_is_judged(suite):
    told: list[str] = []
    measured = measure(suite, ["session"], 2, told.append)
    judgements = report.judge(measured, suite.promises, ours=suite.ours)
    assert [item.is_kept is None for item in judgements] == [
        promise.goal is None for promise in DOCKER_PROMISES if promise.metric == "session"
    ]
    assert told[-4:] == [
        "session: round 1 of 2, docker",
        "session: round 1 of 2, docker run",
        "session: round 2 of 2, docker",
        "session: round 2 of 2, docker run",
    ]


def test_a_session_has_a_start_an_end_and_a_size(suite):
    figures = suite.jobs["session"]["docker"]()
    assert 0 < figures["seconds"] < DEADLINE_S
    assert 0 < figures["close_seconds"] < DEADLINE_S
    assert 5 < figures["mebibytes"] < 2048  # a Python, and less than its limit


def test_the_kernel_of_each_side_is_on_its_own_backend(suite):
    """The docker one owns a container, the other one none."""
    owned = {}
    for label, take in suite.jobs["round_trip"].items():
        [side] = take.args
        with metrics.fresh_session(side) as kernel:
            owned[label] = len(owned_by({kernel.process.pid}))
    assert owned == {"docker": 1, "bubblewrap": 0}


def test_docker_run_is_also_measured_without_the_program(suite, monkeypatch):
    monkeypatch.setattr(containers.shutil, "which", lambda _name: None)
    take = containers.suite().jobs["session"]["docker run"]
    assert take.func is containers._by_sdk
    assert take()["seconds"] > 0


def test_what_an_image_lacks_is_left_out_with_the_reason(suite, monkeypatch):
    lacking = {**containers._NEEDS, "chart": "no_such_module"}
    monkeypatch.setattr(containers, "_NEEDS", lacking)
    monkeypatch.setattr(metrics, "ROUND_TRIPS", 3)
    [chart, round_trip] = measure(suite, ["chart", "round_trip"], 1, lambda _text: None)
    assert "no_such_module" in chart.omission
    assert round_trip.omission == ""


def test_the_notes_say_what_is_compared_with_what(suite):
    text = " ".join(suite.notes)
    assert "docker run --rm --network none sandbox-kernel/python python3 -c pass" in text
    assert "client of the engine is connected" in text


def test_settings_of_containers_are_not_bubblewraps(suite, monkeypatch):
    monkeypatch.setenv("SANDBOX_KERNEL_IMAGE", "sandbox-kernel/python")
    monkeypatch.setattr(metrics, "ROUND_TRIPS", 3)
    assert containers.suite().jobs["round_trip"]["bubblewrap"]()["seconds"] > 0


# --- what cannot be measured --------------------------------------------------------------


def test_a_command_that_fails_in_the_container_is_no_measurement(suite, monkeypatch):
    monkeypatch.setattr(containers, "COMMAND", ("python3", "-c", "raise SystemExit('no luck')"))
    for which in (containers.shutil.which, lambda _name: None):
        monkeypatch.setattr(containers.shutil, "which", which)
        with pytest.raises(SandboxKernelError, match="exit code 1: 'no luck'"):
            containers.suite().jobs["session"]["docker run"]()


def test_an_image_that_is_not_there_is_named_with_the_command(suite):
    missing = containers.suite("sandbox-kernel/nothing-of-that-name")
    with pytest.raises(SandboxKernelError, match=r"There is no image.*sandbox-kernel setup docker"):
        measure(missing, ["session"], 1, lambda _text: None)


def test_without_an_engine_the_remedy_is_said_before_anything_is_measured(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    monkeypatch.setattr(containers, "DockerBackend", fresh_backend)
    with pytest.raises(BackendUnavailable, match="There is no engine at unix:///nonexistent"):
        containers.suite()


def fresh_backend():
    """With a client of its own: that of the process is connected already."""
    from sandbox_kernel.backends.docker import DockerBackend
    from sandbox_kernel.backends.docker.engine import Engine

    return DockerBackend(Engine())


def test_an_image_without_a_backend_that_runs_images_is_refused():
    from sandbox_kernel.cli import bench

    parser = argparse.ArgumentParser()
    bench.add(parser.add_subparsers())
    arguments = parser.parse_args(["bench", "--backend", "bubblewrap", "--image", "python:3.12"])
    with pytest.raises(SettingsError, match="--backend docker"):
        arguments.execute(arguments)


# --- Ctrl-C -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "command"),
    [("session", "supervisor.py"), ("session", "python3 -c pass"), ("stalled", "supervisor.py")],
)
def test_ctrl_c_leaves_no_container(suite, metric, command):
    """In a session of the bench's own, in its `docker run`, in a kernel that it started."""
    process = subprocess.Popen(
        [*BENCH, "--backend", "docker", "--only", metric],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen: set[int] = set()

    def is_there():
        seen.update(tree_of(process))
        return [item for item in owned_by(seen) if command in item["Command"]]

    try:
        until(is_there, f"a container that runs {command}", every_s=0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
    finally:
        process.kill()
        process.wait()
    until(lambda: owned_by(seen) == [], "its containers to be gone")
