"""What a client may send: every mistake is a sentence that says what to change."""

import json

import pytest
from jsonschema import Draft202012Validator

from sandbox_kernel.ai.mcp import arguments as args
from sandbox_kernel.ai.mcp.tools import TOOLS, described


def test_what_is_meant_is_taken():
    given = args.checked(args.RunCode, {"code": "1", "timeout_s": 5, "files": {"a.txt": "x"}})
    assert (given.code, given.timeout_s, given.files) == ("1", 5, {"a.txt": "x"})


def test_null_is_as_good_as_leaving_it_out():
    """Models send null for what they do not need."""
    given = args.checked(args.RunCode, {"code": "1", "session": None, "timeout_s": None})
    assert given == args.checked(args.RunCode, {"code": "1"})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "'code' is missing"),
        (None, "'code' is missing"),
        ({"code": 1}, "'code' is refused"),
        ({"code": "1", "cod": "2"}, "no argument 'cod'; there are: code, language"),
        ({"code": "1", "timeout_s": 0}, "greater than 0"),
        ({"code": "1", "timeout_s": "5"}, "'timeout_s' is refused"),
        ({"code": "1", "timeout_s": float("nan")}, "finite"),
        ({"code": "1", "timeout_s": 1e9}, "less than or equal"),
        ({"code": "1", "files": {"a": 1}}, "'files.a' is refused"),
        ({"code": "1", "files": ["a"]}, "'files' is refused"),
        ({"code": "1", "dependencies": "pandas"}, "'dependencies' is refused"),
        ({"code": "1", "dependencies": ["x"] * 51}, "'dependencies' is refused"),
        ({"code": "\ud800"}, "'code' is refused"),
        ({"code": "x" * (args.MAX_CODE_CHARS + 1)}, "at most"),
    ],
)
def test_a_mistake_is_named(values, said):
    with pytest.raises(args.BadArguments) as raised:
        args.checked(args.RunCode, values)
    assert said in str(raised.value)
    assert str(raised.value).endswith(".")


def test_many_long_mistakes_make_a_short_answer():
    values = {"code": "1", **{f"{'x' * 1000}{number}": 1 for number in range(1000)}}
    with pytest.raises(args.BadArguments) as raised:
        args.checked(args.RunCode, values)
    assert "995 more mistakes" in str(raised.value)
    assert len(str(raised.value)) < 2_000


def test_bytes_come_as_base64():
    given = {"name": "a.bin", "content": "AAH/", "encoding": "base64"}
    assert args.checked(args.WriteFile, given).data() == b"\x00\x01\xff"
    with pytest.raises(args.BadArguments, match="not base64"):
        args.checked(args.WriteFile, given | {"content": "%%%"}).data()


def test_every_schema_is_one_and_describes_an_object():
    for tool in described():
        for schema in (tool.input_schema, tool.output_schema):
            if schema is not None:
                Draft202012Validator.check_schema(schema)
                assert schema["type"] == "object"
                assert '"title"' not in json.dumps(schema)


def test_every_tool_says_what_it_does_and_that_its_world_is_closed():
    for tool in described():
        assert tool.description
        assert tool.title
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False
        assert tool.annotations.read_only_hint is not None
    readers = {tool.name for tool in described() if tool.annotations.read_only_hint}
    assert readers == {"list_files", "read_file", "list_sessions", "session_info"}
    assert len(TOOLS) == len(described())
