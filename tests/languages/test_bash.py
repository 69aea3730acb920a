"""What is Bash's own: one shell for all cells, whatever they set, and no terminal."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_kernel import events
from tests.support.sessions import Cell, Driver
from tests.support.snippets import PIXEL_HEX
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

MAKE_PICTURE = f"printf '%b' \"$(echo {PIXEL_HEX} | sed 's/../\\\\x&/g')\" > dot.png"


@pytest.fixture(scope="module", params=["bash"])
def language_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answered(driver: Driver, code: str, *answers: str) -> Cell:
    left = list(answers)

    def hear(event: events.Event) -> None:
        if isinstance(event, events.InputRequested):
            driver.session.answer_input(left.pop(0))

    cell = await driver.run(code, on_event=hear, allow_stdin=True)
    assert not left
    return cell


async def interrupted(driver: Driver, code: str) -> Cell:
    """Run a cell and interrupt it when it has printed."""
    started = asyncio.Event()

    def hear(event: events.Event) -> None:
        if isinstance(event, events.TextWritten | events.InputRequested):
            started.set()

    async with asyncio.timeout(60):
        running = asyncio.create_task(driver.run(code, on_event=hear, allow_stdin=True))
        await started.wait()
        await driver.session.interrupt()
        return await running


def shown(cell: Cell) -> list[dict[str, object]]:
    return [display.bundle for display in cell.of(events.DisplayShown)]


# --- what stays ---


async def test_arrays_functions_aliases_options_and_the_directory_stay(driver: Driver):
    await driver.run(
        "declare -A ages=([Ada]=36)\nlist=(1 'two words' 3)\nalias greet='echo hello'\n"
        "double() { echo $(($1 * 2)); }\nset -- a 'b c'\nmkdir -p sub && cd sub\nset -o pipefail"
    )
    cell = await driver.run(
        'greet; echo "${ages[Ada]} ${list[1]} $2"; double 21; basename "$PWD"\nfalse | true'
    )
    assert cell.text() == "hello\n36 two words b c\n42\nsub\n"
    assert cell.error.name == "ExitCode"  # of `false`: pipefail stays too
    await driver.run("set +o pipefail; set --; cd ..")


async def test_an_alias_and_a_pattern_work_in_the_cell_that_enables_them(driver):
    assert (await driver.run("alias hi='echo HI'\nhi")).text() == "HI\n"
    cell = await driver.run("shopt -s extglob\n[[ abab == +(ab) ]] && echo yes")
    assert cell.text() == "yes\n"


async def test_the_last_cells_exit_code_is_there_for_the_next(driver):
    assert (await driver.run("(exit 7)")).outcome.status == "error"
    assert (await driver.run("echo $?")).text() == "7\n"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("exit 3", 3), ("(exit 300)", 44), ("exit 0", None), ("fi", None)]
)
async def test_a_cells_exit_code_reaches_the_host_as_a_number(driver, code, exit_code):
    assert (await driver.run(code)).outcome.exit_code == exit_code


async def test_lines_are_counted_from_the_cells_first(driver):
    assert (await driver.run("echo $LINENO\n\necho $LINENO")).text() == "1\n3\n"


# --- failures ---


@pytest.mark.parametrize(
    ("code", "value", "line"),
    [
        ("true\nfalse", "The command ended with exit code 1.", "line 2"),
        ("check() { return 9; }\n\ncheck", "exit code 9", "line 3"),
        ("true; no_such_command", "exit code 127", "line 1"),
        ("(kill -SEGV $BASHPID)", "signal SIGSEGV", "line 1"),
        ("grep x <<< y", "exit code 1", "line 1"),
    ],
)
async def test_an_exit_code_is_an_error_that_says_which_and_where(driver, code, value, line):
    error = (await driver.run(code, execution_count=4)).error
    assert error.name == "ExitCode"
    assert value in error.value
    assert f"Cell[4], {line}" in "\n".join(error.traceback)


@pytest.mark.parametrize(
    ("code", "value", "line"),
    [
        ("echo ran\nif true; then\n  echo )\nfi", "unexpected token", "line 3"),
        ("echo ran\necho 'never closed", "matching", "line 2"),
        ("echo ran\nwhile true; do", "end of file", "line 2"),
        ("echo ran; }", "unexpected token", "line 1"),
    ],
)
async def test_of_a_cell_with_a_syntax_error_nothing_runs(driver, code, value, line):
    cell = await driver.run(code)
    assert cell.error.name == "SyntaxError"
    assert value in cell.error.value
    assert line in cell.error.value
    assert (cell.text(), cell.text("stderr")) == ("", "")


@pytest.mark.parametrize("code", ["", "# a comment", "\n\n", "echo -n", ": '}'"])
async def test_a_cell_may_do_nothing(driver, code):
    assert (await driver.run(code)).outcome.status == "ok"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("echo ${NO_SUCH_NAME:?is needed}", "is needed"),
        ("set -u; echo $NO_SUCH_NAME", "unbound"),
        ("echo $((1 / 0))", "division by 0"),
    ],
)
async def test_what_would_end_a_script_ends_the_cell_and_variables_stay(driver, code, said):
    await driver.run("kept=here")
    cell = await driver.run(f"{code}\necho NOT REACHED")
    assert cell.error.name == "ExitCode"
    assert said in cell.text("stderr")
    assert cell.text() == ""
    assert (await driver.run("set +u; echo $kept")).text() == "here\n"


async def test_exit_ends_the_cell_only(driver):
    await driver.run("kept=here")
    cell = await driver.run("f() { source /dev/stdin <<< 'exit 3'; }; f; echo NOT REACHED")
    assert "exit code 3" in cell.error.value
    assert cell.text() == ""
    cell = await driver.run("(exit 5); echo $? $kept; exit 0; echo NOT REACHED")
    assert (cell.text(), cell.outcome.status) == ("5 here\n", "ok")


async def test_set_e_ends_the_cell_and_what_was_defined_stays(driver):
    await driver.run(
        "declare -A map=([k]='a b'); declare -i number=4; export SHOWN=1; readonly fixed=7\n"
        "say() { echo \"said $1\"; }; alias hey='echo hey'; IFS=,; set -- p q; cd /tmp"
    )
    cell = await driver.run("set -euo pipefail\necho before\nfalse\necho NOT REACHED")
    assert cell.text() == "before\n"
    assert "exit code 1" in cell.error.value
    assert "line 3" in "\n".join(cell.error.traceback)
    cell = await driver.run(
        'set +eu +o pipefail; number+=1; say "${map[k]} $number $fixed $2 $IFS"; hey; pwd; env |'
        " grep ^SHOWN="
    )
    assert cell.text() == "said a b 5 7 q ,\nhey\n/tmp\nSHOWN=1\n"
    await driver.run("unset IFS; set --; cd ~-")


async def test_a_trap_of_exit_runs_when_a_cell_exits(driver):
    await driver.run("trap 'code=$?; echo cleaned up; exit $code' EXIT")
    cell = await driver.run("exit 4")
    assert cell.text() == "cleaned up\n"
    assert "exit code 4" in cell.error.value
    assert (await driver.run("echo still here")).text() == "still here\n"


async def test_a_program_that_takes_the_shells_place_is_told_as_a_loss(driver):
    cell = await driver.run("exec sleep 0.1")
    assert "lost" in cell.error.value
    assert (await driver.run("echo fresh")).text() == "fresh\n"


# --- what a cell may set ---


@pytest.mark.parametrize(
    ("code", "restore"),
    [
        ("IFS=0123456789", "unset IFS"),
        ("set -eux", "set +eux"),
        ("set -f -C -a -k -T -E", "set +f +C +a +k +T +E"),
        ("set -o posix", "set +o posix"),
        (
            "shopt -s nullglob failglob nocasematch nocaseglob extdebug",
            "shopt -u failglob extdebug",
        ),
        ("LC_ALL=C; LANG=xx_YY.UTF-8", "unset LC_ALL; LANG=C.UTF-8"),
        ("OLDPATH=$PATH; PATH=", "PATH=$OLDPATH"),
        ("TMOUT=1", "unset TMOUT"),
        ("exec >/dev/null 2>&1 </dev/null", ":"),
        ("exec >&- 2>&-", ":"),
        ("trap 'false' DEBUG ERR RETURN", "trap - DEBUG ERR RETURN"),
        ("unset SANDBOX_ADAPTER PROMPT_COMMAND; PROMPT_COMMAND=exit", ":"),
        ("builtins='printf eval trap set local read echo exit'", ":"),
        (
            "printf() { :; }; eval() { :; }; trap() { :; }; set() { :; }",
            "unset -f printf eval trap set",
        ),
        ("alias printf=false local=false trap=false exec=false", "unalias -a"),
        ("break", ":"),
        ("for i in 1; do continue 9; done", ":"),
        ("break 99", ":"),
        ("return 0", ":"),
        ("ulimit -n 64", ":"),
        ("exec 7>/dev/null {fd}>/dev/null", "exec 7>&- {fd}>&-"),
        ("umask 777", "umask 022"),
        ("wait; jobs; hash -r; history -c; fc -l", ":"),
    ],
)
async def test_cells_go_on_whatever_one_has_set(driver, code, restore):
    await driver.run(code)
    cell = await driver.run("echo one ünï; (exit 3)")
    assert cell.text() == "one ünï\n"
    assert "exit code 3" in cell.error.value
    await driver.run(restore)
    assert (await driver.run("echo two")).text() == "two\n"


async def test_what_set_x_shows_is_the_cells_own(driver):
    await driver.run("set -x")
    cell = await driver.run("echo traced")
    await driver.run("set +x")
    assert [line.lstrip("+") for line in cell.text("stderr").splitlines()] == [" echo traced"]


async def test_a_trap_of_debug_sees_the_cells_own_commands(driver):
    cell = await driver.run("trap 'echo \"> $BASH_COMMAND\"' DEBUG\necho one")
    assert cell.text() == "> echo one\none\n"
    cell = await driver.run("echo two\ntrap - DEBUG")
    assert cell.text() == "> echo two\ntwo\n> trap - DEBUG\n"


async def test_programs_get_none_of_the_shells_descriptors(driver):
    cell = await driver.run("ls /proc/self/fd")
    assert cell.text().split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


async def test_a_large_cell_runs(driver):
    cell = await driver.run(f"text='{'é' * 100_000}'\necho ${{#text}}")
    assert cell.text() == "100000\n"


async def test_a_nul_in_a_cell_is_left_out(driver):
    assert (await driver.run("echo a\0b")).text() == "ab\n"


# --- input ---


async def test_read_asks_and_splits_as_it_always_does(driver):
    cell = await answered(driver, 'read -r -p "Who? " first rest; echo "$first|$rest"', "Ada L. B")
    [asked] = cell.of(events.InputRequested)
    assert (asked.prompt, asked.is_password) == ("Who? ", False)
    assert cell.text() == "Ada|L. B\n"


async def test_read_reads_secrets_arrays_and_in_functions_and_subshells(driver):
    cell = await answered(driver, "read -s word; echo ${#word}", "sécret")
    assert cell.of(events.InputRequested)[0].is_password
    assert cell.text() == "6\n"
    code = "f() { local x; IFS=, read -a x; echo ${x[1]}; }; f; y=$(read z; echo got $z); echo $y"
    assert (await answered(driver, code, "a,b", "it")).text() == "b\ngot it\n"


async def test_read_from_elsewhere_asks_nobody(driver):
    cell = await driver.run(
        "printf 'a\\nb\\n' | while read -r line; do echo \"<$line>\"; done\n"
        "read -r x <<< here; echo $x\nread -r y < /dev/null || echo nothing\n"
        "exec {fd}<<< other; read -r z <&$fd; echo $z; cat; python3 -c 'input()' 2>&1 | tail -n 1",
        allow_stdin=True,
    )
    assert cell.of(events.InputRequested) == []
    assert cell.text().splitlines()[:5] == ["<a>", "<b>", "here", "nothing", "other"]


async def test_a_question_that_nobody_can_answer_fails_with_a_reason(driver):
    cell = await driver.run("read x || echo failed")
    assert cell.text() == "failed\n"
    assert "cannot answer questions" in cell.text("stderr")


# --- interrupts and processes left behind ---


@pytest.mark.parametrize(
    "code",
    [
        "echo on; f() { local x=1; while :; do sleep 0.1; done; }; f",
        "echo on; ( while :; do :; done )",
        "echo on; sleep 1000 | cat",
        "echo on; x=$(sleep 1000)",
        "echo on; sleep 1000 & wait",
        "read -p 'waiting' x",
        "echo on; source /dev/stdin <<< 'sleep 1000; echo NOT REACHED'",
        "echo on; set -e; sleep 1000",
        "trap 'echo late; exit 3' TERM; echo on; sleep 1000",
    ],
)
async def test_an_interrupt_ends_the_whole_cell_and_nothing_else(driver, code):
    await driver.run("kept=here")
    cell = await interrupted(driver, f"{code}\necho NOT REACHED")
    assert cell.outcome.status == "error"
    assert "NOT REACHED" not in cell.text()
    assert cell.text("stderr") == ""
    assert (await driver.run("set +e; trap - TERM; echo $kept")).text() == "here\n"


async def test_a_cells_own_trap_of_interrupts_is_obeyed(driver):
    cell = await interrupted(driver, "trap 'echo caught; exit 5' INT; echo on; sleep 1000")
    assert cell.text() == "on\ncaught\n"
    assert "exit code 5" in cell.error.value
    await driver.run("trap - INT")


async def test_a_job_in_the_background_does_not_hold_the_cell(driver):
    driver.late.clear()  # the shell is that of the tests before
    async with asyncio.timeout(DEADLINE_S):
        cell = await driver.run("mkfifo gate; (read -r x < gate; echo late $x) &\necho started")
        assert cell.text() == "started\n"
        await driver.run("echo now > gate; rm gate")
        await driver.heard_lines("late now")
    late = [event for event in driver.late if isinstance(event, events.TextWritten)]
    assert {event.cell for event in late} == {cell.events[0].cell}


# --- rich output ---


async def test_display_shows_files_by_their_ending_and_text_by_its_type(driver):
    cell = await driver.run(
        f"{MAKE_PICTURE}\necho before\ndisplay dot.png\necho '<b>bold</b>' |"
        " display --mime text/html\necho after\nrm dot.png"
    )
    bundles = shown(cell)
    assert "image/png" in bundles[0]
    assert "<b>bold</b>" in str(bundles[1]["text/html"])
    assert cell.text() == "before\nafter\n"


async def test_a_display_can_be_updated(driver):
    cell = await driver.run(
        "echo one | display --mime text/plain --id d\n"
        "echo two | display --mime text/plain --update d"
    )
    [update] = cell.of(events.DisplayUpdated)
    assert update.bundle["text/plain"] == "two\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("display no_such.png", "No such file"),
        ("display notes.xyz", "--mime TYPE"),
        ("display --colour x", "no option --colour"),
    ],
)
async def test_what_cannot_be_displayed_says_why(driver, code, said):
    cell = await driver.run(code)
    assert said in cell.text("stderr")
    assert cell.outcome.status == "error"
    assert shown(cell) == []


# --- what a front end asks ---


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("echo $my_var", "echo $my_variable"),
        ("echo ${my_var", "echo ${my_variable"),
        ("my_fun", "my_function"),
        ("ls | ech", "ls | echo"),
        ("cat 'x'; whil", "cat 'x'; while"),
        ("cat with", "cat with\\ space.txt"),
        ("cat ./wi", "cat ./with\\ space.txt"),
        ("cd fold", "cd folder/"),
        ("echo é; echo é", "echo é; echo été.txt"),
    ],
)
async def test_names_and_files_are_completed(driver, code, whole):
    await driver.run(
        "my_variable=1; my_function() { :; }; touch 'with space.txt' été.txt; mkdir -p folder"
    )
    answer = await driver.session.complete(code, len(code))
    before = code[: answer["cursor_start"]]
    assert whole in [before + match for match in answer["matches"]]


@pytest.mark.parametrize(
    ("code", "said"),
    [("cd /", "Change the shell working"), ("echo $asked", "asked="), ("my_asked", "my_asked ()")],
)
async def test_what_stands_at_the_cursor_is_explained(driver, code, said):
    await driver.run("asked=1; my_asked() { :; }")
    answer = await driver.session.inspect(code, len(code) - 1 if "$" in code else 1)
    assert answer["found"]
    assert said in answer["data"]["text/plain"]
    assert not (await driver.session.inspect("no_such_name_here", 3))["found"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("echo 1", "complete"),
        ("cat <<END\ntext\nEND", "complete"),
        ("cat <<END\ntext", "incomplete"),
        ("for i in 1 2; do", "incomplete"),
        ("echo 'a", "incomplete"),
        ("echo \\", "incomplete"),
        ("true &&", "incomplete"),
        ("fi", "invalid"),
    ],
)
async def test_a_console_is_told_whether_a_cell_is_whole(driver, code, status):
    assert (await driver.session.is_complete(code))["status"] == status


async def test_expressions_are_words_expanded(driver):
    asked = {"sum": "$((6 * 7))", "missing": "${NO_SUCH_NAME:?}"}
    found = (await driver.run("true", user_expressions=asked)).outcome.user_expressions
    assert found["sum"]["data"]["text/plain"] == "42"
    assert found["missing"]["status"] == "error"
