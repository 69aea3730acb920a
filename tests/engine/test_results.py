"""What a result says, whatever the guest said."""

import base64

import pytest

from sandbox_kernel import events
from sandbox_kernel.engine import DependencyReport, Display, Result
from sandbox_kernel.engine.results import error_of, exit_code_of
from sandbox_kernel.errors import CodeFailed
from sandbox_kernel.session import Outcome


def outcome(name=None, value="", exit_code=None):
    error = events.CellFailed(1, name, value, ["line"]) if name else None
    return Outcome("error" if name else "ok", error, None, {}, [], exit_code)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (None, "", 0),
        ("ValueError", "x", 1),
        ("CellTimeout", "", 124),
        ("KeyboardInterrupt", "", 130),
        ("MemoryLimitExceeded", "", 137),
        ("SandboxDied", "", 137),
        ("SystemExit", "3", 3),
        ("SystemExit", "-1", 255),
        ("SystemExit", "text", 1),
    ],
)
def test_an_exit_code_is_as_shells_have_it(name, value, expected):
    made = outcome(name, value)
    assert exit_code_of(made, error_of(made)) == expected


@pytest.mark.parametrize("value", ["²", "--5", "٣", "1" * 5000, "1_0", " 3", "3\n", "-"])
def test_an_exit_code_that_the_guest_made_up_is_one(value):
    made = outcome("SystemExit", value)
    assert exit_code_of(made, error_of(made)) == 1


@pytest.mark.parametrize("value", ["", "0", "None"])
def test_who_asks_to_exit_with_nothing_has_not_failed(value):
    assert error_of(outcome("SystemExit", value)) is None


def test_a_commands_own_exit_code_counts():
    made = outcome("CommandFailed", "x", exit_code=3)
    assert exit_code_of(made, error_of(made)) == 3
    made = outcome("CommandFailed", "x", exit_code=True)
    assert exit_code_of(made, error_of(made)) == 1


def result(**changes):
    made = Result(True, "", "", 0, None, "", [], [], None, DependencyReport(), 0.0)
    return made._replace(**changes)


def test_a_failed_result_raises_when_asked_and_is_in_the_error():
    error = error_of(outcome("ValueError", "x"))
    failed = result(ok=False, error=error)
    with pytest.raises(CodeFailed, match="ValueError: x") as raised:
        failed.raise_for_error()
    assert raised.value.result is failed
    assert result().raise_for_error().ok


def test_a_display_gives_bytes_of_each_of_its_forms():
    picture = base64.b64encode(b"\x89PNG").decode()
    shown = Display({"image/png": picture, "text/plain": "é", "application/json": {"a": 1}}, {})
    assert shown.content("image/png") == b"\x89PNG"
    assert shown.content("text/plain") == "é".encode()
    assert shown.content("application/json") == b'{"a": 1}'
    assert shown.text == "é"
    with pytest.raises(KeyError):
        shown.content("image/gif")
    assert Display({"text/plain": ["no text"]}, {}).text == ""
