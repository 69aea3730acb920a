"""A guest's answers, taken apart and put together again; whatever it made up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel import languages
from sandbox_kernel.kernel import answers
from sandbox_kernel.kernel.wire import dump

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "matches", "cursor_start", "cursor_end", "metadata", "status", "indent", "found", "data",
    "_jupyter_types_experimental", "traceback", "ename", "evalue",
]  # fmt: skip
ANSWER = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), JSON, max_size=8)


def admit(data, metadata):
    """A policy that lets text pass."""
    return {k: v for k, v in data.items() if isinstance(v, str)}, {}


@given(ANSWER, st.text(max_size=5))
def test_whatever_a_guest_answers_the_replies_have_their_fields(answer, code):
    completed = answers.complete(answer, code, len(code))
    assert 0 <= completed["cursor_start"] <= completed["cursor_end"] <= len(code)
    assert all(isinstance(match, str) for match in completed["matches"])
    inspected = answers.inspect(answer, admit)
    assert isinstance(inspected["found"], bool)
    known = ("complete", "incomplete", "invalid", "unknown")
    asked = answers.is_complete(answer)
    assert asked["status"] in known
    expressed = answers.expressions({"x": answer}, admit)
    paged = answers.pages([answer, "text"], admit)
    for content in (completed, inspected, asked, expressed, {"payload": paged}):
        json.loads(dump(content))


def test_types_beside_completions_pass_and_the_rest_of_the_metadata_does_not():
    typed = {"start": 0, "end": 2, "text": "zip", "type": "class", "evil": "<script>"}
    metadata = {"_jupyter_types_experimental": [typed, "x", {"text": []}], "other": 1}
    found = answers.complete({"matches": ["zip"], "metadata": metadata}, "zi", 2)["metadata"]
    assert found == {
        "_jupyter_types_experimental": [{"start": 0, "end": 2, "text": "zip", "type": "class"}]
    }


def test_a_million_matches_are_not_passed_on():
    found = answers.complete({"matches": ["m"] * 10**6}, "m", 1)
    assert len(found["matches"]) == answers.MAX_MATCHES


@pytest.mark.parametrize("version", ["3.11.7", "", "3.13.0rc1+", "<b>", "1\n2", "9" * 100])
def test_the_version_is_shown_only_when_it_is_one(version):
    info = answers.kernel_info(languages.PYTHON, version, "banner")["language_info"]
    assert info["version"] in (version, "")
    assert "<" not in info["version"]
    assert "\n" not in info["version"]


def test_only_text_pagers_are_payloads():
    payload = [
        {"source": "set_next_input", "text": "evil()"},
        {"source": "page", "data": {"text/plain": "help", "text/html": "<b>"}, "start": -1},
        {"source": "page", "data": {"text/html": "<b>"}},
    ]
    page = {"source": "page", "data": {"text/plain": "help"}, "start": 0}
    assert answers.pages(payload, admit) == [page]
