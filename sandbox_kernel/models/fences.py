"""Code that a model writes between fences, for models without tool calls. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sandbox_kernel import languages

# The call that a code block stands for; no endpoint gives this id.
CALL_ID = "a code fence"

HINT = """\
To run code, write it as one fenced block that names its language, and end your message there:

```python
print(1 + 1)
```

It is run, and the next message holds its output. When you have what you need, answer without
any code block."""

_OPENING = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`\n]*$")


class Block(NamedTuple):
    """One fenced block."""

    code: str
    language: str  # in lower case; "" where none is named


def blocks(text: str) -> list[Block]:
    """The fenced blocks of Markdown `text`; one that is not closed ends with it."""
    found: list[Block] = []
    fence, language = "", ""
    lines: list[str] = []
    for line in text.splitlines():
        opening = _OPENING.match(line)
        if not fence and opening:
            fence, language, lines = opening[1], opening[2].lower(), []
        elif fence and opening and not opening[2] and opening[1].startswith(fence):
            found.append(Block("\n".join(lines), language))
            fence = ""
        elif fence:
            lines.append(line)
    if fence and lines:
        found.append(Block("\n".join(lines), language))
    return found


def last_block(text: str, known: Sequence[str]) -> Block | None:
    """The block to run: the last in one of the `known` languages; those before it mostly explain.

    Where `known` is empty, any is. A block that names none is in the first.
    """
    for block in reversed(blocks(text)):
        named = not known or canonical(block.language) in known
        if block.code.strip() and (named or not block.language):
            return block
    return None


def canonical(language: str) -> str:
    """The name that this package has for a language, whatever a model calls it."""
    language = language.strip().lower()
    return languages.resolve(language) or language
