"""`bench --language` with real kernels: that it measures, and judges what is promised."""

from __future__ import annotations

import pytest

from sandbox_kernel import languages
from sandbox_kernel.availability import find_problem
from sandbox_kernel.bench import languages as bench
from sandbox_kernel.bench import measure, report
from sandbox_kernel.bench.promises import language_promises
from sandbox_kernel.errors import SettingsError


def test_a_language_takes_turns_with_its_interpreter_and_with_python():
    if problem := find_problem("bash"):
        pytest.skip(problem)
    suite = bench.suite("bash", "bubblewrap")
    told: list[str] = []
    measured = measure(suite, list(suite.jobs), 1, told.append)
    judgements = report.judge(measured, suite.promises, ours=suite.ours)
    assert [item.promise.metric for item in judgements] == ["bash_first_result", "bash_round_trip"]
    assert all(item.is_kept is not None for item in judgements)
    assert all(item.ours and item.reference for item in judgements)


def test_every_language_but_the_two_fast_ones_gets_a_second_beside_its_interpreter():
    goals = {
        (promise.metric, promise.figure): promise.goal
        for promise in language_promises(["bash", "javascript", "ruby"])
    }
    assert goals["bash_first_result", "seconds"] == 0.3
    assert goals["javascript_first_result", "seconds"] == 0.5
    assert goals["ruby_first_result", "seconds"] is None
    assert goals["ruby_first_result", "beyond_seconds"] == 1.0
    assert goals["ruby_round_trip", "seconds"] == 2.0


def test_what_runs_here_is_measured_when_all_are_asked_for():
    measured = {name.removesuffix("_round_trip") for name in bench.suite("all", "bubblewrap").jobs}
    can_run = {name for name in bench.NOTHING if not find_problem(name)} - {"python"}
    assert can_run <= measured
    assert set(bench.NOTHING) <= set(languages.names())


def test_a_language_that_there_is_not_is_named():
    with pytest.raises(SettingsError, match="no language 'cobol'"):
        bench.suite("cobol", "bubblewrap")
