"""What is known of a layer, and how that is written down.

Rule: a record is only believed if it looks like one of ours; else it is none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from sandbox_kernel.limits import format_size

FORMAT = 1
# Of a layer; also of its directories.
NAME = re.compile(r"[0-9a-f]{32}")
_MAX_BYTES = 4 * 1024 * 1024


class Package(NamedTuple):
    """One package in a layer."""

    name: str
    version: str
    sha256: str = ""  # of the archive that it came from, where the index gave one file


class Record(NamedTuple):
    """What is known of one layer."""

    name: str
    backend: str
    place: str
    ecosystem: str
    requirements: tuple[str, ...]
    packages: tuple[Package, ...]
    size_bytes: int
    files: int
    created_s: float
    built_for: Mapping[str, str]

    def to_json(self) -> str:
        content = {**self._asdict(), "packages": [item._asdict() for item in self.packages]}
        return json.dumps({"format": FORMAT, **content, "built_for": dict(self.built_for)})

    @classmethod
    def from_json(cls, text: bytes) -> Record | None:
        """None when it is no record of this format."""
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                return None
            packages = tuple(Package(**item) for item in content.pop("packages"))
            requirements = tuple(map(str, content.pop("requirements")))
            made = cls(packages=packages, requirements=requirements, **content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        is_sound = (
            isinstance(made.name, str)
            and NAME.fullmatch(made.name)
            and all(isinstance(made[i], str) for i in (1, 2, 3))
            and isinstance(made.size_bytes, int)
        )
        return made if is_sound else None

    @property
    def title(self) -> str:
        """For a reader."""
        names = ", ".join(self.requirements[:5]) + (", …" if len(self.requirements) > 5 else "")
        return f"layer of {self.ecosystem} packages {names} ({format_size(self.size_bytes)})"


def read(descriptor: int) -> Record | None:
    """The record in an open file; None when it holds none."""
    try:
        return Record.from_json(os.pread(descriptor, _MAX_BYTES, 0))
    except OSError:
        return None
