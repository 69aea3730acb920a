"""The command as a whole: help, errors, exit codes."""

import re
import subprocess
import sys

import pytest

COMMANDS = [
    "doctor",
    "demo",
    "install",
    "list",
    "remove",
    "setup",
    "run",
    "chat",
    "gc",
    "mcp",
    "bench",
]


def test_help_names_every_command(command):
    done = command("--help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if re.match("    [a-z]", line)]
    assert listed == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(command, name):
    done = command(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: sandbox-kernel {name}")


def test_help_imports_nothing_heavy():
    """An import of the Jupyter client or rich alone would double the time."""
    probe = (
        "import sys; from sandbox_kernel.cli import build_parser; build_parser().format_help();"
        "print([m for m in ('rich', 'zmq', 'jupyter_core', 'jupyter_client', 'asyncio',"
        " 'subprocess', 'sandbox_kernel.session', 'nbclient') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("fly",), ("run",), ("run", "-c", "1", "x.py"), ("remove",), ("list", "--loud")],
)
def test_wrong_usage_is_code_2_with_the_usage(command, words):
    done = command(*words)
    assert done.returncode == 2
    assert "usage: sandbox-kernel" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-c", "1", "--memory", "2x"), "not a size"),
        (("run", "-c", "1", "--network", "all"), "no backend"),
        (("install", "--cpus", "many"), "not a number"),
        (("install", "--name", "../evil"), "cannot be called"),
        (("remove", "nobody"), "There is no kernel 'nobody'"),
        (("demo", "missing.ipynb"), "There is no notebook missing.ipynb"),
        (("bench", "--rounds", "2"), "at least 5"),
        (("bench", "--only", "luck"), "There is no metric 'luck'"),
    ],
)
def test_a_bad_value_is_code_2_and_one_clear_line(command, words, said):
    done = command(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("sandbox-kernel: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_misspelt_variable_stops_every_command_that_reads_settings(command):
    done = command("install", SANDBOX_KERNEL_MEMRY="2g")
    assert done.returncode == 2
    assert "did you mean memory?" in done.stderr


def test_a_missing_program_is_named(command):
    done = command("run", "nothing.py")
    assert done.returncode == 1
    assert done.stderr == "sandbox-kernel: nothing.py: No such file or directory.\n"


def test_gc_says_when_there_is_nothing_to_do(command):
    done = command("gc")
    assert done.returncode == 0, done.stderr
    assert done.stdout
