"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# Two noisy cores, several test runs at once: what takes 0.2 s alone may take twenty.
DEADLINE_S = 60.0

# What obeys an interrupt does so at once. On a machine that stands still for a while a session
# would take it for something that doesn't, and end it: variables that a test looks for would go.
PATIENCE_S = 30.0

T = TypeVar("T")


def until(
    condition: Callable[[], T], what: str, *, timeout_s: float = DEADLINE_S, every_s: float = 0.05
) -> T:
    """Call `condition` until its value is true, and return that value.

    Raises:
        AssertionError: it stayed false; the message names `what` and the last value.
    """
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"After {timeout_s:g} s still waiting for {what}: {value!r}.")
        time.sleep(every_s)
