"""The guest's sources, as bytes: what a container is given, and their version.

Rule 1: on the way of every kernel's start, so no import that costs, and one reading.
Rule 2: what is handed out is what runs here: the package's own files, never a cache.
"""

from __future__ import annotations

import os
from functools import lru_cache

_DIRECTORY = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "guest"
)
# On our images: which version of these files they hold.
GUEST_LABEL = "org.sandbox-kernel.guest"
# Ours, and the files that other languages' interpreters run.
_ENDINGS = (".py", ".js", ".rb", ".pl", ".php", ".lua", ".sh", ".R")
# A label for people to read and compare: 64 bits tell versions apart; nobody gains from a clash.
_DIGEST_CHARACTERS = 16


@lru_cache(maxsize=1)
def _contents() -> tuple[tuple[str, bytes], ...]:
    found = []
    for directory, folders, names in os.walk(_DIRECTORY):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if name.endswith(_ENDINGS):
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    relative = os.path.relpath(path, _DIRECTORY).replace(os.sep, "/")
                    found.append((relative, file.read()))
    return tuple(sorted(found))


def files() -> dict[str, bytes]:
    """Path below the guest's directory -> content, of every module, runners included."""
    return dict(_contents())


@lru_cache(maxsize=1)
def digest() -> str:
    """The version of those files: equal exactly when names and contents are."""
    from hashlib import sha256

    summed = sha256()
    for path, content in _contents():
        # Lengths, so that no two different trees make the same text.
        summed.update(b"%s\0%d\0" % (path.encode(), len(content)) + content)
    return summed.hexdigest()[:_DIGEST_CHARACTERS]
