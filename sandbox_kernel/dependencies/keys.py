"""From a set of requirements to the key under which its layer is found. Pure.

A key names everything that decides what an installation holds: the packages asked for, in
any order and spelling; what they were built for (an interpreter with its other packages, or
an image); and the package index. Whatever else is asked for, or for something else, is
another key, and so another layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from sandbox_kernel.dependencies.requirements import Requirement

# Raised when layers made by an earlier version cannot be used any longer.
FORMAT = 1


def key(
    ecosystem: str,
    requirements: Iterable[Requirement],
    built_for: Mapping[str, str],
    index: str,
) -> str:
    """64 hexadecimal digits.

    Args:
        built_for: what the backend says that binaries depend on.
        index: what `indexes` calls its identity.
    """
    texts = sorted({requirement.text for requirement in requirements})
    parts = (FORMAT, ecosystem, texts, sorted(built_for.items()), index)
    return sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
