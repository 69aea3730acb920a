"""What runs first in an image that is not ours, and what the host sends it then.

`sh -c <entry_script()>` announces one of two lines on standard output, `PYTHON` or `SHELL`.
After `PYTHON` it waits for `bootstrap_payload` and then for frames; after `SHELL` for the
lines of `ShellGuest`.
"""

from __future__ import annotations

import functools
import marshal
import shlex
import zlib
from pathlib import Path

PYTHON = b"sandbox-kernel python\n"
SHELL = b"sandbox-kernel shell\n"

# Version 2 is read by every Python 3: later ones share references.
_MARSHAL_VERSION = 2


@functools.cache
def entry_script() -> str:
    """The text for `sh -c`: 10 KiB, for any POSIX shell."""
    return f"boot={shlex.quote(_text('boot.py'))}\n{_text('entry.sh')}\n{_text('supervisor.sh')}"


def bootstrap_payload(files: dict[str, bytes]) -> bytes:
    """What to write after `PYTHON`: the guest's files, by path relative to its directory.

    Frames may follow in the same write.
    """
    content = zlib.compress(marshal.dumps(files, _MARSHAL_VERSION))
    return len(content).to_bytes(4, "big") + content


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
