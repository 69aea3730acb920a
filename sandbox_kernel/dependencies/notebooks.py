"""What a notebook's metadata ask for: `metadata.sandbox_kernel.dependencies`, a list of texts.

Jupyter Server tells a kernel the path of its notebook in JPY_SESSION_NAME. The file is the
user's own, but may come from anywhere: it asks for no more than a cell may.

Rule: whatever the file holds, the answer is a list of texts, or none. Nothing here raises.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

# A notebook with pictures; one of more would take seconds to parse.
MAX_BYTES = 64 * 1024 * 1024
MAX_TEXTS = 1000


def requested(environ: Mapping[str, str]) -> list[str]:
    """The texts, as they are written there."""
    path = environ.get("JPY_SESSION_NAME", "")
    if not path.endswith(".ipynb") or not os.path.isabs(path) or "\0" in path:
        return []
    metadata = _child(_read(path), "metadata")
    found = _child(_child(metadata, "sandbox_kernel"), "dependencies")
    if not isinstance(found, list):
        return []
    return [item for item in found[:MAX_TEXTS] if isinstance(item, str)]


def _child(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _read(path: str) -> Any:
    import json

    try:
        # Not blocking, so that a FIFO of that name keeps nobody waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                return None
            content = file.read(MAX_BYTES + 1)
        # Most notebooks say nothing of us: those are not parsed.
        return json.loads(content) if b"sandbox_kernel" in content else None
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
