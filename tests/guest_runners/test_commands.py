"""The runner that runs one command a cell, with Bash, and with whatever else this machine has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox_kernel import languages
from sandbox_kernel.guest.framing import Kind
from tests.guest_runners import support
from tests.guest_runners.support import Runner, old_python, this_python

MAIN = support.MAIN.parent.parent / "command" / "__main__.py"
NOTICE = "each cell of Bash runs as one command"

# What prints 42 in each language, and what fails with 3.
PROGRAMS = {
    "bash": ("echo $((6 * 7))", "exit 3"),
    "javascript": ("console.log(6 * 7)", "process.exit(3)"),
    "lua": ("print(6 * 7)", "os.exit(3)"),
    "perl": ("print 6 * 7, qq(\\n);", "exit 3;"),
    "php": ("echo 6 * 7, PHP_EOL;", "exit(3);"),
    "r": ("cat(6 * 7, fill = TRUE)", "quit(status = 3)"),
    "ruby": ("puts 6 * 7", "exit 3"),
    "sql": ("SELECT 6 * 7;", None),  # whose exit code is 1 for every error
}


Start = Callable[..., Runner]


def _command_arguments(language: languages.Language) -> tuple[str, ...]:
    """What this runner is given for a language, whichever runner that has by now."""
    plain = language._replace(runner=(), interpreter=(), native_kernel=())
    return plain.runner_argv[2:]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start("ruby", PATH=…)` gives its runner."""
    started: list[Runner] = []

    def start_it(name: str, python: str | None = None, **environment: str) -> Runner:
        arguments = _command_arguments(languages.get(name))
        runner = Runner(
            python or this_python(), tmp_path, environment, main=MAIN, main_arguments=arguments
        )
        started.append(runner)
        return runner

    yield start_it
    for runner in started:
        runner.close()


@pytest.fixture(params=["new", "3.8"])
def bash(request: pytest.FixtureRequest, start: Start) -> Runner:
    """Bash, by this Python and by the oldest one."""
    python = this_python() if request.param == "new" else old_python()
    if python is None:
        pytest.skip("this machine has no Python 3.8 without IPython")
    return start("bash", python)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_each_language_runs_a_cell_and_tells_a_failure(start, name):
    language = languages.get(name)
    if not any(map(shutil.which, language.programs)):
        pytest.skip(f"this machine has no {' and no '.join(language.programs)}")
    good, bad = PROGRAMS[name]
    runner = start(name)
    cell = runner.execute(good)
    assert (cell.piped, cell.reply["status"]) == ("42\n", "ok")
    if bad is not None:
        cell = runner.execute(bad)
        assert cell.error["evalue"] == "The command ended with exit code 3."


def test_every_language_that_runs_as_commands_has_its_programs_here():
    elsewhere = {"python", "ipykernel", "typescript", "deno"}  # what needs its runner, or Deno
    assert set(PROGRAMS) == set(languages.names()) - elsewhere


def test_the_first_cell_says_what_cannot_be_done(bash):
    assert NOTICE in bash.execute("true").stderr
    assert bash.execute("true").stderr == ""


def test_a_silent_cell_does_not(bash):
    assert bash.execute("true", silent=True).stderr == ""
    assert NOTICE in bash.execute("true").stderr


def test_the_streams_stay_apart(bash):
    cell = bash.execute("echo out; echo err >&2")
    assert (cell.piped, cell.piped_errors) == ("out\n", "err\n")


def test_files_persist_and_variables_do_not(bash):
    bash.execute("x=1; echo kept > file")
    assert bash.execute('echo "x=$x"; cat file').piped == "x=\nkept\n"


def test_messages_name_the_cell(bash):
    bash.execute("true")
    assert "cell-2.sh: line 1" in bash.execute("no_such_command").piped_errors


def test_the_file_of_code_is_hidden_and_goes(bash, tmp_path):
    assert bash.execute("ls -A").piped == ".cell-1.sh\n"
    assert not list(tmp_path.iterdir())


def test_what_lies_under_its_name_is_not_written_through(bash, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / ".cell-1.sh").symlink_to(victim)
    assert bash.execute("echo fine").piped == "fine\n"
    assert victim.read_text() == "whole"


def test_a_cell_that_leaves_a_directory_under_its_name_still_runs(bash, tmp_path):
    (tmp_path / ".cell-1.sh").mkdir()
    assert bash.execute("echo fine").piped == "fine\n"


def test_a_command_that_crashes_is_told_by_its_signal(bash):
    assert "SIGSEGV" in bash.execute("kill -SEGV $$").error["evalue"]
    assert "memory" in bash.execute("kill -KILL $$").error["evalue"]


def test_an_interrupt_ends_the_command_and_the_runner_goes_on(bash):
    cell = bash.begin("echo up; sleep 600")
    bash.wait_for(lambda: "up" in cell.piped)
    bash.interrupt()
    assert bash.finish(cell).error["ename"] == "KeyboardInterrupt"
    assert bash.execute("echo next").piped == "next\n"


def test_an_interrupt_that_the_command_handles_is_no_failure(bash):
    cell = bash.begin("trap 'echo saved; exit 0' INT; echo up; while :; do sleep 0.05; done")
    bash.wait_for(lambda: "up" in cell.piped)
    bash.interrupt()
    assert bash.finish(cell).reply["status"] == "ok"
    assert "saved" in cell.piped


def test_an_interrupt_between_cells_does_nothing(bash):
    bash.interrupt()
    assert bash.execute("echo next").piped == "next\n"


def test_a_command_reads_nothing(bash):
    assert bash.execute("cat; echo end").piped == "end\n"


def test_what_is_left_running_keeps_the_pipes_of_its_own_cell(bash):
    first = bash.execute("(while [ ! -e go ]; do sleep 0.02; done; echo late) &")
    second = bash.execute("touch go; echo second")
    bash.wait_for(lambda: "late" in first.piped)
    assert second.piped == "second\n"


def test_commands_inherit_none_of_our_descriptors(bash):
    fds = bash.execute("ls /proc/$$/fd").piped.split()
    # 255 is Bash's own for its script.
    assert set(fds) <= {"0", "1", "2", "255"}


def test_a_missing_program_is_an_error_with_the_remedy(start, tmp_path):
    runner = start("javascript", PATH=str(tmp_path))
    error = runner.execute("1").error
    assert error["ename"] == "CommandMissing"
    assert "There is no node (nor nodejs) in this sandbox" in error["evalue"]
    assert "--image" in error["evalue"]


def test_another_program_does_as_well(start, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    runner = start("bash", PATH=str(programs))
    assert runner.execute("echo fine").piped == "fine\n"


def test_php_needs_no_opening_tag_and_takes_one(start, tmp_path):
    program = tmp_path / "php"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("cat")} "$1"\n')
    program.chmod(0o755)
    runner = start("php", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert runner.execute("echo 1;").piped == "<?php echo 1;"
    assert runner.execute("<?php echo 1;").piped == "<?php echo 1;"
    assert runner.execute("\n<b><?= 1 ?></b>").piped == "<?php \n<b><?= 1 ?></b>"


def test_questions_get_empty_answers(bash):
    assert bash.ask(Kind.COMPLETE, "ec", cursor_pos=2)["matches"] == []
    assert bash.ask(Kind.INSPECT, "echo", cursor_pos=2)["found"] is False
    assert bash.ask(Kind.IS_COMPLETE, "if")["status"] == "unknown"


def test_expressions_are_refused_one_by_one(bash):
    reply = bash.execute("true", user_expressions={"a": "1"}).reply
    assert reply["status"] == "ok"
    assert reply["user_expressions"]["a"]["ename"] == "NotSupported"
