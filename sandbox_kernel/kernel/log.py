"""One line on stderr for each thing worth telling whoever runs the kernel."""

from __future__ import annotations

import contextlib
import sys


def log(text: str) -> None:
    """Write `text` as one line. Never raises: a closed stderr is no reason to die."""
    # Parts of messages come from outside: no newline and no escape sequence of theirs is kept.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"[sandbox-kernel] {line}\n")
        sys.stderr.flush()


def log_traceback(text: str) -> None:
    """Like `log`, with the exception that is being handled; for bugs of ours only."""
    import traceback  # not needed on a good day

    log(text)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        traceback.print_exc(file=sys.stderr)
