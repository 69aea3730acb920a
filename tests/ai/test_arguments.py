from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_kernel.ai import arguments
from sandbox_kernel.ai.arguments import Arguments, InvalidCall, json_schema

KNOWN = ["python", "javascript"]


def read(raw: object, **options: Any) -> Arguments:
    given = {"known": KNOWN, "default_language": "python", "max_timeout_s": 60.0, **options}
    return arguments.read(raw, **given)


def refusal(raw: object, **options: Any) -> str:
    with pytest.raises(InvalidCall) as caught:
        read(raw, **options)
    return str(caught.value)


@pytest.mark.parametrize("encode", [dict, json.dumps, lambda call: json.dumps(call).encode()])
def test_a_call_comes_as_json_text_or_as_an_object(encode: Any):
    call = {
        "language": "javascript",
        "code": "1",
        "dependencies": ["lodash"],
        "files": [{"name": "in/a.csv", "text": "1,2"}],
        "timeout_s": 5,
        "stdin": "ann\n",
    }
    found = read(encode(call))
    assert (found.language, found.code, found.dependencies) == ("javascript", "1", ["lodash"])
    assert (found.timeout_s, found.stdin) == (5.0, "ann\n")
    assert [(file.name, file.text) for file in found.files or ()] == [("in/a.csv", "1,2")]


def test_what_is_null_or_missing_has_its_default():
    nulls = dict.fromkeys(["language", "dependencies", "files", "timeout_s", "stdin"])
    assert read({"code": "1", **nulls}) == read({"code": "1"})
    assert read({"code": "1"}).language == "python"


def test_files_may_be_an_object_and_languages_have_their_aliases():
    found = read({"code": "1", "language": "js", "files": {"a": "b"}})
    assert found.language == "javascript"
    assert [(file.name, file.text) for file in found.files or ()] == [("a", "b")]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("print(1)", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ('{"a":' * 100_000, "no JSON"),
        ("9" * 10_000, "no JSON"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        (None, "no JSON object"),
        ({1: 2}, "no JSON object"),
        ("x" * (arguments.MAX_CALL + 1), "at most"),
        ({}, "code: it is missing"),
        ({"code": 5}, "code: it is no text"),
        ({"code": ["1"]}, "code: it is no text"),
        ({"code": "1", "session_id": "x"}, "session_id: there is no such argument"),
        ({"code": "1", "dependencies": "pandas"}, "dependencies: it is no list"),
        ({"code": "1", "dependencies": [1]}, "it is no text"),
        ({"code": "1", "timeout_s": "5"}, "it is no number"),
        ({"code": "1", "timeout_s": True}, "it is no number"),
        ({"code": "1", "timeout_s": float("nan")}, "it is no finite number"),
        ('{"code": "1", "timeout_s": Infinity}', "it is no finite number"),
        ({"code": "1", "timeout_s": 10**400}, "it is no number"),
        ({"code": "1", "timeout_s": -1}, "Give 0.1 seconds or more"),
        ({"code": "1", "timeout_s": 61}, "code may run 60 seconds here"),
        ({"code": "1", "stdin": ["a"]}, "stdin: it is no text"),
        ({"code": "1", "files": ["a"]}, "files.0"),
        ({"code": "1", "files": [{"name": "a", "text": "b", "mode": 7}]}, "files.0.mode"),
        ({"code": "1", "language": "cobol"}, "Choose one of python, javascript."),
        ({"code": "1", "language": "bash"}, "Choose one of python, javascript."),
        ({"code": "1" * 500_001}, "code has 500,001 characters"),
        ({"code": "1", "stdin": "1" * 100_001}, "stdin has 100,001 characters"),
        ({"code": "1", "files": {"a": "1" * 600_000, "b": "1" * 600_000}}, "together"),
        ({"code": "1", "files": {"n" * 201: ""}}, "has 201 characters"),
        ({"code": "1", "dependencies": ["n" * 201]}, "has 201 characters"),
        ({"code": "1", "dependencies": ["n"] * 51}, "dependencies has 51 packages"),
        ({"code": "1", "dependencies": [1] * 10**6}, "over 100 parts"),
        ({"code": "1", "files": [dict.fromkeys(map(str, range(10**5)))]}, "over 100 parts"),
        (dict.fromkeys(map(str, range(10**5))), "over 100 parts"),
    ],
)
def test_a_wrong_call_is_refused_in_a_short_sentence(raw: object, told: str):
    started_s = time.process_time()
    said = refusal(raw)
    assert told in said
    assert said.endswith((".", "null."))
    assert len(said) < 1_000
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../b", "a//b", "", ".", "a\0b", "./a", "a/"]
)
def test_a_file_cannot_leave_the_workspace(name: str):
    assert "cannot be written" in refusal({"code": "1", "files": {name: "x"}})


@pytest.mark.parametrize(
    "call",
    [
        {"code": "\ud800"},
        '{"code": "\\ud800"}',
        {"code": "1", "stdin": "\ud800"},
        {"code": "1", "dependencies": ["\ud800"]},
        {"code": "1", "files": {"\ud800": "x"}},
        {"code": "1", "files": {"x": "\ud800"}},
        {"code": "1", "language": "\ud800"},
        {"code": "1", "\ud800": 1},
    ],
)
def test_half_characters_are_refused_and_not_repeated(call: object):
    refusal(call).encode()


def test_what_the_model_sent_is_repeated_on_one_line_only():
    said = refusal({"code": "1", "language": "x\n\x1b]0;evil\x07" + "y" * 5_000})
    assert "\n" not in said
    assert "\x1b" not in said


def test_a_field_that_is_not_offered_is_refused():
    assert "is not offered" in refusal(
        {"code": "1", "dependencies": ["pandas"]}, without=["dependencies"]
    )
    assert read({"code": "1", "dependencies": None}, without=["dependencies"]).code == "1"


def test_no_limit_is_still_one_that_sandboxes_take():
    assert read({"code": "1", "timeout_s": 3600}, max_timeout_s=None).timeout_s == 3600
    assert "2.592e+06" in refusal({"code": "1", "timeout_s": 1e300}, max_timeout_s=None)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(json_values | st.dictionaries(st.sampled_from([*Arguments.model_fields]), json_values))
def test_whatever_comes_is_read_or_refused(raw: object):
    try:
        found = read(raw)
    except InvalidCall as error:
        str(error).encode()
    else:
        assert found.language in KNOWN


# --- the schema -------------------------------------------------------------------------


def objects(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" else []
    return own + [found for item in schema.values() for found in objects(item)]


def test_the_schema_is_one_that_strict_modes_take():
    """Source: OpenAI, "Structured outputs", supported schemas."""
    schema = json_schema(KNOWN)
    assert len(objects(schema)) == 2
    for item in objects(schema):
        assert item["additionalProperties"] is False
        assert item["required"] == list(item["properties"])
    words = set(json.dumps(schema).replace('"', " ").split())
    assert not words & {"default", "title", "$ref", "$defs", "maxLength", "format"}
    assert schema["properties"]["language"]["enum"] == KNOWN


def test_the_agents_sdk_finds_nothing_to_change_in_the_schema():
    strict = pytest.importorskip("agents.strict_schema")
    schema = json_schema(KNOWN)
    assert strict.ensure_strict_json_schema(json.loads(json.dumps(schema))) == schema


def test_the_schema_leaves_out_what_is_not_offered():
    schema = json_schema(KNOWN, ["dependencies"])
    assert "dependencies" not in schema["properties"]
    assert "dependencies" not in schema["required"]
