"""What a person typed -> what it is. Pure.

/word …          a command, if `word` is letters
>>> code         code, as are the lines that follow it until it is whole
```language      code, up to the closing fence
!command         a command of the shell, inside
anything else    for the model; without one, code
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COMMAND = re.compile(r"/([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*([\w+#.-]*)[ \t]*")
_PROMPTS = (">>> ", "... ")


class Command(NamedTuple):
    name: str
    rest: str


class Code(NamedTuple):
    """`language`: "" for the one that is chosen. `is_guessed`: nothing said that it is code."""

    code: str
    language: str = ""
    is_guessed: bool = False


class Shell(NamedTuple):
    command: str


class Prompt(NamedTuple):
    text: str


class Nothing(NamedTuple):
    pass


Line = Command | Code | Shell | Prompt | Nothing


def read(text: str, *, has_model: bool) -> Line:
    """What `text`, one or several lines, is."""
    stripped = text.strip()
    if not stripped:
        return Nothing()
    if command := _COMMAND.fullmatch(stripped):
        return Command(command[1].lower(), command[2] or "")
    if stripped.startswith("!"):
        shell = stripped[1:].strip()
        return Shell(shell) if shell else Nothing()
    if stripped.startswith(">>>"):
        code = _without_prompts(stripped)
        return Code(code) if code.strip() else Nothing()
    if (fenced := _fenced(stripped)) is not None:
        return fenced if fenced.code.strip() else Nothing()
    return Prompt(stripped) if has_model else Code(text.strip("\n"), is_guessed=True)


def is_unfinished(text: str, *, language: str, has_model: bool) -> bool:
    """Whether more lines belong to it: an open fence, or a statement that is not whole."""
    stripped = text.lstrip()
    if _FENCE.fullmatch(stripped.split("\n", 1)[0].rstrip()):
        return _closing(stripped) is None
    is_code = stripped.startswith(">>>") or (not has_model and not stripped.startswith(("/", "!")))
    if not is_code or language != "python":
        return False
    return _is_half_a_statement(_without_prompts(text) if stripped.startswith(">>>") else text)


def _without_prompts(text: str) -> str:
    """Code as it would be without Python's own prompts, as in what was copied with them."""
    lines = [_without_prompt(line) for line in text.split("\n")]
    return "\n".join(lines)


def _without_prompt(line: str) -> str:
    if line.rstrip() in (">>>", "..."):
        return ""
    return line[4:] if line.startswith(_PROMPTS) else line.removeprefix(">>>")


def _closing(text: str) -> int | None:
    """The number of the line that closes the fence of the first."""
    first, *others = text.split("\n")
    opening = _FENCE.fullmatch(first.rstrip())
    assert opening is not None
    for number, line in enumerate(others, 1):
        if line.strip().startswith(opening[1]) and not line.strip().strip(opening[1][0]):
            return number
    return None


def _fenced(text: str) -> Code | None:
    first, *others = text.split("\n")
    opening = _FENCE.fullmatch(first.rstrip())
    if opening is None:
        return None
    end = _closing(text)
    if end is not None and "\n".join(others[end:]).strip():
        return None  # words follow: a prompt that quotes code
    return Code("\n".join(others[: end - 1 if end is not None else None]), opening[2])


def _is_half_a_statement(code: str) -> bool:
    import codeop

    try:
        return codeop.compile_command(code, symbol="single") is None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return False  # whoever runs it says what is wrong
