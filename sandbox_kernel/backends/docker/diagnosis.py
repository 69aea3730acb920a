"""Why a container ended, in words. Pure.

Rule: the guest's last words are data: cleaned of control characters, bounded, quoted.
"""

from __future__ import annotations

from sandbox_kernel.backends.base import Death
from sandbox_kernel.backends.docker.engine import PING_TIMEOUT_S, Event
from sandbox_kernel.backends.words import clean
from sandbox_kernel.limits import Limits, format_size

_OURS = {
    "closed": Death("closed", "The sandbox was closed."),
    "killed": Death("killed", "The sandbox was ended by its kernel."),
    "stuck": Death(
        "memory",
        "A part of the sandbox was killed for its memory limit, and the rest did not go on.",
    ),
    "hung": Death(
        "engine",
        f"The engine did not answer within {PING_TIMEOUT_S} s, twice. Restart it, then run the "
        "cell again.",
    ),
}


def by_us(ending: str) -> Death | None:
    """The end that this side brought about; None when it wasn't us."""
    return _OURS.get(ending)


def explain(
    events: list[Event] | None, limits: Limits, *, last_words: bytes, has_spoken: bool
) -> Death:
    """Why it is gone, from what the engine remembers. None: the engine does not answer."""
    if events is None:
        return Death(
            "engine",
            "The engine went away, and the container with it. When it is back, the next cell "
            "gets a new one.",
        )
    actions = [event.action for event in events]
    if "die" not in actions:
        return Death("engine", "The engine was restarted, and the container did not outlive that.")
    code = next((event.exit_code for event in reversed(events) if event.action == "die"), None)
    if "kill" in actions or "stop" in actions:
        return Death("killed", "Somebody stopped or removed the container from outside.")
    if "oom" in actions and code == 137:
        return Death(
            "memory",
            f"The container used more than {format_size(limits.memory_bytes)} (memory), and its "
            "first process was killed for it.",
        )
    words = clean(last_words)
    quoted = f" Its last words: {words!r}" if words else ""
    if not has_spoken:
        return Death(
            "failed to start",
            f"The container ended with exit code {code} before its supervisor spoke.{quoted} "
            "Run `sandbox-kernel doctor` to see what is wrong.",
        )
    return Death("exited", f"The container's first process ended with exit code {code}.{quoted}")
