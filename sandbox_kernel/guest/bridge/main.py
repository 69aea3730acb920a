"""Puts the bridge together: the kernel first, then all that is needed to speak with it."""

import os
import signal

from . import kernel_process
from .arguments import Command, Unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

    from .kernel_process import Directory, KernelProcess


def main(arguments: "List[str]") -> None:
    """Serve until the supervisor closes its end or the kernel ends.

    Args:
        arguments: see `arguments`.
    """
    requests, inputs = _take_fd("SANDBOX_RUNNER_FD"), _take_fd("SANDBOX_INPUT_FD")
    wakeup = _hear_signals()
    command = Command(arguments)
    started, problem = _start(command)

    # Only now, while the kernel starts: these imports cost.
    from ..runners.python.channel import Channel
    from ..runners.python.interrupts import Interrupts
    from .arrival import bring_up
    from .server import Server
    from .unavailable import serve_nothing

    channel = Channel(requests, Interrupts())
    if started is not None:
        kernel, directory = started
        try:
            arrived = bring_up(kernel, directory)
        except Unusable as error:
            problem = str(error)
            kernel.kill()
        else:
            Server(channel, inputs, wakeup, kernel, command, arrived).serve()
        finally:
            directory.remove()
    serve_nothing(channel, command, problem)


def _start(command: Command) -> "Tuple[Optional[Tuple[KernelProcess, Directory]], str]":
    """(the kernel and where its sockets will be, or None; why there is none)."""
    directory = None
    try:
        command.resolve()
        directory = kernel_process.Directory(command.has_tcp)
        return (kernel_process.start(command, directory.connection_file), directory), ""
    except Unusable as error:
        return None, str(error)
    except FileNotFoundError as error:
        problem = "There is no %s in this sandbox." % error.filename
        if directory is None:
            problem = "There is no place for the kernel's sockets."
    except OSError as error:
        problem = "The kernel cannot be started: %s." % error.strerror
    if directory is not None:
        directory.remove()
    return None, problem


def _take_fd(name: str) -> int:
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd


def _hear_signals() -> int:
    """Have SIGINT and SIGCHLD do no more than write a byte; the descriptor that it comes from.

    Python's own handler must run, or the kernel would inherit an ignored SIGINT.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    return read_fd
