"""`jupyter console` and `jupyter run`: the clients of who lives in a terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.kernels import IS_OURS, KERNEL_NAME

PROMPT = r"In \[\d+\]: "


@pytest.fixture
def console(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """`jupyter console` on a terminal, at its first prompt."""
    arguments = ["-m", "jupyter_console", f"--kernel={KERNEL_NAME}", "--simple-prompt"]
    child = pexpect.spawn(
        sys.executable, arguments, cwd=str(tmp_path), timeout=60, encoding="utf-8", echo=False
    )
    try:
        child.expect(PROMPT)
        yield child
    finally:
        end(child)


def end(child: pexpect.spawn) -> None:
    """Not by `close(force=True)`, which gives up when a process is not dead within 0.1 s."""
    if child.isalive():
        child.kill(signal.SIGKILL)
        child.wait()
    child.close()


def test_the_console_executes_and_shows_results(console: pexpect.spawn):
    console.sendline("6 * 7")
    console.expect(r"Out\[\d+\]: .*42")
    console.expect(PROMPT)
    console.sendline("print('hel' + 'lo')")
    console.expect("hello")
    console.expect(PROMPT)


def test_the_console_shows_errors_and_goes_on(console: pexpect.spawn):
    console.sendline("1/0")
    console.expect("ZeroDivisionError")
    console.expect(PROMPT)
    console.sendline("'still ' + 'here'")
    console.expect("still here")


def test_the_console_answers_input(console: pexpect.spawn):
    console.sendline("name = input('Who? ')")
    console.expect(r"Who\? ")
    console.sendline("Ada")
    console.expect(PROMPT)
    console.sendline("name[::-1]")
    console.expect("adA")


def test_the_console_interrupts_by_control_c(console: pexpect.spawn):
    console.sendline("import time; print('beg' + 'un'); time.sleep(3600)")
    console.expect("begun")
    console.sendintr()
    console.expect("KeyboardInterrupt")
    console.expect(PROMPT)
    console.sendline("'alive' + '!'")
    console.expect("alive!")


@pytest.mark.skipif(not IS_OURS, reason="the banner is the sandbox kernel's")
def test_the_console_shows_the_banner_with_the_boundary(tmp_path: Path):
    arguments = ["-m", "jupyter_console", f"--kernel={KERNEL_NAME}", "--simple-prompt"]
    child = pexpect.spawn(
        sys.executable, arguments, cwd=str(tmp_path), timeout=60, encoding="utf-8"
    )
    try:
        child.expect(PROMPT)
        assert "sandbox" in child.before.lower()
    finally:
        end(child)


def test_the_console_leaves_by_control_d(console: pexpect.spawn):
    console.sendeof()
    console.expect(r"\[y\]/n")
    console.sendline("y")
    console.expect(pexpect.EOF)
    console.wait()
    assert console.exitstatus == 0


def test_jupyter_run_executes_a_script(tmp_path: Path, run_module):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('ran', 6 * 7)\nprint('aside', file=sys.stderr)\n")
    done = run_module("jupyter_client.runapp", f"--kernel={KERNEL_NAME}", str(script))
    assert done.returncode == 0, done.stderr
    assert "ran 42" in done.stdout
    assert "aside" in done.stderr


def test_jupyter_run_reads_standard_input(run_module):
    done = run_module(
        "jupyter_client.runapp", f"--kernel={KERNEL_NAME}", input="print('from', 'a pipe')\n"
    )
    assert done.returncode == 0, done.stderr
    assert "from a pipe" in done.stdout


def test_jupyter_run_fails_when_the_script_does(tmp_path: Path, run_module):
    script = tmp_path / "script.py"
    script.write_text("1/0\n")
    done = run_module("jupyter_client.runapp", f"--kernel={KERNEL_NAME}", str(script))
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout + done.stderr
