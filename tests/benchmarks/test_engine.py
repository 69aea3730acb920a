"""`bench engine` on real sandboxes: that it measures and judges, not how fast it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sandbox_kernel import backends
from sandbox_kernel.bench import engine, measure, memory, report
from sandbox_kernel.bench.promises import ENGINE, PYTHON_ALONE, engine_promises
from sandbox_kernel.cli import main
from sandbox_kernel.errors import SettingsError
from tests.support import docker_engine


@pytest.fixture
def small(monkeypatch):
    """Few of everything."""
    few = {"POOL_SIZE": 2, "POOL_TIMES": 1, "WARM_RUNS": 3, "COLD_RUNS": 1, "RUNS_EACH": 2}
    for name, value in {**few, "IDLE_SANDBOXES": 1, "_REST_S": 0.01}.items():
        monkeypatch.setattr(engine, name, value)


def test_every_figure_of_bubblewrap_is_measured_and_judged(small):
    suite = engine.suite("bubblewrap")
    judgements = report.judge(
        measure(suite, list(suite.jobs), 1, _ignore), suite.promises, ours=ENGINE
    )
    by_title = {item.promise.title: item for item in judgements}
    assert len(by_title) == len(suite.promises)
    assert all(item.ours is not None for item in judgements)
    assert [i.promise.goal is None for i in judgements] == [i.is_kept is None for i in judgements]
    alone = by_title["bubblewrap: POOL, claim to result, p50"]
    assert alone.reference
    assert 5 < by_title["bubblewrap: idle pooled sandbox (PSS)"].ours < 200


def test_containers_are_measured_with_what_the_engine_adds_to_each(small):
    docker_engine.require()
    suite = engine.suite("docker")
    figures = suite.jobs["docker_idle"][ENGINE]()
    assert 5 < figures["mebibytes"] < 200
    assert 0 < figures["shim_mebibytes"] < 100
    assert suite.jobs["docker_pool"][ENGINE]()["seconds"] > 0
    docker_engine.assert_nothing_left_of(os.getpid())


def test_what_works_here_is_measured_when_no_backend_is_named(monkeypatch):
    usable = [name for name in backends.names() if backends.get(name).check().is_usable]
    named = {metric.partition("_")[0] for metric in engine.suite().jobs}
    assert named == set(usable)


def test_every_promise_names_a_metric_and_every_metric_is_promised():
    jobs = set(engine.suite("bubblewrap").jobs)
    assert {promise.metric for promise in engine_promises(["bubblewrap"])} == jobs


def test_the_goals_are_those_that_were_promised():
    goals = {(p.metric, p.figure): p.goal for p in engine_promises(["bubblewrap", "docker"])}
    assert goals["bubblewrap_pool", "seconds"] == 0.010
    assert goals["docker_pool", "seconds"] == 0.015
    assert goals["bubblewrap_session", "seconds"] == goals["docker_session", "seconds"] == 0.002
    assert goals["bubblewrap_execution", "seconds"] == 0.250
    assert goals["bubblewrap_idle", "mebibytes"] == goals["docker_idle", "mebibytes"] == 40
    assert goals["docker_runs", "descriptors"] == goals["docker_runs", "threads"] == 0


def test_images_and_languages_are_not_for_programs():
    from types import SimpleNamespace

    from sandbox_kernel.cli.bench import bench

    for option in ({"image": "python:3.12"}, {"language": "bash"}):
        asked = {"what": "engine", "backend": None, "image": None, "language": None, **option}
        with pytest.raises(SettingsError, match="leave out --image and --language"):
            bench(SimpleNamespace(rounds=5, only=None, json=None, **asked))


def test_it_is_a_word_of_the_command(small, monkeypatch, capsys, tmp_path):
    path = tmp_path / "figures.json"
    options = ["--backend", "bubblewrap", "--only", "bubblewrap_session", "--json", str(path)]
    main(["bench", "engine", *options])
    assert "PER_SESSION, a warm run" in capsys.readouterr().out
    assert PYTHON_ALONE in path.read_text()


def test_memory_that_processes_share_is_counted_once():
    """Of a process and its fork: both have the same pages."""
    code = (
        "import os, sys; kept = bytearray(64 << 20); os.fork(); "
        r"os.write(1, b'1\n'); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == process.stdout.readline() == "1\n"
        below = memory.descendants(os.getpid())
        assert process.pid in below
        family = [process.pid, *memory.descendants(process.pid)]
        assert len(family) == 2
        try:
            assert 64 < memory.proportional_mebibytes(family) < 100
        except PermissionError:
            pytest.skip("only root may read the memory of other processes")
    finally:
        process.communicate("")


def _ignore(_text: str) -> None:
    pass
