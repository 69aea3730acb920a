"""Why an installation failed, in sentences: first the cause, then the installer's last lines. Pure.

What installers print is the guest's word: it is cleaned and cut before it comes here, and a
sentence made of it says no more than that an installer said so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sandbox_kernel.limits import Limits, format_size

_SHOWN_LINES = 15
_LINE = 300
_SEARCHED = 500

# What the installers of our ecosystems say when there is no such package or version.
_SAYINGS: tuple[tuple[str, str], ...] = (
    (
        r"Could not find a version that satisfies the requirement (\S+).*\(from versions: none\)",
        "The package index {index} has no package {0}.",
    ),
    (
        r"Could not find a version that satisfies the requirement ([^\n(]+?) \(from [^\n]*?"
        r"versions: ([^)\n]*)\)",
        "The package index {index} has no version of the package that fits {0}; there are {1}.",
    ),
    (
        r"No matching distribution found for ([^\n]+)",
        "The package index {index} has nothing that fits {0}.",
    ),
    (
        r"ResolutionImpossible|Cannot install ([^\n]+?) because these package versions",
        "The packages contradict each other: no set of versions fits all of them.",
    ),
    (
        r"requires a different Python: ([^\n]+)",
        "A package does not work with the sandbox's Python: {0}.",
    ),
    (
        r"npm (?:ERR!|error) 404 +(?:The requested resource )?'([^'\n]+?)(?:@[^'@\n]*)?' "
        r"(?:is not in|could not be found)",
        "The package index {index} has no package {0}.",
    ),
    (r"npm (?:ERR!|error) code E404", "The package index {index} has no such package."),
    (
        r"npm (?:ERR!|error) (?:notarget )?No matching version found for ([^\n]+?)\.?\n",
        "The package index {index} has no version that fits {0}.",
    ),
    (
        r"Failed to build '([^'\n]+)'|Failed building wheel for ([^\s]+)",
        "The package index {index} has no file of {0}{1} that is made for this Python, and it "
        "could not be built from its source.",
    ),
    (
        r"E: Unable to locate package (\S+)",
        "The package index {index} has no package {0}.",
    ),
    (
        r"E: Version '([^'\n]+)' for '([^'\n]+)' was not found",
        "The package index {index} has no version {0} of {1}.",
    ),
    (
        r"Could not find a valid gem '([^'\n]+)' \(([^)\n]*)\)",
        "The package index {index} has no gem {0} ({1}).",
    ),
    (
        r"package ['‘]([^'’\n]+)['’] is not available",
        "The package index {index} has no package {0}.",
    ),
)


def explain(reason: str, tail: str, *, index: str, problems: Iterable[str], limits: Limits) -> str:
    """One sentence or two. `problems`: what the relay refused or could not fetch."""
    unreachable = [problem for problem in problems if "cannot be reached from" in problem]
    if unreachable:
        return unreachable[0]
    if "No space left on device" in tail or "ENOSPC" in tail or "Disk quota exceeded" in tail:
        limit = format_size(limits.workspace_bytes)
        return f"The packages don't fit into a builder's disk, which has {limit}."
    text = _with_short_lines(tail)
    for pattern, sentence in _SAYINGS:
        if found := re.search(pattern, text):
            words = [" ".join((group or "").split())[:_LINE] for group in found.groups()]
            return sentence.format(*words, index=index)
    own = [problem for problem in problems if "no part of" in problem or "not a part of" in problem]
    return " ".join([reason or "The installer failed and did not say why.", *own[:1]])


def _with_short_lines(text: str) -> str:
    """A line without end would make the searches above take as long as its writer likes."""
    return "".join(line[:_SEARCHED] + "\n" for line in text.splitlines())


def with_tail(sentence: str, tail: str) -> str:
    """`sentence`, and the installer's last lines below it."""
    lines = last_lines(tail)
    if not lines:
        return sentence
    shown = "".join(f"\n  {line}" for line in lines)
    return f"{sentence}\nThe installer's last lines:{shown}"


def last_lines(tail: str) -> Sequence[str]:
    lines = [line.rstrip()[:_LINE] for line in tail.splitlines() if line.strip()]
    return lines[-_SHOWN_LINES:]


def too_slow(limits: Limits) -> str:
    """The wall time of a build is over."""
    minutes = (limits.timeout_s or 0) / 60
    return (
        f"The installation took longer than {minutes:g} minutes and was ended. Ask for fewer "
        "packages at once, or for versions that need not be compiled."
    )


def out_of_memory(limits: Limits) -> str:
    """The kernel killed something in the builder."""
    return (
        f"The installation needed more than a builder's memory of "
        f"{format_size(limits.memory_bytes)} and was ended. Ask for fewer packages at once, or "
        "for versions that need not be compiled."
    )
