"""`%%<language>` cells: which runner a cell is for. Pure; run on the host.

The first line that is not blank names a language and nothing else. It never reaches the
guest; the rest runs in that language's own runner, in the same sandbox and workspace.

Rule 1: positions stay: the line becomes a blank one of the same length, so that lines of
        errors and cursors of completions are the notebook's own.
Rule 2: in a Python notebook every other `%%word` is IPython's. Elsewhere nobody else would
        take it, so there it is an error that names the languages.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from sandbox_kernel import languages
from sandbox_kernel.kernel.magics import UsageError

_FIRST_LINE = re.compile(r"\s*^[ \t]*%%(?P<word>[A-Za-z][\w+.-]*)[ \t]*(?P<rest>[^\n]*)", re.M)


class Routed(NamedTuple):
    """Where a cell goes.

    Args:
        runner: the language whose runner has it, "" for the notebook's own.
        code: what to run there, as long as the cell and with the same lines.
        start: where the line that names a language ends; 0 where none does.
    """

    runner: str
    code: str
    start: int = 0

    @property
    def is_only_a_name(self) -> bool:
        """Whether a language is named, and nothing follows yet."""
        return self.start > 0 and not self.code[self.start :].strip()


def route(code: str, own: str) -> Routed:
    """Where `code` goes in a notebook in the language called `own`.

    Raises:
        UsageError: `%%word` names no language, and nobody else here would take it.
    """
    first = _FIRST_LINE.match(code) if "%%" in code else None
    if first is None:
        return Routed("", code)
    word, rest = first["word"], first["rest"].strip()
    name = _resolve(word)
    if name is None or rest:
        if own == "python":  # IPython's
            return Routed("", code)
        raise UsageError(_problem(word, name))
    start = first.start("word") - 2
    end = first.end()
    blank = _blank(name, code[end:], end - start)
    return Routed("" if name == own else name, code[:start] + blank + code[end:], end)


@lru_cache(maxsize=256)
def _resolve(word: str) -> str | None:
    """As `languages.resolve`, which looks through what is installed for a word unknown."""
    return languages.resolve(word)


def _blank(name: str, rest: str, length: int) -> str:
    """A line without meaning. IPython drops leading blank lines and counts anew, but a
    comment must not come before a cell magic of its own."""
    is_comment = name == "python" and not rest.lstrip().startswith("%%")
    return ("#" if is_comment else " ").ljust(length)


def _problem(word: str, name: str | None) -> str:
    if name is not None:
        return f"%%{word} stands alone on its line. Put the code of the cell below it."
    known = ", ".join(f"%%{language}" for language in languages.names())
    return f"There is no %%{word} in this notebook; there are {known}."
