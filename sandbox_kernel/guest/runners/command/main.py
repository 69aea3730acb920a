"""Answers the supervisor's requests by running one command a cell.

Rule 1: the command has the cell's own pipes; what it prints never passes through here.
Rule 2: it stays in this process's group, so the supervisor's signals reach it. This process
hears SIGINT too, and only notes it.
Rule 3: what it leaves running may go on; it keeps the pipes of the cell that started it.
Rule 4: how it exited is in the reply: `exit_code`, 128 and the number for a signal.
"""

import os
import signal
from typing import Any, Callable, Dict, List, Optional, Tuple

from ...framing import Frame, Kind
from ..python.channel import Channel, FrameTooLarge, Request, read_json
from ..python.interrupts import Interrupts
from . import words
from .code_file import CodeFile

Json = Dict[str, Any]

# Linux: 128 KiB with the NUL at its end (MAX_ARG_STRLEN).
_MAX_ARGUMENT_BYTES = 128 * 1024


def main(arguments: List[str]) -> None:
    """Serve until the supervisor closes its end.

    Args:
        arguments: display name ("" where nobody is to be told how cells run), extension,
            opening (see `Language`), programs joined by spaces, then the command's own
            arguments, of which `{file}` is the file of code, and `{code}` the code itself.
    """
    channel = Channel(_take_fd("SANDBOX_RUNNER_FD"), Interrupts())
    os.close(_take_fd("SANDBOX_INPUT_FD"))  # a command cannot ask anything
    display_name, extension, opening, programs = arguments[:4]
    server = Server(channel, display_name, extension, opening, programs, arguments[4:])
    signal.signal(signal.SIGINT, server.note_interrupt)
    channel.send(Kind.RUNNER_READY, 0, server.info())
    server.serve()


def _take_fd(name: str) -> int:
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd


class Server:
    """Reads requests; runs cells and answers the rest with what can be said honestly."""

    def __init__(
        self,
        channel: Channel,
        display_name: str,
        extension: str,
        opening: str,
        programs: str,
        arguments: List[str],
    ) -> None:
        self._channel = channel
        self._display_name = display_name
        self._extension = extension
        self._opening = opening
        self._programs = programs.split()
        self._arguments = arguments
        self._is_interrupted = False
        self._exit_code: Optional[int] = None
        self._has_told = not display_name
        self._answers: Dict[int, Callable[[Json], Json]] = {
            Kind.COMPLETE: lambda meta: words.completion(meta.get("cursor_pos")),
            Kind.INSPECT: lambda meta: words.inspection(),
            Kind.IS_COMPLETE: lambda meta: words.completeness(),
            Kind.COMM: lambda meta: {"status": "ok"},
            Kind.ATTACH: _attach,
        }

    def info(self) -> Json:
        """What RUNNER_READY says."""
        return {
            "implementation": "command",
            "version": "",
            "ipython": None,
            "banner": words.notice(self._display_name) if self._display_name else "",
        }

    def note_interrupt(self, _number: int, _frame: Any) -> None:
        self._is_interrupted = True

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        while True:
            request = self._channel.receive()
            if request is None:
                return
            self._answer(request)

    def _answer(self, request: Request) -> None:
        frame, meta = request.frame, read_json(request.frame)
        if frame.kind == Kind.EXECUTE:
            content = self._execute(request, meta)
        else:
            answer = self._answers.get(frame.kind)
            content = answer(meta) if answer else {"status": "error"}
        self._send_reply(frame.cell, content)

    def _send_reply(self, cell: int, content: Json) -> None:
        try:
            self._channel.send(Kind.REPLY, cell, content)
        except FrameTooLarge:  # of expressions with endless names
            self._channel.send(Kind.REPLY, cell, {"status": content.get("status")})

    def _execute(self, request: Request, meta: Json) -> Json:
        self._is_interrupted = False
        self._exit_code = None
        frame = request.frame
        if not (self._has_told or meta.get("silent")):
            self._has_told = True
            text = words.notice(self._display_name).encode("utf-8")
            self._channel.send(Kind.STDERR, frame.cell, None, text)
        error = self._run(frame, meta.get("execution_count"), request.descriptors)
        if error is not None:
            self._channel.send(Kind.ERROR, frame.cell, error)
        asked = meta.get("user_expressions")
        return {
            "status": "ok" if error is None else "error",
            "user_expressions": words.expressions(asked if isinstance(asked, dict) else {}),
            "exit_code": self._exit_code,
        }

    def _run(self, frame: Frame, count: Any, descriptors: Tuple[int, ...]) -> Optional[Json]:
        """Run the cell to its end: the content of an ERROR frame, or None."""
        try:
            program = find_program(self._programs)
            if program is None:
                return words.missing(self._programs)
            if "{code}" in self._arguments and _is_argument(frame.data):
                code = os.fsdecode(frame.data)
                argv = [code if item == "{code}" else item for item in self._arguments]
                return self._wait_for([program, *argv], descriptors)
            name = "cell-%s%s" % (count if isinstance(count, int) else 0, self._extension)
            with CodeFile(name, self._with_opening(frame.data)) as path:
                if not path:
                    return words.unwritten()
                code = ". " + os.path.join(".", path)
                argv = [
                    code if item == "{code}" else item.replace("{file}", path)
                    for item in self._arguments
                ]
                return self._wait_for([program, *argv], descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)

    def _with_opening(self, code: bytes) -> bytes:
        opening = self._opening.encode("utf-8")
        # `<?xml` and `<?=` open a file of PHP as well as `<?php` does.
        if not opening or code.lstrip().startswith(opening[:2]):
            return code
        return opening + code

    def _wait_for(self, argv: List[str], descriptors: Tuple[int, ...]) -> Optional[Json]:
        try:
            pid = _spawn(argv, descriptors)
        except BlockingIOError:
            return words.crowded()
        except OSError as error:
            return words.failure("CommandFailed", "%s: %s." % (argv[0], error.strerror))
        if self._is_interrupted:  # before the command could hear it
            os.kill(pid, signal.SIGINT)
        status = os.waitpid(pid, 0)[1]
        self._exit_code = _exit_code(status)
        if status == 0:
            return None
        if self._is_interrupted:
            return words.interrupted()
        if os.WIFSIGNALED(status):
            return words.killed(os.WTERMSIG(status))
        return words.failed(os.WEXITSTATUS(status))


def _is_argument(code: bytes) -> bool:
    """Whether Linux takes it as one argument."""
    return len(code) < _MAX_ARGUMENT_BYTES and b"\0" not in code


def _exit_code(status: int) -> int:
    """As shells have it."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def _attach(meta: Json) -> Json:
    """Packages came in meanwhile: the next command finds them by its environment."""
    os.environ.update(meta.get("environment") or {})
    return {"status": "ok"}


def find_program(names: List[str]) -> Optional[str]:
    """The path of the first of `names` that PATH has."""
    for name in names:
        for directory in os.get_exec_path():
            path = os.path.join(directory, name)
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
    return None


def _spawn(argv: List[str], descriptors: Tuple[int, ...]) -> int:
    # Our own are close-on-exec; 0 is /dev/null already.
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(descriptors, 1)]
    # What Python ignores, and what it handles, the command starts without.
    restored = [signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsigdef=restored)
