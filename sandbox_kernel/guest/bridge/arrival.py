"""From a kernel that was started to one that answers.

Rule 1: ready means that a cell's first output cannot be missed: iopub has brought something.
Rule 2: a kernel that ends or stays silent is an answer, too: `Unusable`, with its last words.
"""

import os
import select
import time
from typing import NamedTuple

from . import translation
from .arguments import Unusable
from .connection import Connection
from .kernel_process import CHANNELS, Directory, KernelProcess
from .wire import Json, Wire
from .zmtp import Skipped, ZmtpError

# Slow machines start slow kernels: Julia's takes tens of seconds.
TIMEOUT_S = 120.0
_FIRST_LOOK_S, _LAST_LOOK_S = 0.002, 0.02
# From the kernel's answer to the same on iopub; longer means that our subscription came late.
_ASK_AGAIN_S = 0.1
_LAST_WORDS_BYTES = 2000


class Arrived(NamedTuple):
    """A kernel that answers."""

    connection: Connection
    wire: Wire
    session: str  # what our messages' ids begin with
    info: Json  # of RUNNER_READY


def bring_up(kernel: KernelProcess, directory: Directory) -> Arrived:
    """Wait for the kernel; then nobody else can reach it any more.

    Raises:
        Unusable: it ended, or does not answer.
    """
    return _Arrival(kernel, directory).wait()


class _Arrival:
    def __init__(self, kernel: KernelProcess, directory: Directory) -> None:
        self._kernel, self._directory = kernel, directory
        self._connection = Connection({name: directory.address(name) for name in CHANNELS})
        self._wire = Wire(directory.key)
        self._session = os.urandom(8).hex()
        self._words = b""
        self._content: Json = {}
        self._is_heard = False  # on iopub
        self._asked = 0
        self._asked_s = 0.0

    def wait(self) -> Arrived:
        end_s = time.monotonic() + TIMEOUT_S
        look_s = _FIRST_LOOK_S
        try:
            while not (self._content and self._is_heard):
                if self._kernel.reap():
                    raise Unusable(self._explain("ended at its start"))
                if time.monotonic() > end_s:
                    raise Unusable(self._explain("does not answer"))
                if self._connection.connect():
                    self._ask()
                    look_s = _LAST_LOOK_S
                self._listen(look_s)
                look_s = min(look_s * 1.1, _LAST_LOOK_S)
        except ZmtpError as error:
            raise Unusable(str(error)) from None
        self._directory.remove()
        info = translation.info(self._content)
        return Arrived(self._connection, self._wire, self._session, info)

    def _ask(self) -> None:
        """Say hello, again when the answer was not broadcast to us."""
        now_s = time.monotonic()
        if not self._connection.is_ready or (self._asked and not self._content):
            return
        if now_s < self._asked_s + _ASK_AGAIN_S:
            return
        self._asked += 1
        self._asked_s = now_s
        # Not a cell's: numbers begin at 1.
        parts = self._wire.encode("kernel_info_request", self._session + "-0", {})
        self._connection.shell.send(parts)

    def _listen(self, timeout_s: float) -> None:
        poll = select.poll()
        for peer in self._connection.peers.values():
            if peer.fileno() >= 0 and not peer.is_closed:
                events = select.POLLIN | (select.POLLOUT if peer.unsent_bytes else 0)
                poll.register(peer.fileno(), events)
        for fd in (self._kernel.stdout, self._kernel.stderr):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout_s * 1000)}
        self._hear_words()
        if ready & {self._kernel.stdout, self._kernel.stderr} and len(ready) == 1:
            time.sleep(_FIRST_LOOK_S)  # a closed pipe is always ready
        for name, peer in self._connection.peers.items():
            peer.flush()
            for parts in peer.receive():
                self._take(name, parts)

    def _take(self, name: str, parts: object) -> None:
        if isinstance(parts, Skipped) or not isinstance(parts, list):
            return
        message = self._wire.decode(parts)
        if message is None:
            return
        if name == "iopub":
            self._is_heard = True
        elif name == "shell" and message.kind == "kernel_info_reply":
            self._content = message.content or {"status": "ok"}

    def _hear_words(self) -> None:
        for fd in (self._kernel.stdout, self._kernel.stderr):
            words = self._kernel.read(fd)
            self._words = (self._words + words)[-_LAST_WORDS_BYTES:]

    def _explain(self, what: str) -> str:
        self._hear_words()
        words = self._words.decode("utf-8", "replace").strip()
        said = " It said: %s" % words if words else ""
        return "The Jupyter kernel %s.%s" % (what, said)
