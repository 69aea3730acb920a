"""`run`: one program in a fresh sandbox, seen from a shell."""

import json

import pytest

from tests.support.waiting import DEADLINE_S


def test_what_it_prints_is_what_we_print(command):
    done = command("run", "-c", "import sys; print('to out'); print('to err', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "to out\n", "to err\n")


def test_the_value_of_the_last_expression_is_shown(command):
    assert command("run", "-c", "6 * 7").stdout == "42\n"


def test_a_program_may_come_from_a_file_or_from_stdin(command, tmp_path):
    (tmp_path / "p.py").write_text("print('from a file')")
    assert command("run", "p.py").stdout == "from a file\n"
    assert command("run", "-", input="print('from stdin')").stdout == "from stdin\n"


def test_a_program_that_fails_is_code_1_with_its_traceback(command):
    done = command("run", "-c", "1/0")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b[" not in done.stderr


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("", 0), ("3", 1)])
def test_an_exit_of_the_programs_own_is_its_verdict(command, code, expected):
    assert command("run", "-c", f"import sys; sys.exit({code})").returncode == expected


def test_a_program_out_of_time_is_code_124_and_says_its_limit(command):
    done = command("run", "-c", "while True: pass", "--timeout", "1s")
    assert done.returncode == 124
    assert "1 s (timeout)" in done.stderr


def test_files_go_in_and_generated_ones_come_out(command, tmp_path):
    (tmp_path / "in.json").write_text("[3, 1, 2]")
    program = "import json; json.dump(sorted(json.load(open('in.json'))), open('out.json', 'w'))"
    done = command("run", "-c", program, "--file", "in.json", "--output", "kept")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "kept" / "out.json").read_text()) == [1, 2, 3]
    assert not (tmp_path / "kept" / "in.json").exists()
    assert "out.json" in done.stderr


def test_a_kept_file_never_replaces_one_of_ours(command, tmp_path):
    (tmp_path / "out.txt").write_text("mine")
    done = command("run", "-c", "open('out.txt', 'w').write('theirs')", "--output", ".")
    assert (tmp_path / "out.txt").read_text() == "mine"
    assert "not overwritten" in done.stderr


def test_the_json_result_has_everything(command):
    program = "print('hello'); open('a.txt', 'w').write('abc'); 1/0"
    done = command("run", "--json", "-c", program)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["ok"], result["exit_code"], result["stdout"]) == (False, 1, "hello\n")
    assert result["error"]["name"] == "ZeroDivisionError"
    assert result["files"] == [{"name": "a.txt", "size": 3}]
    assert result["usage"]["wall_s"] > 0


def test_the_json_result_names_what_was_displayed(command):
    program = "from IPython.display import display; display({'text/plain': 'x'}, raw=True)"
    result = json.loads(command("run", "--json", "-c", program).stdout)
    assert result["ok"] is True
    assert ["text/plain"] in result["displays"]


def test_output_that_no_one_reads_ends_it_quietly(command):
    """The twin of a pipe into `head`: our stdout is closed while it prints."""
    import subprocess
    import sys

    words = [sys.executable, "-P", "-m", "sandbox_kernel.cli", "run", "-c"]
    process = subprocess.Popen(
        [*words, "while True: print('x' * 1000)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    try:
        assert process.wait(DEADLINE_S) == 1
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_ctrl_c_is_code_130_without_a_traceback():
    import signal
    import subprocess
    import sys

    program = "print('ready', flush=True)\nwhile True: pass"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sandbox_kernel.cli", "run", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.wait()
