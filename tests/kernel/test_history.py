"""History requests, as IPython would answer them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.kernel import history
from sandbox_kernel.kernel.history import History


@pytest.fixture
def three() -> History:
    kept = History()
    kept.record(1, "a = 1")
    kept.record(2, "a", "1")
    kept.record(3, "a = 1")
    return kept


def sources(kept: History, **wanted: object) -> list[str]:
    return [entry[2] for entry in kept.answer(wanted)]


def test_tail_is_the_last_entries_in_order(three):
    assert three.answer({"hist_access_type": "tail", "n": 2}) == [[1, 2, "a"], [1, 3, "a = 1"]]
    assert len(three.answer({"hist_access_type": "tail", "n": 100})) == 3
    assert three.answer({"hist_access_type": "tail", "n": 0}) == []


def test_output_comes_beside_the_source_when_asked_for(three):
    wanted = {"hist_access_type": "tail", "n": 2, "output": True}
    assert three.answer(wanted) == [[1, 2, ["a", "1"]], [1, 3, ["a = 1", None]]]


@pytest.mark.parametrize(
    ("start", "stop", "lines"),
    [
        (1, 2, [1]),
        (0, 0, [1, 2, 3]),
        (2, None, [2, 3]),
        (-1, None, [3]),
        (1, -1, [1, 2]),
        (9, 9, []),
    ],
)
def test_range_is_by_line_and_excludes_its_end(three, start, stop, lines):
    for session in (0, 1, None):
        wanted = {"hist_access_type": "range", "session": session, "start": start, "stop": stop}
        assert [entry[1] for entry in three.answer(wanted)] == lines


def test_there_is_one_session(three):
    assert three.answer({"hist_access_type": "range", "session": -1}) == []


def test_search_takes_a_glob(three):
    assert sources(three, hist_access_type="search", pattern="a*1") == ["a = 1", "a = 1"]
    assert sources(three, hist_access_type="search", pattern="?") == ["a"]
    assert sources(three, hist_access_type="search", pattern="*", n=1) == ["a = 1"]
    assert sources(three, hist_access_type="search", pattern="b*") == []


def test_unique_search_keeps_the_latest_of_equal_sources(three):
    wanted = {"hist_access_type": "search", "pattern": "*", "unique": True}
    assert [entry[1] for entry in three.answer(wanted)] == [2, 3]


def test_the_memory_is_bounded_in_entries_and_characters(monkeypatch):
    monkeypatch.setattr(history, "MAX_ENTRIES", 5)
    monkeypatch.setattr(history, "MAX_CHARACTERS", 100)
    kept = History()
    for line in range(1, 50):
        kept.record(line, "x" * 10)
    assert sources(kept, hist_access_type="tail", n=100) == ["x" * 10] * 5
    kept.record(50, "y" * 1000, "z" * 1000)
    assert sum(map(len, sources(kept, hist_access_type="tail", n=100))) <= 100


ANYTHING = st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.lists(st.text())


@given(
    st.dictionaries(
        st.sampled_from(["session", "start", "stop", "n", "pattern", "unique", "output", "raw"]),
        ANYTHING,
    ),
    st.sampled_from(["tail", "range", "search", "other", None]),
)
def test_any_request_at_all_gets_a_list(wanted, kind):
    kept = History()
    kept.record(1, "a")
    assert isinstance(kept.answer({**wanted, "hist_access_type": kind}), list)
