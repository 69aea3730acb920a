"""Magics and shell commands, where the guest has IPython."""

from __future__ import annotations

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner


def test_a_shell_command_streams_its_output(ipython: Runner) -> None:
    cell = ipython.begin("print('first')\n!echo out; echo err >&2; sleep 60")
    ipython.wait_for(lambda: (cell.piped, cell.piped_errors) == ("out\n", "err\n"))
    assert cell.stdout == "first\n"
    assert not cell.is_answered


def test_a_shell_command_knows_variables_and_leaves_its_exit_code(ipython: Runner) -> None:
    ipython.execute("name = 'World'")
    assert ipython.execute("!echo Hello $name {1 + 1}").piped == "Hello World 2\n"
    ipython.execute("!exit 3")
    assert ipython.execute("_exit_code").result == "3"


def test_a_shell_commands_output_may_be_taken(ipython: Runner) -> None:
    cell = ipython.execute("lines = !printf 'a\\nb\\n'\nlist(lines)")
    assert cell.result == "['a', 'b']"
    assert cell.piped == ""


def test_a_bash_cell_prints_into_its_cell_each_time(ipython: Runner) -> None:
    for text in ("one", "two"):
        cell = ipython.execute(f"%%bash\necho {text}; echo oops >&2")
        assert (cell.stdout, cell.stderr) == (f"{text}\n", "oops\n")


def test_a_failing_bash_cell_is_an_error(ipython: Runner) -> None:
    assert ipython.execute("%%bash\nexit 2").error["ename"] == "CalledProcessError"


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("%timeit -n1 -r1 pass", "per loop"),
        ("%time x = 1", "Wall time"),
        ("%%time\nx = 1", "Wall time"),
        ("y = 1\n%who", "y"),
        ("z = 1\n%whos", "z"),
        ("%pwd", None),
        ("%history", "%history"),
        ("%lsmagic", None),
        ("%env HOME", None),
        ("%xmode Plain", "Exception reporting mode: Plain"),
        ("%precision 3", None),
        ("%store -h", None),
    ],
)
def test_everyday_magics_work(ipython: Runner, code: str, part: str | None) -> None:
    cell = ipython.execute(code)
    if code != "%store -h":
        assert cell.reply["status"] == "ok", cell
    if part:
        assert part in cell.stdout


def test_storing_works(ipython: Runner) -> None:
    ipython.execute("kept = [1, 2]")
    assert ipython.execute("%store kept").reply["status"] == "ok"
    assert ipython.execute("del kept\n%store -r kept\nkept").result == "[1, 2]"


def test_a_file_is_written_and_run(ipython: Runner) -> None:
    ipython.execute("%%writefile s.py\nimport sys\nprint('ran', __name__)\nv = 5")
    cell = ipython.execute("%run s.py\nv")
    assert (cell.stdout, cell.result) == ("ran __main__\n", "5")


def test_output_is_captured(ipython: Runner) -> None:
    cell = ipython.execute(
        "%%capture got\nprint('in'); display(7); import sys; print('e', file=sys.stderr)"
    )
    assert cell.kinds == [Kind.REPLY]
    assert (
        ipython.execute("got.stdout, got.stderr, len(got.outputs)").result == "('in\\n', 'e\\n', 1)"
    )


def test_an_unknown_magic_is_a_usage_error(ipython: Runner) -> None:
    cell = ipython.execute("%no_such_magic")
    assert cell.error["ename"] == "UsageError"
    assert cell.reply["status"] == "error"
    assert cell.reply["ename"] == "UsageError"


def test_history_is_this_sessions(ipython: Runner) -> None:
    ipython.execute("first = 1")
    ipython.execute("second = 2")
    assert ipython.execute("%history -n").stdout.splitlines()[0].endswith("first = 1")
    assert ipython.execute("_i").result == "'%history -n'"
    assert ipython.execute("%rerun 1").reply["status"] == "ok"


def test_a_cell_may_change_the_directory(ipython: Runner, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    ipython.execute("%cd sub")
    assert ipython.execute("!pwd").piped.strip() == str(tmp_path / "sub")


def test_the_completer_can_be_configured_before_it_is_used(ipython: Runner) -> None:
    ipython.execute("%config IPCompleter.use_jedi = False")
    assert ipython.execute("get_ipython().Completer.use_jedi").result == "False"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = %pwd\nx == __import__('os').getcwd()", "True"),
        ("if True:\n    y = !echo deep\nlist(y)", "['deep']"),
        ("'%d!?' % 5", "'5!?'"),
        ("5 % 3 != 2", "False"),
        (",max a b", "'b'"),
        ("/max 1 2", "2"),
    ],
)
def test_special_syntax_is_found_and_python_is_left_alone(
    ipython: Runner, code: str, expected: str
) -> None:
    ipython.execute("%autocall 0")
    assert ipython.execute(code).result == expected


def test_logging_can_be_configured(runner: Runner) -> None:
    cell = runner.execute("import logging.config\nlogging.config.dictConfig({'version': 1})\n7")
    assert cell.result == "7"


def test_exit_without_parentheses_ends_the_cell(ipython: Runner) -> None:
    assert ipython.execute("exit").error["ename"] == "SystemExit"
    assert ipython.execute("1").result == "1"


def test_autoreload_and_extensions_load(ipython: Runner) -> None:
    cell = ipython.execute("%load_ext autoreload\n%autoreload 2")
    assert cell.reply["status"] == "ok"
    assert ipython.execute("1").result == "1"


def test_events_of_ipython_fire(ipython: Runner) -> None:
    ipython.execute(
        "seen = []\nip = get_ipython()\n"
        "for name in ('pre_execute', 'pre_run_cell', 'post_execute', 'post_run_cell'):\n"
        "    ip.events.register(name, lambda *a, name=name: seen.append(name))"
    )
    ipython.execute("1")
    # The cell that registered has its own end among them.
    names = "['post_execute', 'post_run_cell', 'pre_execute', 'pre_run_cell', " * 2
    assert (
        ipython.execute("seen").result.replace("\n", "").replace("  ", " ").startswith(names[:40])
    )
