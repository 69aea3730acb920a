"""`%%ask` cells: what their first line says. Pure and light: every kernel imports this.

    %%ask [--run | --show] [--new] [--repairs N] [PROMPT]
    PROMPT

`talk` does what they ask for, and is imported when the first of them is run.

Rule: which model is asked, where, and with whose key is nothing that a cell may say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandbox_kernel.kernel.magics import UsageError

if TYPE_CHECKING:
    from sandbox_kernel import events

MAGIC = "%%ask"
USAGE = f"{MAGIC} [--run|--show] [--new] [--repairs N] [PROMPT]"
MAX_REPAIRS = 3
# What a reader may raise it to: each is another request, and somebody pays for it.
MOST_REPAIRS = 10
# Some 25,000 tokens; a larger prompt is data, which belongs into a file.
MAX_PROMPT_CHARACTERS = 100_000


class Asked(NamedTuple):
    """What one `%%ask` cell asks for.

    Args:
        is_run: False: the code is written and shown, and not run.
        is_new: what was said in earlier cells is forgotten first.
    """

    prompt: str
    is_run: bool = True
    is_new: bool = False
    max_repairs: int = MAX_REPAIRS


class FailedCell(NamedTuple):
    """The reader's cell before a `%%ask` cell, where that failed."""

    code: str
    failure: events.CellFailed


def is_asked(code: str) -> bool:
    """Whether `code`, without `%sandbox` lines, is a `%%ask` cell."""
    if MAGIC not in code:
        return False
    start = code.lstrip()
    after = start[len(MAGIC) : len(MAGIC) + 1]
    return start.startswith(MAGIC) and (not after or after.isspace())


def has_prompt(code: str) -> bool:
    """Whether a `%%ask` cell says more than that."""
    try:
        return bool(read(code).prompt)
    except UsageError:
        return True  # it is for its author to see what is wrong


def read(code: str) -> Asked:
    """What the `%%ask` cell `code` asks for; the prompt may still be empty.

    Raises:
        UsageError: its first line has other options.
    """
    first, _, rest = code.lstrip().partition("\n")
    words = first.removeprefix(MAGIC).strip()
    found: dict[str, bool | int] = {}
    while words.startswith("--"):
        option, _, words = words.partition(" ")
        words = words.lstrip()
        match option:
            case "--run" | "--show" if "is_run" not in found:
                found["is_run"] = option == "--run"
            case "--new":
                found["is_new"] = True
            case "--repairs":
                number, _, words = words.partition(" ")
                found["max_repairs"] = _repairs(number)
                words = words.lstrip()
            case "--":
                break
            case _:
                raise UsageError(f"{MAGIC} takes no {option[:40]} there. Write {USAGE}.")
    prompt = f"{words}\n{rest}".strip()
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise UsageError(
            f"The prompt has {len(prompt):,} characters; {MAX_PROMPT_CHARACTERS:,} are the most. "
            "Put data into a file, and bring it in with %sandbox put."
        )
    return Asked(prompt, **found)  # type: ignore[arg-type]


def require_prompt(asked: Asked) -> Asked:
    """
    Raises:
        UsageError: there is none.
    """
    if not asked.prompt:
        raise UsageError(f"{MAGIC} needs a prompt: write below it what you want. {USAGE}.")
    return asked


def _repairs(number: str) -> int:
    if not (number.isascii() and number.isdigit() and int(number[:9]) <= MOST_REPAIRS):
        raise UsageError(f"--repairs is {number[:20]!r}; write a number from 0 to {MOST_REPAIRS}.")
    return int(number)
