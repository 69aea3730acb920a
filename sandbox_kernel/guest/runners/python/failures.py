"""What to say of an exception of user code's. None of it can be trusted to behave.

Pure but for `drop_our_frames`, which changes the traceback that it is given.
"""

import builtins
from typing import Any, List

_OUR_DIRECTORY = __file__.rsplit("/", 1)[0] + "/"


def describe(value: Any) -> str:
    """The text of an exception, which its own class may fail to make."""
    try:
        return str(value)
    except Exception:
        return "<%s whose text could not be made>" % type(value).__name__


def is_cancellation(kind: Any) -> bool:
    """Whether an exception of this class ends a cancelled task."""
    # By its name: asyncio may not have been imported.
    return getattr(kind, "__name__", "") == "CancelledError"


def has_group(value: Any) -> bool:
    """Whether an exception is a group or was raised while one was handled."""
    group = getattr(builtins, "BaseExceptionGroup", None)
    seen = 0
    while group is not None and value is not None and seen < 100:
        if isinstance(value, group):
            return True
        value, seen = value.__context__, seen + 1
    return False


def drop_our_frames(traceback: Any) -> None:
    """End a traceback where user code ended: what raises for a SIGINT is no news."""
    last = traceback
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OUR_DIRECTORY):
            last = traceback
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None


def format_plain(kind: Any, value: Any, traceback: Any) -> List[str]:
    """Lines as `traceback` writes them, when IPython can't."""
    import traceback as formatter

    while traceback is not None and "IPython" in traceback.tb_frame.f_code.co_filename:
        traceback = traceback.tb_next
    try:
        lines = formatter.format_exception(kind, value, traceback)
    except Exception:  # an exception whose own `__str__` or cause is broken
        lines = [kind.__name__]
    return "".join(lines).rstrip("\n").split("\n")
