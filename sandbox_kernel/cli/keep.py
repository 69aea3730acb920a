"""Generated files onto the host, beneath a directory that the caller chose."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sandbox_kernel.exchange import Exchange


def write_new(directory: Path, guest_name: str, content: bytes) -> Path:
    """Write `content` under `directory`, which is made when it isn't there.

    Raises:
        FileRefused: the name leaves the directory, the host would run it, or it exists.
        OSError: `directory` cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with closing(Exchange(str(directory))) as exchange:
        return directory / exchange.write(guest_name, content, allow_new_directories=True)


def printable(text: str) -> str:
    """`text` without what could move a terminal's cursor or hide."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
