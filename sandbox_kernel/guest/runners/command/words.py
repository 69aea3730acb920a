"""What is said where each cell is a command of its own. Pure; host and guest share it.

Rule: nothing here promises what only a language's own runner could do.
"""

from typing import Any, Dict, Iterable, Sequence

Json = Dict[str, Any]

# Names of the signals that end programs, as every Linux numbers them.
_SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
}
_SIGKILL = 9


def notice(display_name: str) -> str:
    """Said once, in the first cell."""
    return (
        "[sandbox] Here each cell of %s runs as one command of its own: files in the workspace "
        "persist, variables don't. There is no completion, and no input.\n" % display_name
    )


def failure(name: str, value: str) -> Json:
    """The content of an ERROR frame."""
    line = "\x1b[31m%s\x1b[0m: %s" % (name, value)
    return {"ename": name, "evalue": value, "traceback": [line]}


def interrupted() -> Json:
    return failure("KeyboardInterrupt", "The command was interrupted.")


def failed(exit_code: int) -> Json:
    return failure("CommandFailed", "The command ended with exit code %d." % exit_code)


def killed(number: int) -> Json:
    """The command was ended by a signal that nobody here sent."""
    value = "The command was ended by the signal %s." % _SIGNALS.get(number, number)
    if number == _SIGKILL:
        value += " It may have needed more memory than the sandbox may use."
    return failure("CommandFailed", value)


def missing(programs: Sequence[str]) -> Json:
    """No program is there that could run a cell."""
    first = programs[0]
    others = " (nor %s)" % " nor ".join(programs[1:]) if len(programs) > 1 else ""
    return failure(
        "CommandMissing",
        "There is no %s%s in this sandbox: choose an image that has it with --image, or "
        "install %s on the machine whose programs the sandbox uses." % (first, others, first),
    )


def unwritten() -> Json:
    return failure(
        "CommandFailed",
        "The cell could not be written to a file: the workspace is full. Restart the kernel "
        "for an empty one, or give it more (--workspace).",
    )


def crowded() -> Json:
    return failure(
        "CommandFailed",
        "The command could not be started: there can be no more processes (--processes). "
        "Restart the kernel.",
    )


def expressions(names: Iterable[str]) -> Json:
    """The reply's `user_expressions`: there is nothing that could evaluate them."""
    value = "Expressions cannot be evaluated where each cell is a command of its own."
    error = {"status": "error", "ename": "NotSupported", "evalue": value, "traceback": []}
    return {str(name): dict(error) for name in names}


def completion(cursor: Any) -> Json:
    position = cursor if isinstance(cursor, int) else 0
    return {
        "status": "ok",
        "matches": [],
        "cursor_start": position,
        "cursor_end": position,
        "metadata": {},
    }


def inspection() -> Json:
    return {"status": "ok", "found": False, "data": {}, "metadata": {}}


def completeness() -> Json:
    return {"status": "unknown"}
