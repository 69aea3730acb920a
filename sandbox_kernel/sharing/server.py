"""The kernel's end: a socket in a private place, and what a driver may ask for.

A connection begins with a greeting by the kernel; then the driver says who it is ("join"),
and from then on sends requests, each with a number of its own, as many at once as it likes.

    execute, install          run as cells, in turn with the notebook's
    input, interrupt          for the driver's own cells, unless it says otherwise
    complete, inspect, is_complete, status, packages, start, restart, file

To add a request: a row in `_VERBS`, and who answers: the host, or a row in `Driver._own`.

Rule 1: a request has just the fields of its row, each of its type, or is refused.
Rule 2: every request is answered once, whatever happens, as long as the driver is there.
Rule 3: who does not read is dropped: nothing is kept for it without bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol

from sandbox_kernel import __version__, events
from sandbox_kernel.errors import RequestRefused, SandboxKernelError
from sandbox_kernel.sharing import places, values, wire
from sandbox_kernel.sharing.wire import Json, ProtocolError

# Agents of one person; more is somebody's loop.
MAX_DRIVERS = 16
# Requests of one driver that are not answered yet.
MAX_PENDING = 100
# What a driver that doesn't read may make us keep.
MAX_HELD_BYTES = 128 * 1024 * 1024
JOIN_PATIENCE_S = 10.0
ACCEPT_PAUSE_S = 1.0
MAX_NAME_CHARACTERS = 64
MAX_CODE_CHARACTERS = 8 * 1024 * 1024

_NUMBER = (int, float)
# verb: field -> (types, must it be there)
_VERBS: dict[str, dict[str, tuple[tuple[type, ...], bool]]] = {
    "start": {},
    "execute": {
        "code": ((str,), True),
        "runner": ((str,), False),
        "timeout_s": ((*_NUMBER, type(None)), False),  # absent: the notebook's own
        "memory_bytes": ((int, type(None)), False),
        "cpus": ((*_NUMBER, type(None)), False),
        "allow_stdin": ((bool,), False),
        "silent": ((bool,), False),
        "store_history": ((bool,), False),
    },
    "install": {"packages": ((list,), True)},
    "input": {"text": ((str, type(None)), True)},  # null: there will be no more
    # of: the number of one of the driver's requests, 0: all of them, -1: whatever runs
    "interrupt": {"of": ((int,), False)},
    "complete": {"code": ((str,), True), "cursor_pos": ((int,), True), "runner": ((str,), False)},
    "inspect": {
        "code": ((str,), True),
        "cursor_pos": ((int,), True),
        "detail_level": ((int,), False),
        "runner": ((str,), False),
    },
    "is_complete": {"code": ((str,), True), "runner": ((str,), False)},
    "packages": {},  # those that are attached
    "status": {},
    "restart": {},
    "file": {"kind": ((int,), True), "meta": ((dict,), True)},
}
OWN, ANYONES = 0, -1


Hear = Callable[[events.Event], None]
Begun = Callable[[int], None]


class Answer(NamedTuple):
    """To a request. `data`: the bytes of a file."""

    content: Json
    data: bytes = b""


class Cell(Protocol):
    """A cell of a driver's on its way, as the kernel keeps it."""

    @property
    def is_running(self) -> bool: ...

    async def ended(self) -> Json:
        """Wait for its end; what to answer.

        Raises:
            SandboxKernelError: it could not be run at all.
        """
        ...


class Host(Protocol):
    """The kernel, as far as drivers are concerned."""

    def describe(self) -> Json: ...

    def now(self) -> Json: ...

    def begin(self, driver: Driver, wanted: Json, hear: Hear, begun: Begun) -> Cell: ...

    def stop(self, cell: Cell) -> None:
        """Interrupt `cell`, or take it out of the queue."""

    def forget(self, cell: Cell) -> None:
        """Nobody waits for it any more."""

    async def interrupt(self) -> None: ...

    def answer_input(self, text: str | None) -> None: ...

    async def ask(self, driver: Driver, verb: str, wanted: Json, data: bytes) -> Answer: ...

    def log_failure(self, text: str) -> None:
        """Of ours, while it is being handled."""


class Sharing:
    """Lets drivers into one session. `open` needs the running loop."""

    def __init__(self, host: Host) -> None:
        self.session_id = places.new_id()
        self.problem = ""
        self.path = ""
        self._host = host
        self._place: places.Place | None = None
        self._listener: socket.socket | None = None
        self._drivers: dict[Driver, asyncio.Task[None]] = {}

    @property
    def is_open(self) -> bool:
        return self._listener is not None

    @property
    def drivers(self) -> list[Driver]:
        """Those that said who they are."""
        return [driver for driver in self._drivers if driver.name]

    def open(self) -> None:
        """Listen. When that is impossible `problem` says why; the notebook works all the same."""
        try:
            self._place = places.make()
            self._listener = places.listening(self._place, self.session_id)
        except OSError as error:
            self.problem = (
                f"{error.strerror or error}{f': {error.filename}' * bool(error.filename)}"
            )
            return
        self.path = os.path.join(self._place.path, self.session_id + places.ENDING)
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self, farewell: str) -> None:
        """Let nobody in any more, and tell those who are here why. Safe to call twice."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.remove(self.session_id + places.ENDING)
            self._place.close()
            self._place = None
        for driver in list(self._drivers):
            driver.dismiss(farewell)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer, _ = self._listener.accept()
        except OSError:  # it went away again, or we have no descriptors left: ask no more,
            loop = asyncio.get_running_loop()  # since that would be asked again at once
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_PAUSE_S, self._listen)
            return
        if len(self._drivers) >= MAX_DRIVERS or places.stranger(peer):
            peer.close()
            return
        driver = Driver(self._host, self.session_id)
        task = asyncio.ensure_future(driver.serve(peer))
        self._drivers[driver] = task
        task.add_done_callback(lambda _task: self._drivers.pop(driver, None))


class Driver:
    """One connection."""

    def __init__(self, host: Host, session_id: str) -> None:
        self.name = ""
        self.pid = 0
        self._host = host
        self._session_id = session_id
        self._writer: asyncio.StreamWriter | None = None
        self._cells: dict[int, Cell] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # What has to do with this driver's cells; the host answers all else.
        self._own: dict[str, Callable[[int, Json], Coroutine[Any, Any, Json]]] = {
            "execute": self._execute,
            "install": self._execute,
            "input": self._input,
            "interrupt": self._interrupt,
        }

    async def serve(self, peer: socket.socket) -> None:
        """Until either end closes."""
        self.pid = places.peer_pid(peer)
        reader, self._writer = await asyncio.open_connection(sock=peer)
        try:
            self._send({"kind": "hello", **self._greeting()})
            if await self._join(reader):
                await self._take_requests(reader)
        except ProtocolError as error:
            self._send({"kind": "closed", "text": f"A request was no message: {error}."})
        finally:
            self._leave()

    def dismiss(self, farewell: str) -> None:
        """Say why, and hang up."""
        self._send({"kind": "closed", "text": farewell})
        if self._writer is not None:
            self._writer.close()

    def _greeting(self) -> Json:
        own = {"protocol": wire.PROTOCOL, "version": __version__, "session_id": self._session_id}
        return {**self._host.describe(), **own, "now": self._host.now()}

    async def _join(self, reader: asyncio.StreamReader) -> bool:
        """Whether it stays. Who only wants the greeting, as `list` does, says nothing."""
        try:
            async with asyncio.timeout(JOIN_PATIENCE_S):
                message = await wire.read(reader, wire.MAX_REQUEST_BYTES)
        except TimeoutError:
            return False
        if message is None:
            return False
        name = message[0].get("driver")
        is_name = isinstance(name, str) and name.isprintable() and name.strip()
        if message[0].get("verb") != "join" or not is_name:
            raise ProtocolError("a driver says who it is first")
        self.name = str(name)[:MAX_NAME_CHARACTERS]
        return True

    async def _take_requests(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await wire.read(reader, wire.MAX_REQUEST_BYTES)
            if message is None:
                return
            wanted, data = message
            number = wanted.pop("id", None)
            if not isinstance(number, int) or number <= 0 or number in self._tasks:
                raise ProtocolError("a request has no number of its own")
            if len(self._tasks) >= MAX_PENDING:
                self._refuse(number, RequestRefused("Wait for answers before asking for more."))
                continue
            work = self._answer(number, wanted, data)
            task = self._tasks[number] = asyncio.ensure_future(work)
            task.add_done_callback(partial(self._forget, number))

    def _forget(self, number: int, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)

    def _leave(self) -> None:
        """Whoever goes away takes its cells along; the notebook goes on."""
        for cell in list(self._cells.values()):
            self._host.stop(cell)
        for number, task in list(self._tasks.items()):
            if number not in self._cells:
                task.cancel()
        if self._writer is not None:
            self._writer.close()
        self.name = ""

    # -- answering -------------------------------------------------------------

    async def _answer(self, number: int, wanted: Json, data: bytes) -> None:
        try:
            verb = _checked(wanted)
            if (handler := self._own.get(verb)) is not None:
                found = Answer(await handler(number, wanted))
            else:
                found = await self._host.ask(self, verb, wanted, data)
            answer = {"id": number, "kind": "answer", "content": found.content}
            self._send({**answer, "now": self._host.now()}, found.data)
        except SandboxKernelError as error:
            self._refuse(number, error)
        except ProtocolError as error:
            self._refuse(number, RequestRefused(f"The answer cannot be sent: {error}."))
        except Exception as error:  # a bug of ours: its driver must not wait for ever
            self._host.log_failure(f"A driver's request failed: {type(error).__name__}.")
            self._refuse(number, RequestRefused("The kernel failed; its log says more."))

    async def _execute(self, number: int, wanted: Json) -> Json:
        def hear(event: events.Event) -> None:
            self._tell(number, event)

        def begun(cell: int) -> None:
            self._send({"id": number, "kind": "begun", "cell": cell})

        cell = self._cells[number] = self._host.begin(self, wanted, hear, begun)
        try:
            return await cell.ended()
        finally:
            self._cells.pop(number, None)
            self._host.forget(cell)

    async def _input(self, _number: int, wanted: Json) -> Json:
        if any(cell.is_running for cell in self._cells.values()):
            self._host.answer_input(wanted["text"])
        return {}

    async def _interrupt(self, _number: int, wanted: Json) -> Json:
        of = wanted.get("of", OWN)
        if of == ANYONES:
            await self._host.interrupt()
        elif of == OWN:
            for cell in list(self._cells.values()):
                self._host.stop(cell)
        elif of in self._cells:
            self._host.stop(self._cells[of])
        return {}

    # -- sending ---------------------------------------------------------------

    def _tell(self, number: int, event: events.Event) -> None:
        content, data = values.to_json(event)
        try:
            self._send({"id": number, "kind": "event", "event": content}, data)
        except ProtocolError as error:
            note = f"[sandbox] An output is not passed on: {error}.\n"
            self._tell(number, events.TextWritten(event.cell, "stderr", note))

    def _refuse(self, number: int, error: SandboxKernelError) -> None:
        answer = {"id": number, "kind": "error", "name": type(error).__name__, "text": str(error)}
        self._send({**answer, "now": self._host.now()})

    def _send(self, message: Json, data: bytes = b"") -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        writer.write(wire.pack(message, data))
        if writer.transport.get_write_buffer_size() > MAX_HELD_BYTES:
            writer.transport.abort()


def _checked(wanted: Json) -> str:
    """The verb of a request whose fields are as they should be; takes the verb out.

    Raises:
        RequestRefused: there is no such request, or it has other fields.
    """
    verb = wanted.pop("verb", None)
    fields = _VERBS.get(verb) if isinstance(verb, str) else None
    if fields is None or not isinstance(verb, str):
        raise RequestRefused(f"There is no request {str(verb)[:50]!r}; there are {_known()}.")
    for name, value in wanted.items():
        if name not in fields or not _is_of(value, fields[name][0]):
            raise RequestRefused(f"The request {verb} has no {name[:50]!r} of that kind.")
    missing = [name for name, (_, is_needed) in fields.items() if is_needed and name not in wanted]
    if missing:
        raise RequestRefused(f"The request {verb} has no {missing[0]!r}.")
    if len(wanted.get("code", "")) > MAX_CODE_CHARACTERS:
        raise RequestRefused("The code is over 8 MiB. Put data into a file, and write that.")
    return verb


def _is_of(value: Any, types: tuple[type, ...]) -> bool:
    # To Python True is an int.
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _known() -> str:
    return ", ".join(_VERBS)
