"""What was typed, told apart."""

from __future__ import annotations

import pytest

from sandbox_kernel.ai.chat.lines import (
    Code,
    Command,
    Nothing,
    Prompt,
    Shell,
    is_unfinished,
    read,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", Nothing()),
        ("  \n ", Nothing()),
        ("How many primes are there?", Prompt("How many primes are there?")),
        ("  print me a list", Prompt("print me a list")),
        ("/help", Command("help", "")),
        ("/RUN  print(1)", Command("run", "print(1)")),
        ("/run for n in x:\n  print(n)", Command("run", "for n in x:\n  print(n)")),
        ("/etc/passwd: what is it?", Prompt("/etc/passwd: what is it?")),
        ("/ is a slash", Prompt("/ is a slash")),
        ("!ls -l", Shell("ls -l")),
        ("!", Nothing()),
        (">>> 6 * 7", Code("6 * 7")),
        (">>>6 * 7", Code("6 * 7")),
        (">>>", Nothing()),
        (">>> for n in x:\n...     print(n)\n... ", Code("for n in x:\n    print(n)\n")),
        (">>> for n in x:\n    print(n)", Code("for n in x:\n    print(n)")),
        ("```\nprint(1)\n```", Code("print(1)")),
        ("```bash\nls\necho\n```", Code("ls\necho", "bash")),
        ("~~~ r\nx <- 1\n~~~", Code("x <- 1", "r")),
        ("```bash\nls", Code("ls", "bash")),
        ("````\n```\n````", Code("```")),
        ("```python\n1/0\n```\nWhy?", Prompt("```python\n1/0\n```\nWhy?")),
        ("Why?\n```python\n1/0\n```", Prompt("Why?\n```python\n1/0\n```")),
        ("```\n```", Nothing()),
    ],
)
def test_a_line_is(text, line):
    assert read(text, has_model=True) == line


def test_without_a_model_words_are_code():
    assert read("x = 1", has_model=False) == Code("x = 1", is_guessed=True)
    assert read(">>> x = 1", has_model=False) == Code("x = 1")
    assert read("!ls", has_model=False) == Shell("ls")
    assert read("/quit", has_model=False) == Command("quit", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">>> for n in x:", True),
        (">>> for n in x:\n...     print(n)", True),
        (">>> for n in x:\n...     print(n)\n... ", False),
        (">>> (1,", True),
        (">>> 1", False),
        (">>> %timeit x", False),
        (">>> " + "(" * 5_000, False),
        ("for n in x:", False),
        ("```python", True),
        ("```python\n1", True),
        ("```python\n1\n```", False),
        ("words", False),
        ("", False),
    ],
)
def test_more_lines_belong_to_it(text, expected):
    assert is_unfinished(text, language="python", has_model=True) is expected


def test_without_a_model_an_open_statement_goes_on_too():
    assert is_unfinished("for n in x:", language="python", has_model=False)
    assert not is_unfinished("for n in x:", language="bash", has_model=False)
    assert not is_unfinished("/run for n in x:", language="python", has_model=False)
