"""`%%<language>` cells: which they are, where they go, and that positions stay."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel.kernel.magics import UsageError
from sandbox_kernel.kernel.polyglot import Routed, route
from tests.support.questions import is_complete


@pytest.mark.parametrize(
    ("code", "own", "runner", "rest"),
    [
        ("%%bash\nls", "python", "bash", "      \nls"),
        ("%%sh\nls", "python", "bash", "    \nls"),
        ("%%js\n1", "python", "javascript", "    \n1"),
        ("%%R\n1", "python", "r", "   \n1"),
        ("\n \n  %%ruby  \nputs 1", "python", "ruby", "\n \n          \nputs 1"),
        ("%%perl", "python", "perl", "      "),
        ("%%bash\r\nls", "python", "bash", "       \nls"),
        ("%%python\nx", "javascript", "python", "#       \nx"),
        ("%%python\n\n%%time\nx", "javascript", "python", "        \n\n%%time\nx"),
        ("%%bash\n%%ruby\nx", "python", "bash", "      \n%%ruby\nx"),
    ],
)
def test_the_first_line_names_the_language_and_leaves_every_position(code, own, runner, rest):
    routed = route(code, own)
    assert (routed.runner, routed.code) == (runner, rest)
    assert len(rest) == len(code)
    assert rest.count("\n") == code.count("\n")


@pytest.mark.parametrize(
    ("code", "own", "rest"),
    [
        ("%%python\nx", "python", "#       \nx"),
        ("%%py\n%%time\nx", "python", "    \n%%time\nx"),
        ("%%bash\nls", "bash", "      \nls"),
        ("%%node\n1", "javascript", "      \n1"),
    ],
)
def test_the_notebooks_own_language_is_just_run(code, own, rest):
    assert route(code, own)[:2] == ("", rest)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "x = 1",
        "%%time\nx",
        "%%html\n<b>",
        "%%latex\nx",
        "%%writefile a.txt\nx",
        "%%bash -s argument\nls",
        "%%bash --out x\nls",
        "x = 1\n%%bash\nls",
        "# note\n%%bash\nls",
        "%bash\nls",
        "%% bash\nls",
        "%%\nls",
        "print('%%bash')",
    ],
)
def test_everything_else_in_a_python_notebook_is_ipythons(code):
    assert route(code, "python") == Routed("", code)


@pytest.mark.parametrize("own", ["bash", "javascript", "r"])
def test_an_unknown_word_in_another_notebook_is_an_error_that_names_the_languages(own):
    with pytest.raises(UsageError) as told:
        route("%%klingon\nx", own)
    assert "%%klingon" in str(told.value)
    assert "%%javascript" in str(told.value)
    assert str(told.value).endswith(".")


def test_a_language_with_arguments_in_another_notebook_says_how_to_write_it():
    with pytest.raises(UsageError, match="stands alone on its line"):
        route("%%python -i\nx", "bash")


@pytest.mark.parametrize("code", ["%% \nx", "%%\nx", "echo %%bash", "%1"])
def test_what_names_nothing_is_the_languages_own(code):
    assert route(code, "bash") == Routed("", code)


@pytest.mark.parametrize(
    ("code", "is_only_a_name"),
    [("%%bash", True), ("%%bash\n \n", True), ("%%bash\nls", False), ("", False), ("\n", False)],
)
def test_a_name_alone_is_a_cell_that_has_not_begun(code, is_only_a_name):
    assert route(code, "python").is_only_a_name is is_only_a_name


def test_endless_blanks_are_read_in_no_time():
    blank = " " * 200_000 + "\n" * 200_000
    assert route(blank + "x %%bash", "python") == Routed("", blank + "x %%bash")
    assert route(blank + "%%bash\n" + blank, "python").runner == "bash"


# -- through the server


def test_a_cell_goes_to_the_language_that_it_names(served):
    asked = json.loads(served.run("%%bash\nseen").stdout)
    assert asked["runner"] == "bash"
    assert asked["code"] == "      \nseen"
    assert "runner" not in json.loads(served.run("seen").stdout)


def test_what_is_shown_and_remembered_is_the_cell_as_it_was_written(served):
    run = served.run("%%bash\nprint x")
    assert run.contents("execute_input")[0]["code"] == "%%bash\nprint x"


def test_magic_lines_may_come_before_the_language(served):
    run = served.run("%sandbox status\n%%bash\nseen")
    assert len(run.displays) == 1
    asked = json.loads(run.stdout)
    assert (asked["runner"], asked["code"].split("\n")) == ("bash", ["", "      ", "seen"])


def test_completion_asks_the_language_and_keeps_the_cursor(served):
    def complete(code: str, cursor: int) -> dict:
        return served.request("complete_request", {"code": code, "cursor_pos": cursor})["content"]

    answer = complete("%%bash\necho", 11)
    assert (answer["matches"], answer["cursor_end"]) == (["bash"], 11)
    assert complete("%%bash\necho", 6)["matches"] == ["zip"]  # in the line that names it
    assert complete("echo", 4)["matches"] == ["zip"]


def test_inspection_asks_the_language_and_keeps_the_cursor(served):
    asked = {"code": "%%bash\nls", "cursor_pos": 9, "detail_level": 1}
    answer = served.request("inspect_request", asked)["content"]
    assert answer["data"]["text/plain"] == "bash      \nls@9/1"


def test_a_language_without_code_is_not_complete_and_the_rest_is_its_languages_word(served):
    for code, indent in (("%%bash", ""), ("%%bash\nif", "    "), ("if", "  ")):
        assert is_complete(served, code) == {"status": "incomplete", "indent": indent}


def test_a_runner_of_another_language_changes_neither_version_nor_comms(scripted):
    scripted.run("comm open c1")
    scripted.run("newrunner bash")
    reply = scripted.request("kernel_info_request", {})["content"]
    assert reply["language_info"]["version"] == "3.99"
    assert "c1" in scripted.request("comm_info_request", {})["content"]["comms"]
    scripted.run("newrunner")
    reply = scripted.request("kernel_info_request", {})["content"]
    assert reply["language_info"]["version"] == "3.99.2"
