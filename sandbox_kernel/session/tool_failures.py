"""What a cell is told of a tool that failed: enough to go on with, and nothing of the host's.

Rule 1: no traceback, ever. It goes to the host's log.
Rule 2: the words of a `ToolError` are meant for the cell, and pass. So do, without what looks
like a path or a URL's details, those of the built-in exceptions that functions raise by hand.
Of everything else only the class is told: libraries put paths, addresses and keys into words.
Rule 3: a log ends at a terminal or in a file, and an exception's words may be a cell's: what is
logged is bounded and has no escape sequences in it.
"""

from __future__ import annotations

import logging
import os
import re
import traceback

from sandbox_kernel.errors import ToolError
from sandbox_kernel.outputs.streams import clean_text

MAX_LETTERS = 2_000
# Of a traceback: its end says most. A cell may call a thousand times.
MAX_LOGGED = 8_000

_SPOKEN = frozenset(
    {
        ArithmeticError,
        AssertionError,
        Exception,
        IndexError,
        KeyError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
        ZeroDivisionError,
    }
)
_URL = re.compile(r"(\b[A-Za-z][\w+.-]*://)(?:[^\s/@'\"]*@)?([^\s/?#'\"]*)[^\s'\"]*")
_PATH = re.compile(r"(?<![\w/.:])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.@+~-]+)+[/\\]?")
_log = logging.getLogger("sandbox_kernel.tools")


def explain(name: str, error: BaseException) -> str:
    """The message of the `ToolError` that the cell gets for `error`; the rest is logged."""
    if isinstance(error, ToolError):
        return str(error)[:MAX_LETTERS]
    _log.warning("The tool %s failed.\n%s", name, _logged(error))
    kind = type(error).__name__[:80]
    if isinstance(error, OSError):
        if isinstance(error.errno, int):
            return f"{name} failed: {kind}: {os.strerror(error.errno)}."
    elif type(error) in _SPOKEN and (words := scrub(str(error))):
        return f"{name} failed: {kind}: {words}"
    return f"{name} failed: {kind}. What it says stays on the host: see the log there."


def _logged(error: BaseException) -> str:
    try:
        told = "".join(traceback.format_exception(error))
    except Exception:  # the words of a foreign exception are code that may fail, too
        told = f"{type(error).__name__}, which cannot be written"
    # The carriage return would let the line be written over.
    return clean_text(told[-MAX_LOGGED:]).replace("\r", "\n").replace("\b", "")


def scrub(text: str) -> str:
    """`text` without paths and without what follows the host name in a URL."""
    pieces, end = [], 0
    for found in _URL.finditer(text[: 2 * MAX_LETTERS]):
        pieces += [_PATH.sub("[path]", text[end : found.start()]), found[1], found[2]]
        end = found.end()
    return "".join((*pieces, _PATH.sub("[path]", text[end : 2 * MAX_LETTERS])))[:MAX_LETTERS]
