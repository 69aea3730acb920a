"""What can go wrong while an image is made or pulled: one sentence with the remedy for each.

Rule 1: what an engine, a registry or a build says is shown as plain text, and never whole.

To add a cause: a row in `_MEANINGS`, and a test that makes it happen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sandbox_kernel.backends.docker import engine
from sandbox_kernel.errors import SandboxKernelError

_LINE_CHARACTERS = 200
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class BuildFailed(SandboxKernelError):
    """An image could not be made. Remedy: what the message says, then `setup` again."""


def plain(line: str) -> str:
    """One line without control characters, no longer than a reader wants."""
    line = _COLOUR.sub("", line[: 4 * _LINE_CHARACTERS])
    shown = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    return shown if len(shown) <= _LINE_CHARACTERS else shown[: _LINE_CHARACTERS - 1] + "…"


@contextmanager
def translated(lines: Iterable[str] = ()) -> Iterator[None]:
    """Errors of the engine's client as ours; `lines` are what the build has printed last.

    Raises:
        BuildFailed: the engine refused.
        BackendUnavailable: there is no engine (any more).
    """
    from docker.errors import APIError, DockerException
    from requests import RequestException

    try:
        yield
    except APIError as error:
        raise explained(str(error.explanation or error), lines) from None
    except (DockerException, RequestException) as error:
        raise engine.unavailable(error) from None


def explained(reason: str, lines: Iterable[str] = ()) -> BuildFailed:
    """What a failure means and what to do, with the end of the build's output below."""
    output = "\n".join(lines)
    sentence = f"The engine could not make the image: {plain(reason).rstrip('.')}."
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, f"{reason}\n{output}"):
            sentence = meaning
            break
    if not output:
        return BuildFailed(sentence)
    shown = output.replace("\n", "\n  ")
    return BuildFailed(f"{sentence}\nThe last lines of the build:\n  {shown}")


# The first that is found decides; what one cause leads to comes after that cause.
_MEANINGS = (
    (
        r"[Nn]o space left on device|ENOSPC|not have enough free space",
        "The disk of the engine is full. Free some with `docker system df` and "
        "`docker image prune`, then run setup again.",
    ),
    (
        r"exec format error|does not match the (?:specified|detected) (?:host )?platform",
        "The base is for another architecture than the engine's machine. Give one for this "
        "machine with --base.",
    ),
    (
        r"apt-get: (?:command )?not found|\"?/bin/sh\"?: (?:stat|no such file)|runc create failed",
        "The base has no apt, so our images cannot be built on it. Give a Debian or Ubuntu with "
        "--base, such as debian:bookworm-slim; any other image works as it is, without setup: "
        "sandbox-kernel install --backend docker --image IMAGE.",
    ),
    (
        r"Temporary failure resolving|Could not (?:connect|resolve)|Failed to fetch|"
        r"Unable to fetch|Connection (?:timed out|refused)|Unable to locate package|"
        r"has no installation candidate",
        "apt-get cannot reach the package sources of the base. Check the network that the engine "
        "gives to builds (a proxy is set in ~/.docker/config.json), or give a --base whose "
        "sources answer here.",
    ),
    (
        r"No matching distribution found for (\S+)|Could not find a version",
        "A Python package has no wheel for the Python of the base. Give a --base with a newer "
        "Python, such as debian:bookworm-slim.",
    ),
)
