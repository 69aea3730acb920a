"""Any image of the user's, with Python 3 inside or without.

`entry` is what runs first and finds out which. With Python 3.8 or newer the guest's files
are sent and its supervisor takes over. Without it `supervisor.sh` runs one command a cell,
and `ShellGuest` translates between it and the session's frames.

    guest.hear_host(frames)        # of the session, CONFIGURE first -> bytes for its stdin
    guest.take_for_host()          # after that -> frames that are due at once
    guest.hear_guest(1, chunk)     # its stdout; 2: its stderr -> frames for the session
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "entry_script": "entry",
    "bootstrap_payload": "entry",
    "PYTHON": "entry",
    "SHELL": "entry",
    "ShellGuest": "guest",
}

__all__ = ["PYTHON", "SHELL", "ShellGuest", "bootstrap_payload", "entry_script"]


def __getattr__(name: str) -> Any:
    """Import at first use: a session in one of our own images needs none of this."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
