"""Versions of engines and their parts that guests are known to have escaped from. Pure.

To add one: a row in `_KNOWN`, with the first fixed version of each branch that got the fix.
Only what a guest could use against us: what needs a hostile image while it is built or
pulled, or a caller of the engine's API, is its owner's matter and mostly left out.

Source: github.com/opencontainers/runc, containerd/containerd and moby/moby, "Security".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Version = tuple[int, int, int, int]
_RELEASED = 10**6  # a release comes after each of its candidates


class Known(NamedTuple):
    """One flaw, or several that were fixed together."""

    component: str
    names: str
    fixed: tuple[str, ...]  # first fixed version of each branch, oldest first
    effect: str


_KNOWN = (
    Known("runc", "CVE-2019-5736", ("1.0.0-rc7",), "a guest can overwrite runc on the host"),
    Known("runc", "CVE-2024-21626", ("1.1.12",), "a guest can start in a directory of the host"),
    Known(
        "runc",
        "CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881",
        ("1.2.8", "1.3.3", "1.4.0-rc3"),
        "a guest can write to /proc of the host while its container starts",
    ),
    Known(
        "containerd",
        "CVE-2020-15257",
        ("1.3.9", "1.4.3"),
        "a guest in the host's network can command containerd",
    ),
    Known(
        "containerd",
        "CVE-2022-23648",
        ("1.4.13", "1.5.10", "1.6.1"),
        "an image can copy files of the host",
    ),
    Known(
        "containerd",
        "CVE-2024-40635",
        ("1.6.38", "1.7.27", "2.0.4"),
        "a container with a large user id can run as root",
    ),
    Known(
        "engine",
        "CVE-2021-41091",
        ("20.10.9",),
        "users of the host can run programs that containers left",
    ),
    Known(
        "engine",
        "CVE-2024-41110",
        ("23.0.15", "25.0.6", "26.1.5", "27.1.1"),
        "requests can pass by an authorization plugin",
    ),
)

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:-(?:rc|beta|alpha)\.?(\d{1,6}))?")


def components(answer: Mapping[str, Any]) -> dict[str, str]:
    """Name -> version, in lower case, from what `GET /version` answers.

    Distributions write more of their version where others write the commit.
    """
    found = {}
    for row in answer.get("Components") or []:
        name, version = str(row.get("Name", "")).lower(), str(row.get("Version", ""))
        full = str((row.get("Details") or {}).get("GitCommit", ""))
        found[name] = full if full.startswith(version) and version else version
    return {name: version for name, version in found.items() if version}


def warnings(found: Mapping[str, str]) -> list[str]:
    """A sentence for each flaw that a version says is there."""
    return [
        _sentence(known, found[known.component])
        for known in _KNOWN
        if known.component in found and is_affected(found[known.component], known.fixed)
    ]


def is_affected(version: str, fixed: Iterable[str]) -> bool:
    """Whether `version` is older than the fix in its branch. False when it is no version."""
    at = _parse(version)
    fixes = [fix for fix in map(_parse, fixed) if fix is not None]
    if at is None or not fixes:
        return False
    own = [fix for fix in fixes if fix[:2] == at[:2]]
    return at < (own[0] if own else max(fixes))


def _parse(text: str) -> Version | None:
    match = _VERSION.match(text)
    if match is None:
        return None
    major, minor, patch, candidate = match.groups()
    return int(major), int(minor), int(patch or 0), int(candidate or _RELEASED)


def _sentence(known: Known, version: str) -> str:
    name = {"engine": "Docker Engine"}.get(known.component, known.component)
    return (
        f"{name} {version} is older than {' / '.join(known.fixed)}, which fixed {known.names} "
        f"({known.effect}), unless your distribution has patched it."
    )
