"""SQL as text: tokens, words at a cursor, whether a statement is finished. Pure."""

import re
from typing import Iterator, List, Tuple

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<open> ['"] | /\* )
    | (?P<end> ; )
    | (?P<space> \s+ )
    | (?P<other> \w+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)
_WORD_BEFORE = re.compile(r"[\w$]*\Z")
_PATH_BEFORE = re.compile(r"'([^'\n]*)\Z")


def tokens(code: str) -> Iterator[Tuple[str, str, int]]:
    """Each token's kind (a group's name above), text and offset."""
    for match in _TOKEN.finditer(code):
        yield match.lastgroup or "quoted", match.group(), match.start()


def ends(code: str) -> List[int]:
    """Where semicolons stand that may end a statement: offsets behind them."""
    return [offset + 1 for kind, _, offset in tokens(code) if kind == "end"]


def without_end(code: str) -> str:
    """A statement without its semicolon and what follows that."""
    found = ends(code)
    return code[: found[0] - 1] if found else code


def has_code(code: str) -> bool:
    """Whether there is more than space, comments and semicolons."""
    return any(kind not in ("comment", "space", "end") for kind, _, _ in tokens(code))


def is_open(code: str) -> bool:
    """Whether a string or a comment has no end yet."""
    return any(kind == "open" for kind, _, _ in tokens(code))


def is_ended(code: str) -> bool:
    """Whether the last token that counts is a semicolon."""
    kinds = [kind for kind, _, _ in tokens(code) if kind not in ("comment", "space")]
    return bool(kinds) and kinds[-1] == "end"


def word_before(code: str, cursor: int) -> str:
    """The beginning of the word that the cursor is behind."""
    match = _WORD_BEFORE.search(code[:cursor])
    return match.group() if match else ""


def word_at(code: str, cursor: int) -> str:
    """The whole word that the cursor is in or at."""
    rest = re.match(r"[\w$]*", code[cursor:])
    return word_before(code, cursor) + (rest.group() if rest else "")


def path_before(code: str, cursor: int) -> "str | None":
    """The beginning of a quoted text that the cursor is in, or None."""
    before = code[:cursor]
    if not is_open(before):
        return None
    match = _PATH_BEFORE.search(before)
    return match.group(1) if match else None


def qualifier_before(code: str, start: int) -> str:
    """`table` of `table.` right before `start`, or ""."""
    match = re.search(r"([\w$]+|\"[^\"]+\")\.\Z", code[:start])
    return match.group(1).strip('"') if match else ""
