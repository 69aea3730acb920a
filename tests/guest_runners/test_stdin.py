"""input(), getpass and sys.stdin."""

from __future__ import annotations

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Cell, Runner


def wait_for_question(runner: Runner, cell: Cell, count: int = 1) -> dict[str, object]:
    runner.wait_for(lambda: len(cell.of(Kind.INPUT_REQUEST)) == count)
    return cell.metas(Kind.INPUT_REQUEST)[-1]


def test_input_asks_and_returns_the_answer(runner: Runner) -> None:
    cell = runner.begin("print('first')\nname = input('Name? ')\nname", allow_stdin=True)
    assert wait_for_question(runner, cell) == {"prompt": "Name? ", "password": False}
    assert cell.stdout == "first\n"
    runner.answer("Zoë 🙂")
    assert runner.finish(cell).result == "'Zoë 🙂'"


def test_getpass_asks_for_a_password(runner: Runner) -> None:
    cell = runner.begin("from getpass import getpass\ngetpass('Secret: ')", allow_stdin=True)
    assert wait_for_question(runner, cell) == {"prompt": "Secret: ", "password": True}
    runner.answer("x")
    assert runner.finish(cell).result == "'x'"


def test_several_questions_in_one_cell(runner: Runner) -> None:
    cell = runner.begin("[input(str(i)) for i in range(3)]", allow_stdin=True)
    for number in range(3):
        assert wait_for_question(runner, cell, number + 1)["prompt"] == str(number)
        runner.answer("abc"[number])
    assert runner.finish(cell).result == "['a', 'b', 'c']"


def test_stdin_is_read_line_by_line(runner: Runner) -> None:
    cell = runner.begin("import sys\nsys.stdin.readline(), next(sys.stdin)", allow_stdin=True)
    wait_for_question(runner, cell)
    runner.answer("one")
    wait_for_question(runner, cell, 2)
    runner.answer("two")
    assert runner.finish(cell).result == "('one\\n', 'two\\n')"


def test_asking_fails_at_once_where_nobody_can_answer(runner: Runner) -> None:
    for code in ("input()", "import getpass; getpass.getpass()", "import sys; sys.stdin.read()"):
        cell = runner.execute(code, allow_stdin=False)
        assert "does not support input requests" in cell.error["evalue"]
        assert not cell.of(Kind.INPUT_REQUEST)
    expected = "StdinNotImplementedError" if runner.info["ipython"] else "NotImplementedError"
    assert cell.error["ename"] == expected


def test_answers_for_other_cells_are_ignored(runner: Runner) -> None:
    runner.answer("nobody asked", cell=77)
    cell = runner.begin("input()", allow_stdin=True)
    wait_for_question(runner, cell)
    runner.answer("for another", cell=runner.latest + 5)
    runner.answer("mine")
    assert runner.finish(cell).result == "'mine'"


def test_a_question_is_interrupted_and_its_answer_is_not_given_to_the_next(runner: Runner) -> None:
    cell = runner.begin(
        "try: input('a')\nexcept KeyboardInterrupt: print('no')\n", allow_stdin=True
    )
    wait_for_question(runner, cell)
    runner.interrupt()
    assert runner.finish(cell).stdout == "no\n"
    runner.answer("late")
    later = runner.begin("input('b')", allow_stdin=True)
    wait_for_question(runner, later)
    runner.answer("right")
    assert runner.finish(later).result == "'right'"


def test_a_thread_may_ask(runner: Runner) -> None:
    cell = runner.begin(
        "import threading\nt = threading.Thread(target=lambda: print(input('?')))\n"
        "t.start(); t.join()",
        allow_stdin=True,
    )
    wait_for_question(runner, cell)
    runner.answer("from a thread")
    assert runner.finish(cell).stdout == "from a thread\n"


def test_the_debugger_asks(ipython: Runner) -> None:
    ipython.execute("def f():\n    secret = 42\n    1/0")
    ipython.execute("f()")
    cell = ipython.begin("%debug", allow_stdin=True)
    assert "ipdb" in str(wait_for_question(ipython, cell)["prompt"])
    ipython.answer("p secret")
    wait_for_question(ipython, cell, 2)
    ipython.answer("q")
    assert "42" in ipython.finish(cell).stdout
