"""The first process inside a sandbox: `python -I -S .../guest/supervisor.py`.

It owns the one stream to the host (its standard input and output), starts a runner and
never runs user code. This file is only the beginning, in the order in which things must
happen; `supervision` is the event loop that follows.

Rule 1: the runner starts as soon as the host has said which. Everything that can be
imported later is imported after that, so both start side by side; hence no `json`
and no `typing` in this file, `configuration` and `processes`.
Rule 2: the runner inherits nothing but /dev/null, its pipes and its two sockets.
Rule 3: user code runs only after `_hide_memory`: no request is passed on before.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from configuration import Configuration, read_configuration  # type: ignore[import-not-found]
from processes import ignore_interrupts, spawn  # type: ignore[import-not-found]


def main() -> None:
    ignore_interrupts()
    host_in, host_out, last_words = take_stream()
    try:
        configuration = read_configuration(host_in)
        _supervise(configuration, host_in, host_out)
    except BaseException as error:  # the one place: say why, then end with all inside
        _say(last_words, error)
        os._exit(70)
    os._exit(0)


def _supervise(configuration: Configuration, host_in: int, host_out: int) -> None:
    runner = spawn(configuration, 1)
    _hide_memory()
    from supervision import Supervisor  # type: ignore[import-not-found]

    Supervisor(configuration, runner, host_in, host_out).run()


def take_stream() -> "tuple[int, int, int]":
    """Move 0, 1 and 2 to private descriptors, close what leaked in, put /dev/null there.

    The copies are close-on-exec, as everything that Python opens: no child gets them.
    """
    _close_leaked()
    private = os.dup(0), os.dup(1), os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return private


def _close_leaked() -> None:
    """Close every descriptor but 0, 1, 2: a directory of the host's would be a way out."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc
        os.closerange(3, 4096)
        return
    for fd in fds:
        if fd > 2:
            try:  # noqa: SIM105
                os.close(fd)
            except OSError:  # the listing's own
                pass


def _hide_memory() -> None:
    """Mark this process non-dumpable: the guest's processes cannot trace or read it."""
    try:
        import ctypes

        PR_SET_DUMPABLE = 4
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # A Python without ctypes (Alpine's minimal ones). Other process, other user or
        # the kernel's ptrace rules still guard this one; the host trusts neither.
        pass


def _say(fd: int, error: BaseException) -> None:
    line = "supervisor: %s: %s\n" % (type(error).__name__, error)
    try:  # noqa: SIM105
        os.write(fd, line.encode("utf-8", "backslashreplace")[:4096])
    except OSError:
        pass


if __name__ == "__main__":
    main()
