"""The lines that `supervisor.sh` reads: each calls one of its functions. Pure.

Rule: whatever a cell or an environment holds becomes printable ASCII without quotes, which
`printf %b` turns back: nothing of it is ever read as shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# All but these: no quote, no backslash, no control character, nothing beyond ASCII.
_ESCAPED = re.compile(rb"[^A-Za-z0-9 _./:,;=+@%^~!#?*()<>{}|&$\"`\[\]-]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The shell needs these for itself, or does not let them be set.
_RESERVED = {"IFS", "OPTIND", "PPID", "UID", "EUID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"}

# The death of a child cuts the reading of a line short, and busybox forgets what it had read of
# it: mostly some of these blanks.
_MARGIN = b" " * 64


def setup(directory: str, environment: Mapping[str, str]) -> bytes:
    """Go to `directory` and set `environment`, but for names that no shell can set."""
    lines = [b"cd \"$(printf %%b '%s')\"" % escape(directory.encode())]
    for name, value in environment.items():
        if _NAME.fullmatch(name) and name not in _RESERVED:
            text = escape(value.encode("utf-8", "surrogateescape"))
            # The x keeps newlines at the end, which `$(…)` would drop.
            lines.append(b"%s=$(printf %%bx '%s')" % (name.encode(), text))
            lines.append(b'export %s="${%s%%x}"' % (name.encode(), name.encode()))
    return b"".join(line + b"\n" for line in lines)


def run(token: str, file: str, programs: Iterable[str], code: bytes, *arguments: str) -> bytes:
    """Start a cell, after the end of all that is left of the one before.

    That twice: the first time somebody may be about to die, and cut the line.
    """
    words = (token.encode(), file.encode(), " ".join(programs).encode(), escape(code))
    quoted = (b"'%s'" % word for word in (*words, *(item.encode() for item in arguments)))
    return 2 * _line(b"sweep") + b"run %s\n" % b" ".join(quoted)


def stop() -> bytes:
    """SIGTERM for everything: what a shell starts on the side ignores SIGINT."""
    return _line(b"stop")


def halt(token: str) -> bytes:
    """SIGKILL for everything; answered by `gone` on both streams."""
    return _line(b"sweep") + _line(b"halt %s" % token.encode())


def say(token: str) -> bytes:
    """Answered by `said`: the supervisor lives, and has done all that came before."""
    return _line(b"say %s 0" % token.encode())


def count(token: str) -> bytes:
    """Answered by `said` and the number of processes."""
    return _line(b"count %s" % token.encode())


def _line(call: bytes) -> bytes:
    return _MARGIN + call + b"\n"


def escape(content: bytes) -> bytes:
    """`content` for `printf %b`, in single quotes. NUL, which no shell can hold, is left out."""
    return _ESCAPED.sub(lambda found: b"\\0%03o" % ord(found[0]), content.replace(b"\0", b""))
