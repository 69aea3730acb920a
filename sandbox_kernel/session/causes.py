"""The sentences that say what ended a cell: which limit, its value, what survived. Pure.

Rule 1: whoever reads one knows whether the variables are still there.
Rule 2: nothing of the guest's own words is quoted here; the gate cleans those.
"""

from __future__ import annotations

import re
import signal as signals
from typing import Any

from sandbox_kernel import events
from sandbox_kernel.backends.base import Death
from sandbox_kernel.limits import Limits, format_size

KEPT = "The variables survived."
LOST_RUNNER = (
    "The variables are lost, the files in the workspace are kept, and a fresh runner is ready."
)
LOST_SANDBOX = (
    "The variables and the files in the workspace are lost; the next cell gets a new sandbox."
)


def lost_runner(language: str = "") -> str:
    """What a runner's end took along; `language` where others run beside it."""
    if not language:
        return LOST_RUNNER
    return (
        f"The variables of {language} are lost; the others live on, the files in the workspace "
        "are kept, and a fresh runner is ready."
    )


def failure(cell: int, name: str, value: str) -> events.CellFailed:
    """A cell's end in our own words."""
    return events.CellFailed(cell, name, value, [f"\x1b[31m{name}\x1b[0m: {value}"])


def timed_out(cell: int, timeout_s: float, survived: str) -> events.CellFailed:
    return failure(
        cell,
        "CellTimeout",
        f"The cell ran longer than its limit of {timeout_s:g} s (timeout) and was stopped. "
        f"{survived}",
    )


def interrupted_hard(cell: int, grace_s: float, survived: str) -> events.CellFailed:
    return failure(
        cell,
        "KeyboardInterrupt",
        f"The cell did not stop within {grace_s:g} s of the interrupt (interrupt_grace), "
        f"so it was killed. {survived}",
    )


def unnamed(cell: int) -> events.CellFailed:
    return failure(cell, "CellError", f"The runner says that the cell failed, not why. {KEPT}")


def restarted(cell: int) -> events.CellFailed:
    return failure(cell, "RunnerRestarted", f"The runner was restarted. {LOST_RUNNER}")


def refused(cell: int, language: str, reason: str) -> events.CellFailed:
    """The guest's own `reason` why a cell could not begin: for the gate to clean."""
    return failure(cell, "RunnerUnavailable", f"The cell of {language} did not run. {reason}")


def out_of_memory(
    cell: int, limits: Limits, peak_bytes: int | None, survived: str
) -> events.CellFailed:
    peak = f", and its peak was {format_size(peak_bytes)}" if peak_bytes else ""
    return failure(
        cell,
        "MemoryLimitExceeded",
        f"The cell needed more memory than the sandbox may use: the limit is "
        f"{format_size(limits.memory_bytes)} (memory){peak}. It was killed. {survived}",
    )


def runner_exited(event: events.RunnerExited, language: str = "") -> str:
    """What became of a runner that nobody asked to go; whose, where there are several."""
    runner = f"The runner of {language}" if language else "The runner"
    if event.cause == "protocol":
        return f"{runner} sent what is not our protocol and was killed."
    if event.cause == "missing":
        return f"{runner} could not be started in the sandbox."
    if event.signal is not None:
        return f"{runner} was ended by the signal {_signal_name(event.signal)}."
    if event.exit_code is not None:
        return f"{runner} ended by itself with exit code {event.exit_code}."
    return f"{runner} went away."


def sandbox_died(death: Death | None) -> str:
    """What became of a whole sandbox."""
    detail = death.detail.strip() if death is not None else ""
    return f"The sandbox is gone. {detail}".strip()


def notice(event: events.OutputNoticed) -> str:
    """A line about output that was bounded, for the stream."""
    info = event.info
    name = _name(info)
    match event.code:
        case "output_truncated":
            place = f"it goes to the file {name} in the workspace" if name else "it is dropped"
            limit = _size(info, "limit_bytes")
            text = f"The limit of output is {limit} (output): from here {place}; its end follows."
        case "output_tail":
            whole = f"; the whole text is in the file {name} (%sandbox get {name})" if name else ""
            text = f"{_size(info, 'omitted_bytes')} of output are not shown{whole}. The end of it:"
            if info.get("omitted_bytes") == 0:
                text = "The rest of the output:"
        case "files_omitted":
            count = _count(info, "count")
            text = f"{count} more files are new or changed; `%sandbox files` lists them."
        case "displays_dropped":
            limit = _count(info, "limit")
            text = (
                f"The cell made more than {limit} rich outputs (displays); the rest is not shown."
            )
        case "display_too_large":
            text = (
                f"A rich output of {_size(info, 'size')} was not shown: the limit is "
                f"{_size(info, 'limit_bytes')} (artifact). Save it to a file instead."
            )
        case _:
            text = "The sandbox bounded the output of this cell."
    return f"\n[sandbox] {text}\n"


def hint(name: str, value: str, limits: Limits) -> str:
    """A line that names the limit behind an ordinary error of user code, or ""."""
    for pattern, sentence in _HINTS:
        if re.search(pattern, f"{name}: {value}"):
            return "[sandbox] " + sentence.format(
                memory=format_size(limits.memory_bytes),
                workspace=format_size(limits.workspace_bytes),
                inodes=limits.workspace_inodes,
                processes=limits.processes,
                open_files=limits.open_files,
            )
    return ""


# What the kernel of the guest says when a limit is met, in the words of CPython.
_HINTS: tuple[tuple[str, str], ...] = (
    (r"^[\w.]*MemoryError\b", "The sandbox may use {memory} (memory). " + KEPT),
    (
        r"\[Errno 28\]|No space left on device",
        "The sandbox may store {workspace} in {inodes} files (workspace). " + KEPT,
    ),
    (
        r"can't start new thread|^BlockingIOError: \[Errno 11\]",
        "The sandbox may run {processes} processes and threads (processes). " + KEPT,
    ),
    (
        r"\[Errno 24\]|Too many open files",
        "A process may open {open_files} files (open_files). " + KEPT,
    ),
    (
        r"Network is unreachable|\[Errno 101\]|[Nn]ame resolution|Name or service not known"
        r"|NameResolutionError|Failed to resolve",
        "The network is off in this sandbox (network none).",
    ),
)


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return str(number)


def _size(info: dict[str, Any], key: str) -> str:
    value = info.get(key)
    return format_size(value) if isinstance(value, int | float) and 0 <= value < 1e18 else "much"


def _count(info: dict[str, Any], key: str) -> str:
    value = info.get(key)
    return str(value) if isinstance(value, int) and 0 <= value < 10**18 else "many"


def _name(info: dict[str, Any]) -> str:
    """The file's name, if it is one that our supervisor gives; else "", no word of the guest's."""
    name = info.get("file")
    plain = isinstance(name, str) and re.fullmatch(r"output-[0-9]{1,10}(-[0-9]{1,6})?\.txt", name)
    return str(name) if plain else ""
