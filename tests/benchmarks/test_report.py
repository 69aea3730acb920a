"""Medians, judgement and table of `bench`, as values."""

import json

import pytest

from sandbox_kernel.bench import METRICS, report
from sandbox_kernel.bench.promises import PROMISES, Promise
from sandbox_kernel.bench.report import Measured

RATIO = Promise("start", "seconds", "start", "s", "ratio", 0.5)
VALUE = Promise("stop", "seconds", "stop", "ms", "value", 0.1)


def measured(name: str, ours: list[float], theirs: list[float]) -> Measured:
    sides = {"sandbox": ours, "ipykernel": theirs}
    return Measured(name, {side: [{"seconds": v} for v in vs] for side, vs in sides.items()})


def test_a_ratio_is_that_of_the_medians():
    """One slow round (9.0) would move a mean over the goal."""
    [judgement] = report.judge([measured("start", [0.2, 0.2, 9.0], [0.5, 0.5, 0.5])], [RATIO])
    assert judgement.ratio == pytest.approx(0.4)
    assert judgement.is_kept is True


@pytest.mark.parametrize(("ours", "kept"), [(0.5, True), (0.51, False)])
def test_a_ratio_may_reach_its_goal_but_not_pass_it(ours, kept):
    [judgement] = report.judge([measured("start", [ours], [1.0])], [RATIO])
    assert judgement.is_kept is kept


def test_an_absolute_promise_is_judged_without_the_reference():
    [judgement] = report.judge([measured("stop", [0.09], [])], [VALUE])
    assert judgement.is_kept is True
    assert judgement.reference is None


def test_a_ratio_without_a_reference_is_not_judged():
    [judgement] = report.judge([measured("start", [0.1], [])], [RATIO])
    assert judgement.is_kept is None


def test_what_was_not_measured_is_not_listed():
    assert report.judge([measured("stop", [1.0], [1.0])], [RATIO]) == []


def test_a_reference_of_zero_divides_nothing():
    [judgement] = report.judge([measured("start", [1.0], [0.0])], [RATIO])
    assert judgement.ratio is None


def test_the_table_has_a_row_a_judgement_and_says_who_broke_it():
    from rich.console import Console

    judgements = report.judge([measured("stop", [0.25], [0.05])], [VALUE])
    console = Console(width=120)
    with console.capture() as captured:
        console.print(report.table(judgements))
    assert "250 ms" in captured.get()
    assert "≤ 100 ms" in captured.get()
    assert "NO" in captured.get()


def test_the_json_holds_judgements_and_their_samples():
    items = [measured("stop", [0.25], [0.05])]
    content = json.loads(json.dumps(report.as_json(items, report.judge(items, [VALUE]), {})))
    assert content["results"][0]["kept"] is False
    assert content["samples"]["stop"]["ipykernel"] == [{"seconds": 0.05}]


def test_every_promise_names_a_metric_and_every_metric_is_promised():
    assert {promise.metric for promise in PROMISES} == set(METRICS)
