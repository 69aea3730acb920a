"""Medians, judgement and table of `bench`, as values."""

import json

import pytest

from sandbox_kernel.bench import packages, report
from sandbox_kernel.bench.metrics import METRICS
from sandbox_kernel.bench.promises import DOCKER_PROMISES, PROMISES, Promise
from sandbox_kernel.bench.report import Measured

RATIO = Promise("start", "seconds", "start", "s", "ratio", 0.5)
VALUE = Promise("stop", "seconds", "stop", "ms", "value", 0.1)
SHOWN = Promise("stop", "seconds", "stop", "ms", "ratio", None)


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


def test_a_figure_that_a_reference_does_not_have_is_judged_without_it():
    """`docker run` has no time to close: it closed when it ended."""
    item = Measured(
        "stop",
        {"docker": [{"seconds": 1.0, "close_seconds": 0.3}], "docker run": [{"seconds": 1.0}]},
    )
    promise = Promise("stop", "close_seconds", "closed", "ms", "value", 0.5, "docker run")
    [judgement] = report.judge([item], [promise], ours="docker")
    assert (judgement.ours, judgement.reference, judgement.is_kept) == (0.3, None, True)


def test_each_promise_is_judged_against_its_own_reference():
    item = Measured("start", {"docker": [{"seconds": 1.0}], "bubblewrap": [{"seconds": 0.5}]})
    [judgement] = report.judge([item], [RATIO._replace(reference="bubblewrap")], ours="docker")
    assert judgement.ratio == 2.0


def test_what_is_only_shown_cannot_be_broken_and_what_was_not_judged_is():
    [shown] = report.judge([measured("stop", [9.0], [1.0])], [SHOWN])
    [unjudged] = report.judge([measured("start", [0.1], [])], [RATIO])
    assert (shown.ratio, shown.is_kept, shown.is_broken) == (9.0, None, False)
    assert unjudged.is_broken is True


def test_what_was_left_out_is_not_listed():
    left_out = Measured("stop", {}, "the image has no matplotlib")
    assert report.judge([left_out], [VALUE]) == []


def printed(judgements, ours="sandbox"):
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as captured:
        for table in report.tables(judgements, ours):
            console.print(table)
    return captured.get()


def test_the_table_has_a_row_a_judgement_and_says_who_broke_it():
    text = printed(report.judge([measured("stop", [0.25], [0.05])], [VALUE]))
    assert "250 ms" in text
    assert "≤ 100 ms" in text
    assert "NO" in text


def test_a_figure_without_a_goal_has_a_ratio_and_no_judgement():
    text = printed(report.judge([measured("stop", [0.25], [0.05])], [SHOWN]))
    assert "5.00" in text
    assert "not judged" not in text


def test_each_reference_has_a_table_with_its_name():
    item = Measured("stop", {"a": [{"seconds": 1.0}], "b": [{"seconds": 1.0}]})
    promises = [VALUE._replace(reference=name) for name in ("b", "c", "b")]
    text = printed(report.judge([item], promises, ours="a"), "a")
    heads = [line.split()[:3] for line in text.splitlines() if line.startswith(" metric")]
    assert heads == [["metric", "a", "b"], ["metric", "a", "c"]]


def test_the_json_holds_judgements_and_their_samples():
    items = [measured("stop", [0.25], [0.05])]
    content = json.loads(json.dumps(report.as_json(items, report.judge(items, [VALUE]), {})))
    assert content["results"][0]["kept"] is False
    assert content["results"][0]["compared_with"] == "ipykernel"
    assert content["results"][0]["reference"] == 0.05
    assert content["samples"]["stop"]["ipykernel"] == [{"seconds": 0.05}]


def test_every_promise_names_a_metric_and_every_metric_is_promised():
    assert {promise.metric for promise in PROMISES} == {packages.METRIC, *METRICS}
    assert {promise.metric for promise in DOCKER_PROMISES} == {"session", *METRICS}
