"""Code that fails: one error a cell, with the user's lines, and the runner lives on."""

from __future__ import annotations

import re

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner

ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def text_of(error: dict[str, object]) -> str:
    return ESCAPES.sub("", "\n".join(error["traceback"]))  # type: ignore[arg-type]


def test_an_exception_is_one_error_with_the_right_line(runner: Runner) -> None:
    runner.execute("def f(x):\n    y = x\n    return y / 0")
    cell = runner.execute("a = 1\n\nf(a)")
    assert cell.kinds == [Kind.ERROR, Kind.REPLY]
    assert (cell.error["ename"], cell.error["evalue"]) == ("ZeroDivisionError", "division by zero")
    text = text_of(cell.error)
    assert re.search(r"Cell In\[2\]\"?, line 3", text)
    assert re.search(r"Cell In\[1\]\"?, line 3", text)
    assert "return y / 0" in text
    assert "_sandbox_guest" not in text
    assert "runners/python" not in text
    assert cell.reply["status"] == "error"
    assert cell.reply["ename"] == "ZeroDivisionError"


def test_ipython_colours_its_tracebacks(ipython: Runner) -> None:
    assert "\x1b[" in "".join(ipython.execute("1/0").error["traceback"])


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("x = (", "SyntaxError"),
        ("def f():\nreturn 1", "IndentationError"),
        ("return 5", "SyntaxError"),
        ("x = 'a\n", "SyntaxError"),
        ("1 +\n2", "SyntaxError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import sys; sys.exit('bye')", "SystemExit"),
        ("exit()", "SystemExit"),
        ("quit()", "SystemExit"),
        ("raise BaseException('x')", "BaseException"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import nowhere", "ModuleNotFoundError"),
        ("import asyncio\nawait asyncio.sleep(0)\n1/0", "ZeroDivisionError"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("async def f(): raise SystemExit(1)\nawait f()", "SystemExit"),
        ("eval('x x')", "SyntaxError"),
    ],
)
def test_each_failure_is_one_error_and_the_runner_lives(
    runner: Runner, code: str, name: str
) -> None:
    cell = runner.execute(code)
    # Python 3.13 has a kind of its own for code that ends too soon.
    assert cell.error["ename"].replace("_IncompleteInputError", "SyntaxError") == name
    assert cell.error["traceback"]
    assert cell.reply["status"] == "error"
    assert runner.execute("print('alive')").stdout == "alive\n"


def test_a_syntax_error_points_at_the_place(runner: Runner) -> None:
    text = text_of(runner.execute("x = 1\ny = = 2").error)
    assert "y = = 2" in text
    assert re.search(r"line 2", text)
    assert "^" in text


def test_exit_values_are_shown(runner: Runner) -> None:
    assert runner.execute("import sys; sys.exit(3)").error["evalue"] == "3"
    assert "kernel" not in runner.execute("exit()").stderr


def test_a_chain_of_exceptions_shows_all_of_them(runner: Runner) -> None:
    cell = runner.execute(
        "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e"
    )
    assert "ZeroDivisionError" in text_of(cell.error)
    assert cell.error["ename"] == "KeyError"


@pytest.mark.parametrize("shell", ["ipython", "plain"])
def test_a_group_of_exceptions_is_one_error(start_runner, shell: str) -> None:
    cell = start_runner(shell).execute("raise ExceptionGroup('many', [ValueError('one')])")
    assert cell.error["ename"] == "ExceptionGroup"
    assert "ValueError: one" in text_of(cell.error)
    assert cell.stderr == ""


def test_exceptions_that_cannot_be_shown_are_still_errors(runner: Runner) -> None:
    cell = runner.execute("class E(Exception):\n    def __str__(self): raise ValueError\nraise E")
    assert cell.metas(Kind.ERROR)[0]["ename"] in ("E", "ValueError")
    assert cell.reply["status"] == "error"
    huge = runner.execute("raise ValueError('x' * 20_000_000)")
    assert huge.error["ename"] == "ValueError"
    assert len(huge.of(Kind.ERROR)[0].meta) < 8 * 2**20
    odd = runner.execute(r"raise ValueError('\udc80')")
    assert odd.error["evalue"] == "\udc80"


def test_an_object_whose_repr_fails_is_an_error(runner: Runner) -> None:
    cell = runner.execute("class R:\n    def __repr__(self): raise RuntimeError('no')\nR()")
    assert [error["ename"] for error in cell.metas(Kind.ERROR)] == ["RuntimeError"]
    assert cell.reply["status"] == "error"


def test_failures_within_failures_are_shown_and_the_cell_itself_succeeds(ipython: Runner) -> None:
    cell = ipython.execute("r = get_ipython().run_cell('1/0')\nprint('went on')")
    assert cell.error["ename"] == "ZeroDivisionError"
    assert cell.stdout == "went on\n"
    assert cell.reply["status"] == "ok"


def test_out_of_memory_is_an_exception(runner: Runner) -> None:
    cell = runner.execute(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\nb'x' * 2**33"
    )
    assert cell.error["ename"] == "MemoryError"
    assert runner.execute("1").result == "1"


def test_a_magic_without_ipython_is_explained(plain: Runner) -> None:
    for code in ("%timeit 1", "!ls", "%%bash\nls", "print?", "x = 1\n%matplotlib inline"):
        error = plain.execute(code).error
        assert "IPython is not installed" in error["evalue"], code
    assert plain.execute("x = (").error["ename"] == "SyntaxError"
