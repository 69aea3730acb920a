"""A session's frames to lines for `supervisor.sh`, and what it says to frames. No I/O.

Rule 1: what comes out of the container is a hostile program's: it is passed on as output of
its cell, within the budget, or it is a mark with a token of ours. It never raises.
Rule 2: every answer waits for a word of the container, so that all that was printed before
comes before, and a container that does not live answers nothing.
Rule 3: what cannot be done without Python is refused with the remedy, or answered emptily.

The token of a cell is known to the shell alone, whose memory a hostile cell may read: then
it can end itself early or hide its end, until it is interrupted. A forged answer says
something false about that sandbox.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from sandbox_kernel.backends.docker.shell import lines
from sandbox_kernel.backends.docker.shell.cell import Cell
from sandbox_kernel.backends.docker.shell.marks import Mark, Scanner
from sandbox_kernel.guest.framing import REQUEST_KINDS, Decoder, Frame, Kind, pack
from sandbox_kernel.guest.runners.command import words
from sandbox_kernel.languages import SHELL, Language, get

_STREAMS = {1: Kind.STDOUT, 2: Kind.STDERR}
# The shell reads one character at a time: a million takes half a second.
MAX_CODE_BYTES = 1024 * 1024
# Answers that the container owes. A host has a few at a time; a dead shell pays none.
_MAX_OWED = 1000
_NO_FILES = (
    "This image has no Python 3.8 or newer, so files cannot be moved in or out. "
    "Choose an image that has it with --image, or mount a directory with --mount."
)
_NO_COMMS = (
    "This image has no Python 3.8 or newer, so widgets have nobody to talk to. "
    "Choose an image that has it with --image."
)
_NO_RUNNERS = (
    "This image has no Python 3.8 or newer, so it runs one language and takes no packages while "
    "it runs. Choose an image that has it with --image."
)
_NO_PORTS = (
    "This image has no Python 3.8 or newer, so none of its ports can be forwarded. "
    "Choose an image that has it with --image."
)
_FILE_KINDS = (Kind.FILE_LIST, Kind.FILE_READ, Kind.FILE_WRITE, Kind.FILE_REMOVE)

Json = dict[str, Any]
Answer = Callable[[int], bytes]  # the number that the container said -> frames


class ShellGuest:
    """The host's half of a guest without Python 3.

    Args:
        language: what its cells are written in.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, language: Language, clock: Callable[[], float] = time.monotonic) -> None:
        self._language = language
        self._clock = clock
        self._decoder = Decoder(REQUEST_KINDS)
        self._scanners = {number: Scanner(self._is_awaited) for number in _STREAMS}
        self._speakers: dict[int, Cell | None] = dict.fromkeys(_STREAMS)
        self._owed: dict[str, Answer] = {}
        self._halts: dict[str, _Halt] = {}
        self._cell: Cell | None = None
        self._limits: Json = {}
        self._generation = 1
        self._began_s = clock()
        self._is_ready = self._has_told = False
        self._due = b""

    # -- from the session

    def hear_host(self, data: bytes) -> bytes:
        """Frames of the session's -> bytes for the container's standard input."""
        return b"".join(self._on_request(frame) for frame in self._decoder.feed(data))

    def take_for_host(self) -> bytes:
        """Frames that are due without a word of the container; after the first `hear_host`."""
        due, self._due = self._due, b""
        return due

    def _on_request(self, frame: Frame) -> bytes:
        kind, cell = frame.kind, frame.cell
        if kind == Kind.CONFIGURE:
            return self._configure(frame.read_meta())
        if kind == Kind.EXECUTE:
            return self._execute(frame)
        if kind == Kind.SIGNAL:
            return self._signal(frame)
        if kind == Kind.RESTART_RUNNER:
            return self._halt(_Halt("restarted", cell))
        if kind == Kind.STATUS:
            return lines.count(self._owe(lambda number: self._status(cell, number)))
        if kind in (Kind.INPUT_REPLY, Kind.PORT_DATA, Kind.PORT_CLOSE, Kind.PORT_CREDIT):
            return b""  # nothing here ever asks, or is open
        return self._answer(self._refusal_or_reply(frame))

    def _refusal_or_reply(self, frame: Frame) -> bytes:
        kind, cell = frame.kind, frame.cell
        if kind in _FILE_KINDS:
            return _refusal(cell, _NO_FILES)
        if kind == Kind.COMM:
            return _refusal(cell, _NO_COMMS)
        if kind == Kind.PORT_OPEN:
            return _refusal(cell, _NO_PORTS)
        if kind == Kind.ADD_RUNNER and frame.read_meta().get("name") == SHELL:
            return pack(Kind.ANSWER, cell, {})
        if kind in (Kind.ADD_RUNNER, Kind.ATTACH):
            return _refusal(cell, _NO_RUNNERS)
        if kind == Kind.INSPECT:
            return pack(Kind.REPLY, cell, words.inspection())
        if kind == Kind.IS_COMPLETE:
            return pack(Kind.REPLY, cell, words.completeness())
        return pack(Kind.REPLY, cell, words.completion(frame.read_meta().get("cursor_pos")))

    def _configure(self, meta: Json) -> bytes:
        self._limits = meta["limits"]
        self._due += pack(Kind.RUNNER_STARTED, 0, {"generation": self._generation})
        setup = lines.setup(meta["workspace"], meta["environment"])
        return setup + lines.say(self._owe(lambda _: self._ready()))

    def _execute(self, frame: Frame) -> bytes:
        cell = Cell(frame, self._limits["output_bytes"], self._clock())
        if self._cell is not None or len(frame.data) > MAX_CODE_BYTES:
            return self._answer(cell.ended(_unstartable(frame), self._clock()))
        self._cell = cell
        cell.token = secrets.token_hex(16)
        language = self._language_of(cell)
        name = f".cell-{cell.count}{language.file_extension}"
        code = _with_opening(language.opening.encode(), frame.data)
        return lines.run(cell.token, name, language.programs, code, *language.command[1:])

    def _language_of(self, cell: Cell) -> Language:
        return get(SHELL) if cell.is_shell else self._language

    def _signal(self, frame: Frame) -> bytes:
        name = frame.read_meta().get("signal")
        if self._cell is None:
            return b""
        if name == "SIGKILL":
            return self._halt(_Halt("signalled", None))
        self._cell.is_interrupted = True
        return lines.stop()

    def _halt(self, halt: _Halt) -> bytes:
        token = secrets.token_hex(16)
        self._halts[token] = halt
        return lines.halt(token)

    def _answer(self, frames: bytes) -> bytes:
        """Give the session `frames` as soon as the container has said a word."""
        return lines.say(self._owe(lambda _: frames))

    def _owe(self, answer: Answer) -> str:
        token = secrets.token_hex(16)
        self._owed[token] = answer
        if len(self._owed) > _MAX_OWED:
            del self._owed[next(iter(self._owed))]
        return token

    # -- from the container

    def hear_guest(self, stream: int, data: bytes) -> bytes:
        """What the container wrote to `stream` (1 or 2), cut anywhere -> frames."""
        return self.take_for_host() + b"".join(self._hear(stream, data))

    def _hear(self, stream: int, data: bytes) -> Iterator[bytes]:
        for piece in self._scanners[stream].feed(data):
            if isinstance(piece, Mark):
                yield self._on_mark(stream, piece)
            elif (cell := self._speakers[stream]) is not None:
                yield cell.printed(_STREAMS[stream], piece)

    def _is_awaited(self, token: str) -> bool:
        is_cell = self._cell is not None and token == self._cell.token
        return is_cell or token in self._owed or token in self._halts or self._is_old(token)

    def _is_old(self, token: str) -> bool:
        """The end of a cell is told twice, by itself and by who finds it gone."""
        return any(cell is not None and token == cell.token for cell in self._speakers.values())

    def _on_mark(self, stream: int, mark: Mark) -> bytes:
        if mark.token in self._owed:
            return self._owed.pop(mark.token)(mark.number) if mark.word == "said" else b""
        if mark.token in self._halts:
            return self._on_gone(stream, mark)
        cell = self._cell
        if cell is None or mark.token != cell.token:
            return b""
        if mark.word == "begin":
            self._speakers[stream] = cell
            return self._begin(cell) if stream == 2 else b""  # the notice's own
        cell.note_end(stream, mark)
        return self._end_cell(cell) if cell.is_over else b""

    def _begin(self, cell: Cell) -> bytes:
        if self._has_told or cell.is_silent or cell.is_shell:
            return b""
        self._has_told = True
        text = words.notice(self._language.display_name)
        return pack(Kind.STDERR, cell.number, None, text.encode())

    def _end_cell(self, cell: Cell) -> bytes:
        self._cell = None
        return cell.ended(cell.failure(self._language_of(cell).programs), self._clock())

    def _on_gone(self, stream: int, mark: Mark) -> bytes:
        """Everything was killed: settle what that ended, in the order of `guest/lifecycle`."""
        halt = self._halts[mark.token]
        halt.streams.add(stream)
        if len(halt.streams) < len(_STREAMS):
            return b""
        del self._halts[mark.token]
        frames = pack(Kind.RUNNER_EXITED, 0, self._exit(halt.cause))
        if self._cell is not None:
            frames += self._cell.lost(self._clock())
            self._cell = None
        self._generation += 1
        frames += pack(Kind.RUNNER_STARTED, 0, {"generation": self._generation})
        if halt.asked_by is not None:
            answer = {"generation": self._generation}
            frames += pack(Kind.ANSWER, halt.asked_by, answer)
        return frames + self._ready()

    def _exit(self, cause: str) -> Json:
        return {
            "generation": self._generation,
            "cause": cause,
            "exit_code": None,
            "signal": 9,
            "detail": "",
        }

    def _ready(self) -> bytes:
        self._is_ready = True
        info = {
            "implementation": "command",
            "language": self._language.name,
            "version": "",
            "ipython": None,
            "banner": words.notice(self._language.display_name),
            "ends_processes": True,  # with each cell: nothing can be left running
        }
        return pack(Kind.RUNNER_READY, 0, info)

    def _status(self, cell: int, processes: int) -> bytes:
        state = "busy" if self._cell is not None else "idle"
        answer = {
            "processes": max(processes - 1, 0),  # as elsewhere, without the supervisor
            "runner": {
                "generation": self._generation,
                "pid": None,
                "state": state if self._is_ready else "starting",
            },
            "uptime_s": self._clock() - self._began_s,
        }
        return pack(Kind.ANSWER, cell, answer)


class _Halt:
    """A `halt` that is not answered yet."""

    def __init__(self, cause: str, asked_by: int | None) -> None:
        self.cause = cause
        self.asked_by = asked_by  # the request that wants an answer
        self.streams: set[int] = set()


def _refusal(cell: int, reason: str) -> bytes:
    return pack(Kind.REFUSAL, cell, {"reason": reason})


def _unstartable(frame: Frame) -> Json:
    if len(frame.data) > MAX_CODE_BYTES:
        value = (
            f"The cell is over the limit of {MAX_CODE_BYTES} bytes that a shell can take. "
            "Split it, or choose an image with Python 3 (--image)."
        )
    else:
        value = "Another cell is running."
    return words.failure("CommandFailed", value)


def _with_opening(opening: bytes, code: bytes) -> bytes:
    if not opening or code.lstrip().startswith(opening[:2]):
        return code
    return opening + code
