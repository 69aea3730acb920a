"""input(), getpass and sys.stdin: a request to the host, and a blocking wait for its answer.

The answers come on a socket of their own, so that whoever waits here need not look at
the requests that queue up behind the cell. Those of the host's tools come there, too: once a
tool was called, its thread reads the socket (`share`) and hands on what is ours.
"""

import io
import select
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque, List, Optional

from ...framing import Decoder, Frame, Kind
from .cells import Cells
from .channel import Channel
from .interrupts import Interrupts
from .streams import Sink

_NOT_ALLOWED = "raw_input was called, but this frontend does not support input requests."


class Input:
    """Asks the user. One question at a time."""

    def __init__(
        self, descriptor: int, channel: Channel, sink: Sink, cells: Cells, interrupts: Interrupts
    ) -> None:
        self.is_allowed = False
        # IPython has an exception of its own for this, which is a NotImplementedError.
        self.refusal: Callable[[str], BaseException] = NotImplementedError
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._decoder = Decoder({Kind.INPUT_REPLY, Kind.TOOL_REPLY})
        self._channel, self._sink = channel, sink
        self._cells, self._interrupts = cells, interrupts
        self._lock = threading.Lock()
        self._is_shared = False
        self._handed: Deque[Optional[Frame]] = deque()  # None: there will be no more
        self._bell = threading.Lock()

    def ask(self, prompt: str, is_password: bool = False) -> str:
        """Show `prompt`, wait for a line, return it without its end.

        Raises:
            EOFError: nobody will ever answer.
        """
        if not self.is_allowed or not self._channel.is_ours:
            raise self.refusal(_NOT_ALLOWED)
        with self._lock:
            cell = self._cells.current()
            self._drop_answers(cell)
            self._sink.flush()
            meta = {"prompt": prompt, "password": is_password}
            self._channel.send(Kind.INPUT_REQUEST, cell, meta)
            while True:
                if self._is_shared:
                    self._bell.acquire()
                else:
                    self._poll.poll()
                answer = self._read(cell)
                if answer is not None:
                    return answer

    def _drop_answers(self, cell: int) -> None:
        """Those to a question that was interrupted."""
        try:
            while self._read(cell) is not None:
                pass
        except EOFError:
            pass  # of the last question; a socket that is closed says so again

    def _read(self, cell: int) -> Optional[str]:
        """The answer for `cell` if it is there; drops answers for others."""
        with self._interrupts:
            frames = self._take_handed() if self._is_shared else self._receive()
            if frames is None:
                raise EOFError("The sandbox's input was closed.")
            for frame in frames:
                if frame.cell == cell and frame.kind == Kind.INPUT_REPLY:
                    if frame.meta:  # {"eof": true}
                        raise EOFError("There is no more input.")
                    return frame.data.decode("utf-8", "replace")
        return None

    def _receive(self) -> Optional[List[Frame]]:
        """What has come; None at the end."""
        try:
            chunk = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._decoder.feed(chunk) if chunk else None

    def _take_handed(self) -> Optional[List[Frame]]:
        taken: List[Frame] = []
        while self._handed:
            frame = self._handed.popleft()
            if frame is None:
                self._handed.append(None)
                return None
            taken.append(frame)
        return taken

    def share(self) -> Optional[Callable[[], Optional[List[Frame]]]]:
        """The caller's thread reads from here on: by what this returns, over and over.

        It waits for what is not ours; None is the end. None in its place: a question is being
        asked, and its thread reads.
        """
        if not self._lock.acquire(blocking=False):
            return None
        self._is_shared = True
        self._bell.acquire(blocking=False)
        self._lock.release()
        return self._receive_for_others

    def unshare(self) -> None:
        """Nobody else reads after all."""
        self._is_shared = False

    def _receive_for_others(self) -> Optional[List[Frame]]:
        self._poll.poll()
        frames = self._receive()
        ours = [frame for frame in frames or () if frame.kind == Kind.INPUT_REPLY]
        self._handed.extend(ours if frames is not None else [None])
        if ours or frames is None:
            with suppress(RuntimeError):  # rung already
                self._bell.release()
        return None if frames is None else [f for f in frames if f.kind != Kind.INPUT_REPLY]

    def input(self, prompt: object = "", /) -> str:
        """What `builtins.input` is."""
        return self.ask(str(prompt))

    def getpass(self, prompt: str = "Password: ", stream: Any = None, **_options: Any) -> str:
        """What `getpass.getpass` is."""
        return self.ask(prompt, is_password=True)

    def patch_getpass(self) -> None:
        """Make getpass ask the host, not a terminal."""
        import getpass

        getpass.getpass = self.getpass


class Stdin(io.TextIOBase):
    """What user code finds as sys.stdin: each line is asked of the user."""

    encoding = "utf-8"
    errors = "strict"
    mode = "r"
    name = "<stdin>"

    def __init__(self, source: Input) -> None:
        self._source = source

    def readline(self, _size: Optional[int] = -1) -> str:  # type: ignore[override]
        """Ask for one line."""
        return self._source.ask("") + "\n"

    def read(self, _size: Optional[int] = -1) -> str:
        """Ask for one line: a notebook has no end of input."""
        return self.readline()

    def readable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Never."""
        return False

    def fileno(self) -> int:
        """The descriptor that subprocesses inherit: /dev/null."""
        return 0

    def close(self) -> None:
        """Ignored: the next cell may want to ask."""

    def __del__(self) -> None:
        """Nothing: `io.IOBase` would close."""
