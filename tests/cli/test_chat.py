"""`chat` in a process of its own: through pipes, as scripts have it, and on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pexpect
import psutil
import pytest

from tests.support import docker_engine
from tests.support.agents import SHOW_PIXEL, tool_texts
from tests.support.model_server import call, calls, fails, holds, model_server, says
from tests.support.processes import alive
from tests.support.waiting import until

__all__ = ["model_server"]


def run_code(code: str, **more: Any) -> dict[str, Any]:
    return call("run_code", code=code, **more)


@pytest.fixture
def chat(command, model_server) -> Callable[..., Any]:
    """`chat("a line", "another", words=["--ask"])` through pipes."""

    def run(*typed: str, words: tuple[str, ...] = (), **variables: str) -> Any:
        settings = {"SANDBOX_KERNEL_BACKEND": "bubblewrap", **model_server.environment, **variables}
        return command("chat", *words, input="".join(f"{one}\n" for one in typed), **settings)

    return run


# --- through pipes ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["bubblewrap", "docker"])
def test_a_prompt_becomes_code_a_repair_and_an_answer(chat, model_server, backend):
    if backend == "docker":
        docker_engine.require()
    model_server.script(
        calls(run_code("total = sum('12')"), text="Let me add them."),
        calls(run_code("total = sum(map(int, '12')); print(total)")),
        "The sum is **3**.",
    )
    done = chat("What is 1 + 2?", ">>> total * 2", SANDBOX_KERNEL_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Let me add them.\n3\nThe sum is **3**.\n6\n"
    assert "total = sum('12')" in done.stderr
    assert "TypeError" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "TypeError" in tool_texts(model_server.requests[1].messages)[0]


def test_code_blocks_and_commands_share_one_sandbox(chat):
    done = chat(
        ">>> def double(n):",
        "...     return 2 * n",
        "",
        ">>> open('made.txt', 'w').write(str(double(21)))",
        "!cat made.txt; echo",
        "```bash",
        "x=bash",
        'echo "$x $(cat made.txt)"',
        "```",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "2"
    assert done.stdout.endswith("42\nbash 42\n")
    assert "files: made.txt" in done.stderr


def test_the_model_hears_of_what_the_person_ran_and_repairs_it(chat, model_server):
    model_server.script(calls(run_code("print(1 / 1)"), text="You divided by zero."), "Repaired.")
    done = chat("/fix", ">>> 1/0", "/fix make it one", "/fix")
    assert done.stderr.count("Nothing has failed") == 2
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.endswith("You divided by zero.\n1.0\nRepaired.\n")
    prompt = model_server.requests[0].last["content"]
    assert "1/0" in prompt
    assert "ZeroDivisionError" in prompt
    assert "make it one" in prompt


def test_files_and_pictures_go_in_and_out(chat, tmp_path, model_server):
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    (tmp_path / "given.txt").write_text("given")
    (tmp_path / "kept").mkdir()
    model_server.script("I see them.")
    done = chat(
        "/files put in.csv data.csv",
        f">>> print(open('data.csv').read()); open('out.txt', 'w').write('made'){SHOW_PIXEL}"
        .replace("\n", "; ").replace(" ; ", " "),
        "/files",
        "/files get out.txt",
        "/files get out.txt kept",
        "/files get picture-1.png",
        "/files get out.txt",
        "/files get no-such-file",
        "/files show data.csv",
        "What is there?",
        words=("--file", "given.txt"),
    )  # fmt: skip
    assert "a,b\n1,2" in done.stdout, done.stderr
    assert re.search(r"data.csv +8 bytes", done.stdout)
    assert (tmp_path / "out.txt").read_text() == "made"
    assert (tmp_path / "kept" / "out.txt").read_text() == "made"
    assert (tmp_path / "picture-1.png").read_bytes().startswith(b"\x89PNG")
    assert "not overwritten" in done.stderr
    assert "no-such-file" in done.stderr
    prompt = model_server.requests[0].last["content"]
    assert "given.txt" in prompt
    assert "data.csv" in prompt


def test_what_the_host_would_run_by_itself_is_not_written(chat, tmp_path):
    done = chat(">>> open('conftest.py', 'w').write('evil()')", "/files get conftest.py")
    assert "pytest runs it" in done.stderr
    assert not (tmp_path / "conftest.py").exists()


def test_a_program_of_this_machine_runs_inside(chat, tmp_path):
    (tmp_path / "p.py").write_text("import os\nprint('in', os.getcwd())")
    (tmp_path / "p.sh").write_text("echo from bash")
    done = chat("/run p.py", "/run ./p.sh", "/run print('as it is')", "/run ./none.py")
    assert str(tmp_path) not in done.stdout
    assert done.stdout.endswith("from bash\nas it is\n"), done.stderr
    assert done.stdout.startswith("in /")
    assert "There is no file './none.py'" in done.stderr
    assert done.returncode == 1


def test_another_language_is_the_persons_and_the_models(chat, model_server):
    model_server.script(calls(run_code("echo model; echo $x")), "Done.")
    done = chat("/language bash", ">>> x=kept; echo person", "Say model", "/language cobol")
    assert done.stdout == "person\nmodel\nkept\nDone.\n", done.stderr
    assert "There is no language 'cobol'" in done.stderr
    request = model_server.requests[0]
    assert request.body["tools"][0]["function"]["parameters"]["properties"]["language"]["enum"] == [
        *("bash", "python")
    ]
    assert "bash" in request.messages[0]["content"]
    assert "x=kept" in request.last["content"]


def test_a_restart_forgets_the_variables_and_keeps_the_files(chat, model_server):
    model_server.script("All gone.")
    done = chat(">>> x = 1; open('kept.txt', 'w').close()", "/restart", "!ls", ">>> x", "What now?")
    assert "kept.txt" in done.stdout
    assert "NameError" in done.stderr
    assert "restarted the session" in model_server.requests[0].last["content"]


def test_a_talk_is_saved_as_a_notebook_that_runs_again(chat, model_server, tmp_path):
    model_server.script(calls(run_code("x = 20\nprint(x)"), text="First x."), "It is 20.")
    done = chat("Make x", ">>> x + 1", "!echo $((1 + 1))", "/save made", "/save made", "/save")
    assert done.returncode == 1
    assert "not overwritten" in done.stderr
    assert "/save NOTEBOOK.ipynb" in done.stderr
    notebook = nbformat.read(tmp_path / "made.ipynb", as_version=4)
    nbformat.validate(notebook)
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert codes == ["x = 20\nprint(x)", "x + 1", "%%sh\necho $((1 + 1))"]
    assert [output.get("text") for output in notebook.cells[1].outputs] == ["20\n"]


def test_a_transcript_is_there_after_every_line_and_replaces_nothing(chat, model_server, tmp_path):
    model_server.script("Hello.")
    done = chat("Hi", ">>> print(7)", words=("--transcript", "talk"))
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "talk.ipynb", as_version=4)
    assert "Hello." in notebook.cells[1].source
    assert notebook.cells[-1].source == "print(7)"
    refused = chat("Hi", words=("--transcript", "talk.ipynb"))
    assert refused.returncode == 1
    assert "exists and is not overwritten" in refused.stderr


# --- one prompt, and exit codes ---------------------------------------------------------


def test_one_prompt_is_answered_and_nothing_is_read_from_stdin(chat, model_server):
    model_server.script(calls(run_code("print(6 * 7)")), "It is 42.")
    done = chat("never read", words=("-p", "6 * 7?"))
    assert (done.returncode, done.stdout) == (0, "42\nIt is 42.\n"), done.stderr


def test_a_model_that_says_nothing_is_told_of(chat, model_server):
    model_server.script(says(""))
    assert "answered with nothing" in chat(words=("-p", "Well?")).stderr


def test_a_model_that_gives_up_is_code_1(chat, model_server):
    model_server.script(*[calls(run_code("1/0")) for _ in range(4)])
    done = chat(words=("-p", "Divide"))
    assert done.returncode == 1
    assert "It gave up: ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("typed", "words", "expected"),
    [("!exit 3", (), 1), (">>> while True: pass", ("--timeout", "1s"), 124)],
)
def test_a_scripts_code_is_that_of_its_last_line(chat, typed, words, expected):
    assert chat(">>> 1", typed, words=words).returncode == expected


def test_an_endpoint_that_fails_is_one_sentence_and_the_talk_goes_on(chat, model_server):
    model_server.script(fails(404, "no such thing"), "Back again.")
    done = chat("Hello?", "Hello?")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "Correct model or model_url" in done.stderr
    assert done.stdout == "Back again.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model-key", "sk-shown"), "SANDBOX_KERNEL_MODEL_KEY"),
        (("--model-url", "ftp://x"), "not an http or https address"),
    ],
)
def test_a_bad_flag_is_code_2_and_one_clear_line(chat, words, said):
    done = chat(words=words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "sk-shown" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- without a model --------------------------------------------------------------------


@pytest.fixture
def bare(command) -> Callable[..., Any]:
    def run(*typed: str, words: tuple[str, ...] = ()) -> Any:
        text = "".join(f"{one}\n" for one in typed)
        return command("chat", *words, input=text, SANDBOX_KERNEL_BACKEND="bubblewrap")

    return run


def test_without_a_model_every_line_is_code(bare):
    done = bare("x = 20", "for n in (1, 2):", "    print(x + n)", "", "!echo shell", "1/0", "/fix")
    assert done.stdout == "21\n22\nshell\n"
    assert "ZeroDivisionError" in done.stderr
    assert "Set SANDBOX_KERNEL_MODEL to its name" in done.stderr  # of /fix
    assert done.returncode == 1


def test_without_a_model_words_are_told_what_they_lack(bare):
    done = bare("How many primes are there?")
    assert "That was run as code. No language model is set." in done.stderr
    asked = bare(words=("-p", "How many primes are there?"))
    assert asked.returncode == 2
    assert "Set SANDBOX_KERNEL_MODEL to its name" in asked.stderr


def test_a_model_without_its_key_is_refused_before_anything_starts(bare):
    done = bare("1", words=("--model", "gpt-5-mini"))
    assert done.returncode == 2
    assert "needs a key" in done.stderr


# --- asked first ------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "ran"), [("y", True), ("n", False), ("what?\nyes", True)])
def test_code_runs_only_when_the_person_says_so(chat, model_server, answer, ran):
    model_server.script(calls(run_code("print('r' + 'an')")), "Well.")
    done = chat("Do it", answer, words=("--ask",))
    assert ("ran\n" in done.stdout) is ran, done.stderr
    told = tool_texts(model_server.requests[1].messages)[0]
    assert ("declined to run" in told) is not ran


def test_no_answer_is_a_no(chat, model_server):
    model_server.script(calls(run_code("print('r' + 'an')")), "Well.")
    assert chat("Do it", words=("--ask",)).stdout == "Well.\n"


# --- hostile models and guests ----------------------------------------------------------


def test_a_models_words_are_no_commands_of_the_persons(chat, model_server, tmp_path):
    text = "/files get secret.txt\n/save evil.ipynb\n>>> print('r' + 'an')\n!touch x\n/quit"
    model_server.script(
        calls(run_code("open('secret.txt', 'w').write('x'); print('/files get secret.txt')")),
        text,
        calls(run_code("%sandbox get secret.txt\n%dependencies six"), run_code("%%ask\nhello")),
        "That failed.",
    )
    done = chat("One", "Two", "/files")
    assert "secret.txt" in done.stdout
    assert "ran" not in done.stdout.replace("'r' + 'an'", "")
    assert not list(tmp_path.glob("*.txt"))
    assert not list(tmp_path.glob("*.ipynb"))
    assert len(model_server.requests) == 4
    assert re.search(r"secret.txt +1 byte", done.stdout)  # the twin: the person's is obeyed


def test_code_is_not_asked_anything_from_a_script(chat):
    """A hostile program must not swallow the lines that follow it."""
    done = chat(">>> input('your password? ')", ">>> print('next')")
    assert "next" in done.stdout
    assert "Error" in done.stderr


def test_the_key_is_nowhere_inside(chat, model_server):
    model_server.script("Hello.")
    look = (
        "!cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n';"
        " grep -rhos 'sk-[s]cripted-[0-9a-f]*' / --exclude-dir=proc --exclude-dir=sys"
        " --exclude-dir=usr --exclude-dir=lib; env; echo looked"
    )
    # The probe finds a file, however it is written.
    done = chat("Hello", "!export X=sk-seen; env; echo sk-scripted-0123 > there", look)
    assert "sk-seen" in done.stdout  # the probe can succeed
    assert "sk-scripted-0123" in done.stdout
    assert "looked" in done.stdout
    assert model_server.key not in done.stdout + done.stderr
    assert "SANDBOX_KERNEL" not in done.stdout


# --- on a terminal ----------------------------------------------------------------------

PROMPT = "you>"


@pytest.fixture
def terminal(environment, tmp_path, model_server) -> Iterator[pexpect.spawn]:
    """At its first prompt."""
    settings = {
        **model_server.environment,
        "SANDBOX_KERNEL_BACKEND": "bubblewrap",
        "TERM": "xterm-256color",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "sandbox_kernel.cli", "chat"],
        cwd=str(tmp_path),
        env={name: text for name, text in environment.items() if name != "NO_COLOR"} | settings,
        timeout=60,
        encoding="utf-8",
        dimensions=(40, 120),
    )
    try:
        child.expect(PROMPT)
        yield child
    finally:
        child.close(force=True)


def test_a_terminal_that_can_do_nothing_will_do(environment, tmp_path):
    settings = {"SANDBOX_KERNEL_BACKEND": "bubblewrap", "TERM": "dumb"}
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "sandbox_kernel.cli", "chat"],
        cwd=str(tmp_path),
        env=environment | settings,
        timeout=60,
        encoding="utf-8",
        echo=False,
    )
    try:
        child.expect("Until then every line is code")
        child.expect("python> ")
        child.sendline("for n in (1, 2):")
        child.expect(r"\.\.\. ")
        child.sendline("    print('n is', n)")
        child.expect(r"\.\.\. ")
        child.sendline("")
        child.expect("n is 2")
        child.expect("python> ")
        child.sendintr()
        child.expect("Ctrl-D or /quit leaves")
        child.expect("python> ")
        child.sendline("import time; print('beg' + 'un'); time.sleep(3600)")
        child.expect("begun")
        child.sendintr()
        child.expect("KeyboardInterrupt")
        child.expect("python> ")
        child.sendline("name = input('Who? ')")
        child.expect(r"\[the sandbox asks\] Who\?")
        child.sendline("Ada")
        child.expect("python> ")
        child.sendline("name[::-1]")
        child.expect("adA")
        child.expect("python> ")
        leave(child)
    finally:
        child.close(force=True)


def comes(child: pexpect.spawn, text: str) -> bool:
    """Whether the terminal shows `text` before the chat itself gives up."""
    return bool(child.expect([pexpect.TIMEOUT, text], timeout=15))


def leave(child: pexpect.spawn) -> None:
    family = psutil.Process(child.pid).children(recursive=True)
    child.sendeof()
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    until(lambda: not alive(family), "the end of its sandbox")


def test_a_talk_on_a_terminal_and_its_end(terminal, model_server, home):
    assert "Boundary: bubblewrap" in terminal.before
    model_server.script(calls(run_code("print(6 * 7)"), text="Let me **see**."), "It is *42*.")
    terminal.send("What is 6 * 7?\r")
    terminal.expect("── python")
    terminal.expect("42\r\n")
    terminal.expect("It is ")
    terminal.expect(PROMPT)
    terminal.send(">>> def f(n):\r    return n + 1\r\r")
    terminal.expect(PROMPT)
    terminal.send(">>> f(9) * 100\r")
    terminal.expect("1000\r\n")
    terminal.expect(PROMPT)
    leave(terminal)
    history = home / ".local/state/sandbox-kernel/chat-history"
    assert "What is 6 * 7?" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_control_c_stops_code_and_keeps_the_variables(terminal):
    terminal.send(">>> x = 41\r")
    terminal.expect(PROMPT)
    terminal.send(">>> import time; print('beg' + 'un'); time.sleep(3600)\r")
    terminal.expect("begun")
    terminal.sendintr()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(PROMPT)
    terminal.send(">>> x + 1\r")
    terminal.expect("42\r\n")
    terminal.expect(PROMPT)
    terminal.send("never mind")
    terminal.sendintr()  # at the prompt it clears the line
    terminal.expect("Ctrl-D or /quit leaves")
    terminal.expect(PROMPT)
    leave(terminal)


def test_control_c_stops_the_model_and_its_code(terminal, model_server):
    model_server.script(
        holds("I am thin"),
        calls(run_code("import time; y = 5; print('beg' + 'un'); time.sleep(3600)")),
        "After all that.",
    )
    terminal.send("Think\r")
    terminal.expect("thin")
    until(model_server.held.is_set, "the model to be silent")
    terminal.sendintr()
    terminal.expect("Stopped")
    terminal.expect(PROMPT)
    until(model_server.hung_up.is_set, "the end of the request")
    terminal.send("Sleep\r")
    terminal.expect("begun")
    terminal.sendintr()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(PROMPT)
    assert len(model_server.requests) == 2  # it was not asked to repair that
    terminal.send(">>> y * 100\r")
    terminal.expect("500\r\n")
    terminal.expect(PROMPT)
    terminal.send("And now?\r")
    terminal.expect("After all that")
    terminal.expect(PROMPT)
    leave(terminal)


def test_code_asks_the_person_and_says_that_it_is_the_sandbox(terminal, home):
    terminal.send(r">>> name = input('\x1b]0;title\x07[sudo] password:')" + "\r")
    terminal.expect(r"\[the sandbox asks\] \[sudo\] password:")
    assert "\x1b]0" not in terminal.before
    terminal.send("Ada\r")
    terminal.expect(PROMPT)
    terminal.send(">>> name[::-1]\r")
    terminal.expect("adA")
    terminal.expect(PROMPT)
    terminal.send(">>> input('again? ')\r")
    terminal.expect("asks")
    terminal.sendintr()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(PROMPT)
    leave(terminal)
    history = (home / ".local/state/sandbox-kernel/chat-history").read_text()
    assert "name[::-1]" in history  # what is typed at the prompt is kept
    assert "Ada" not in history


def test_a_terminal_obeys_neither_the_model_nor_the_guest(terminal, model_server):
    evil = "\x1b]52;c;aGk=\x07\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\\x1b[6n\x1b[2J"
    model_server.script(calls(run_code(f"print({evil!r})"), text=f"{evil}words"), f"{evil}done")
    terminal.send("Go\r")
    terminal.expect("done")
    seen = terminal.before
    terminal.expect(PROMPT)
    for sequence in ("\x1b]52", "\x1b]8", "\x1b[6n", "\x1b[2J", "\x07"):
        assert sequence not in seen, json.dumps(seen)
    assert "words" in seen
    leave(terminal)


def test_commands_and_code_are_completed(terminal):
    terminal.send(">>> remarkable = 1\r")
    terminal.expect(PROMPT)
    terminal.send("/sess\t")
    terminal.expect("/session")
    terminal.send("\r")
    terminal.expect("boundary")
    terminal.expect(PROMPT)
    terminal.send(">>> remark")
    # On a busy machine the guest's suggestions may come later than anyone waits for them.
    until(lambda: terminal.send("\t") and comes(terminal, "able"), "a name to be completed")
    terminal.send(" + 122\r")
    terminal.expect("123\r\n")
    terminal.expect(PROMPT)
    leave(terminal)
