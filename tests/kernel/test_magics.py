"""`%sandbox` lines: which lines they are, what they do, and what they refuse."""

from __future__ import annotations

import pytest

from sandbox_kernel.errors import FileRefused, RequestRefused
from sandbox_kernel.exchange import Exchange
from sandbox_kernel.kernel.magics import Magics, UsageError, hide, parse, split, status_rows
from sandbox_kernel.limits import Limits
from tests.kernel.scripted_kernel import ScriptedSession


@pytest.fixture
def session():
    return ScriptedSession(lambda _event: None)


@pytest.fixture
def magics(session, tmp_path):
    exchange = Exchange(str(tmp_path))
    yield Magics(session, exchange)
    exchange.close()


@pytest.mark.parametrize(
    ("code", "lines", "rest"),
    [
        ("%sandbox files", ["files"], ""),
        ("%sandbox", [""], ""),
        ("  %sandbox\tput a  \nx", ["put a"], "#\nx"),
        (
            "\n# note\n%sandbox get a\n%sandbox put b\nx = 1",
            ["get a", "put b"],
            "\n# note\n#\n#\nx = 1",
        ),
        ("x = 1\n%sandbox files", [], "x = 1\n%sandbox files"),
        ("%sandbox put a\n%%time\nx", ["put a"], "\n%%time\nx"),
        ("%sandboxed", [], "%sandboxed"),
        ("print('%sandbox files')", [], "print('%sandbox files')"),
        ("", [], ""),
    ],
)
def test_leading_lines_are_taken_and_leave_the_line_numbers(code, lines, rest):
    assert split(code) == (lines, rest)
    assert rest.count("\n") == code.count("\n")


@pytest.mark.parametrize(
    "line",
    [
        "rm a",
        "get",
        "get a b c",
        "put",
        "files now",
        "get 'a",
        "put a --overwrite",
        "get a --force",
    ],
)
def test_a_line_that_is_no_command_says_how_to_write_it(line):
    with pytest.raises(UsageError) as told:
        parse(line)
    assert "%sandbox" in str(told.value)
    assert str(told.value).endswith(".")


@pytest.mark.parametrize(
    ("code", "hidden"),
    [
        ("%sandbox put a.csv\n%%bash\nech", " " * 18 + "\n%%bash\nech"),
        ("%dependencies x\n\nprin", " " * 15 + "\n\nprin"),
        ("print(1)\n%sandbox files", "print(1)\n%sandbox files"),
        ("", ""),
    ],
)
def test_what_is_hidden_from_a_question_leaves_every_position(code, hidden):
    assert hide(code) == hidden


def test_a_line_that_is_taken_leaves_nothing_where_a_hash_is_no_comment():
    assert split("%sandbox files\nlet x = 1;", "") == (["files"], "\nlet x = 1;")


def test_names_with_spaces_are_quoted_as_in_a_shell():
    command = parse("get 'my file.csv' out.csv --overwrite")
    assert command.arguments == ["my file.csv", "out.csv"]
    assert command.allow_overwrite


async def test_files_lists_names_and_sizes_with_the_guests_names_escaped(magics):
    shown = await magics.run("files")
    assert "a.txt" in shown.text
    assert "5 bytes" in shown.text
    assert "dir/&lt;b&gt;.csv" in shown.html
    assert "<b>" not in shown.html


async def test_names_that_would_lie_on_a_screen_are_shown_harmless(magics, session):
    session.files.contents = {"a\n\x1b[2Jb\u202egpj.exe\ud800": b""}
    shown = await magics.run("files")
    assert "\x1b" not in shown.text
    assert "\u202e" not in shown.text
    assert "\ud800" not in shown.html
    session.files.contents = {str(n): b"" for n in range(700)}
    assert "… and 200 more" in (await magics.run("files")).text


async def test_get_copies_to_the_directory_of_the_notebook(magics, tmp_path):
    shown = await magics.run("get a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"alpha"
    assert shown.text == "a.txt (5 bytes) was copied to a.txt."
    (tmp_path / "plots").mkdir()
    await magics.run("get a.txt plots/")
    await magics.run("get a.txt plots/b.txt")
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["a.txt", "b.txt"]


async def test_a_file_that_is_not_there_is_named(magics):
    with pytest.raises(RequestRefused, match=r"^nope\.txt was not copied\. .*no file"):
        await magics.run("get nope.txt")


async def test_get_overwrites_only_when_asked(magics, tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(FileRefused, match="not overwritten"):
        await magics.run("get a.txt")
    assert (tmp_path / "a.txt").read_text() == "mine"
    await magics.run("get a.txt --overwrite")
    assert (tmp_path / "a.txt").read_bytes() == b"alpha"


@pytest.mark.parametrize("target", ["../x", "/etc/x", ".bashrc", "conftest.py", "~/x"])
async def test_get_never_leaves_the_directory_and_asks_the_guest_nothing_then(
    magics, session, target
):
    session.files.read = None  # would fail differently
    with pytest.raises(FileRefused):
        await magics.run(f"get a.txt {target}")


async def test_a_guests_file_name_is_no_host_path(magics, session, tmp_path):
    session.files.contents["../../evil"] = b"x"
    await magics.run("get ../../evil")
    assert (tmp_path / "evil").read_bytes() == b"x"
    session.files.contents[".bashrc"] = b"x"
    with pytest.raises(FileRefused, match="hidden"):
        await magics.run("get .bashrc")


async def test_put_copies_into_the_workspace_under_its_own_or_another_name(
    magics, session, tmp_path
):
    (tmp_path / "in.csv").write_bytes(b"1,2")
    await magics.run("put in.csv")
    await magics.run("put in.csv data/other.csv")
    assert session.files.contents["in.csv"] == session.files.contents["data/other.csv"] == b"1,2"
    with pytest.raises(FileRefused, match="does not exist"):
        await magics.run("put none.csv")


async def test_what_the_guest_refuses_is_told(magics):
    with pytest.raises(RequestRefused, match="no file"):
        await magics.run("get none.txt")


async def test_status_names_the_boundary_the_limits_and_what_is_used(magics):
    text = (await magics.run("status")).text
    for word in ("a scripted boundary", "1 MiB of 2 GiB", "3 of 256", "cell timeout"):
        assert word in text


def test_figures_that_a_guest_made_up_do_no_harm():
    forged = {
        "boundary": "b\x1b",
        "memory_bytes": "x",
        "processes": 10**400,
        "uptime_s": -1,
        "runner": [],
        "workspace_used_bytes": float("inf"),
    }
    text = str(status_rows(forged, Limits()))
    assert "?" in text
    assert "\\x1b" not in text


async def test_help_names_every_command(magics):
    text = (await magics.run("help")).text
    for verb in ("files", "get", "put", "status"):
        assert f"%sandbox {verb}" in text
    assert (await magics.run("")).text == text
