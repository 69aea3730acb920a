"""Indexes that are directories of this host (`file:` addresses, find-links), read for the relay.

Rule 1: nothing above the directory is read, whatever a link in it says.
Rule 2: only regular files, and never waiting for one.
"""

from __future__ import annotations

import html
import os
import stat
from io import BufferedReader
from urllib.parse import quote

from sandbox_kernel.dependencies.admission import Refused


def inside(root: str, relative: str) -> str:
    """The resolved path of `relative` below `root`, which is resolved.

    Raises:
        Refused: it isn't there, or a link leads out.
    """
    found = os.path.realpath(os.path.join(root, relative))
    if found != root and not found.startswith(root + "/"):
        raise Refused("A link in the index's directory leads out of it.", 403)
    if not os.path.exists(found):
        raise Refused("There is no such file in the index.", 404)
    return found


def open_file(path: str) -> tuple[BufferedReader, int]:
    """A resolved path, opened, and its size.

    Raises:
        Refused: it is no regular file.
    """
    try:
        # Not to wait for the other end of a FIFO that somebody left there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        raise Refused("There is no such file in the index.", 404) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Refused("There is no such file in the index.", 404)
    return open(descriptor, "rb"), status.st_size


def page(root: str, directory: str, limit_bytes: int) -> bytes:
    """The page of a directory: its own, or a list."""
    own = os.path.join(directory, "index.html")
    if not os.path.isfile(own):
        return list_of(directory)
    file, _ = open_file(inside(root, os.path.relpath(own, root)))
    with file:
        return file.read(limit_bytes)


def list_of(directory: str) -> bytes:
    """A page of links, as pip reads for `find-links`."""
    lines = ["<!DOCTYPE html><html><body>"]
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name + ("/" if entry.is_dir() else "")
            lines.append(f'<a href="{html.escape(quote(name))}">{html.escape(name)}</a>')
    return "\n".join([*lines, "</body></html>\n"]).encode("utf-8", "replace")
