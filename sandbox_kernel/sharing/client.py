"""The program's end: a seat in the session of a live notebook.

    async with await connect(session_id) as seat:
        outcome = await seat.execute("x + 1", on_event=print)

A `SharedSeat` has the verbs of `SandboxSession`. What differs: the sandbox is the
notebook's, so `close` only leaves it; cells take their turn with the reader's; the kernel's
limits and package policy hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

from sandbox_kernel import __version__, errors, events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.errors import (
    BackendUnavailable,
    NoSuchSession,
    RequestRefused,
    SandboxDied,
    SandboxKernelError,
    SessionClosed,
    SettingsError,
)
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import Files, Outcome, State
from sandbox_kernel.session.run import Sink
from sandbox_kernel.sharing import places, values, wire
from sandbox_kernel.sharing.wire import Json, ProtocolError

# A kernel that doesn't greet by then hangs, or is stopped.
GREETING_PATIENCE_S = 10.0
# One that is being killed closes what was accepted a moment before it stops listening.
HANGUPS = 10
HANGUP_PAUSE_S = 0.05
_LIVE_ONES = "`sandbox-kernel list --sessions` shows those that are live."
_UNSET: Any = object()
OnCell = Callable[[int], None]


async def connect(session_id: str, *, driver: str = "engine") -> SharedSeat:
    """Take a seat in the session that `%sandbox status` calls `session_id`.

    Args:
        driver: what the notebook's reader sees beside the cells of this program.

    Raises:
        NoSuchSession: no live session has this id, or it is not this user's.
        BackendUnavailable: its kernel does not answer, or is of another version.
    """
    if not places.is_id(session_id):
        raise NoSuchSession(f"{session_id!r} is not the id of a session. {_LIVE_ONES}")
    for _ in range(HANGUPS):
        reader, writer = await asyncio.open_connection(sock=_found(session_id))
        with contextlib.suppress(HungUp):
            return await _seated(driver, reader, writer)
        await asyncio.sleep(HANGUP_PAUSE_S)
    raise BackendUnavailable(
        "The notebook's kernel hung up at once: too many programs are attached to it, or it is "
        "ending. Try again later."
    )


async def _seated(
    driver: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> SharedSeat:
    try:
        greeting = await greeted(reader)
        _check_version(greeting)
        writer.write(wire.pack({"verb": "join", "driver": driver}))
        return SharedSeat(greeting, reader, writer)
    except BaseException:
        writer.close()
        raise


def _found(session_id: str) -> socket.socket:
    with places.existing() as found:
        for place in found:
            try:
                peer = places.connected(place, session_id)
            except OSError as error:
                raise BackendUnavailable(
                    f"The session {session_id} is there and cannot be attached to: "
                    f"{error.strerror or error}. {_LIVE_ONES}"
                ) from None
            if peer is not None:
                return peer
    raise NoSuchSession(
        f"No live session of this user has the id {session_id}: its kernel has ended, was "
        f"restarted, or is not shared. {_LIVE_ONES}"
    )


async def greeted(reader: asyncio.StreamReader) -> Json:
    """What a kernel says first.

    Raises:
        HungUp: nothing, and then it closed.
        BackendUnavailable: it says nothing, or nothing of ours.
    """
    try:
        async with asyncio.timeout(GREETING_PATIENCE_S):
            message = await wire.read(reader)
    except TimeoutError:
        problem = f"it did not answer within {GREETING_PATIENCE_S:g} s"
    except ProtocolError as error:
        problem = f"what it says is no message of ours: {error}"
    else:
        if message is None:
            raise HungUp
        if message[0].get("kind") == "hello":
            return message[0]
        problem = "what it says is no greeting"
    raise BackendUnavailable(
        f"The notebook's kernel cannot be attached to: {problem}. Restart it, or choose another."
    )


def _check_version(greeting: Json) -> None:
    theirs = (greeting.get("protocol"), greeting.get("version"))
    if theirs != (wire.PROTOCOL, __version__):
        raise BackendUnavailable(
            f"The notebook's kernel runs sandbox-kernel {str(theirs[1])[:40]}, and this program "
            f"{__version__}. Restart the notebook's kernel, or run the program with its Python."
        )


class HungUp(Exception):
    """A kernel closed the connection without a word. Never leaves this package."""


class _Asked:
    """A request that is not answered yet."""

    def __init__(self, sink: Sink | None, on_cell: OnCell | None) -> None:
        self.sink = sink
        self.on_cell = on_cell
        self.answer: asyncio.Future[tuple[Json, bytes]] = asyncio.get_running_loop().create_future()


class SharedSeat:
    """See `SandboxSession` for what each method does and raises. Made by `connect`.

    Every method raises `SessionClosed` after the notebook was shut down, its kernel restarted
    or the seat closed, and `SandboxDied` when the kernel went away without a word.
    """

    def __init__(
        self, greeting: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.session_id = str(greeting.get("session_id"))
        self.notebook = str(greeting.get("notebook"))
        self.backend_name = str(greeting.get("backend"))
        self.spec = _spec(greeting)
        self.files = Files(self._ask_file, self.spec.limits.workspace_bytes)
        self._now: Json = {}
        self._note_now(greeting)
        self._writer = writer
        self._asked: dict[int, _Asked] = {}
        self._count = 0
        self._end: SandboxKernelError | None = None
        self._reading = asyncio.create_task(self._read(reader))

    async def __aenter__(self) -> SharedSeat:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- what is known without asking

    @property
    def limits(self) -> Limits:
        return self.spec.limits

    @property
    def boundary(self) -> str:
        return str(self._now.get("boundary", ""))

    @property
    def sandbox_id(self) -> str:
        return str(self._now.get("sandbox_id", ""))

    @property
    def state(self) -> State:
        """As of the last answer; whether the reader runs a cell just now is not known."""
        if isinstance(self._end, SessionClosed):
            return State.CLOSED
        if self._end is not None:
            return State.DEAD
        if any(asked.sink is not None for asked in self._asked.values()):
            return State.BUSY
        try:
            return State(self._now.get("state"))
        except ValueError:
            return State.IDLE

    @property
    def is_busy(self) -> bool:
        return self.state is State.BUSY

    # -- cells

    async def start(self) -> Json:
        return (await self._ask("start"))[0]

    async def execute(
        self,
        code: str,
        *,
        on_event: Sink,
        silent: bool = False,
        store_history: bool = True,
        allow_stdin: bool = False,
        execution_count: int = 0,
        timeout_s: float | None = _UNSET,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        on_cell: OnCell | None = None,
        runner: str = "",
    ) -> Outcome:
        """Run a cell, after those that the notebook has queued before it.

        Cancelling it interrupts the cell, or takes it out of the queue. `timeout_s` counts
        from when it begins. `execution_count` means nothing here: the notebook numbers.

        Raises:
            SettingsError: its limits are above those of the notebook's kernel.
        """
        wanted: Json = {"code": code, "runner": runner, "allow_stdin": allow_stdin}
        wanted |= {"silent": silent, "store_history": store_history}
        wanted |= {"memory_bytes": memory_bytes, "cpus": cpus}
        if timeout_s is not _UNSET:
            wanted["timeout_s"] = timeout_s
        return await self._run("execute", wanted, on_event, on_cell)

    async def install(self, packages: Sequence[str], *, on_event: Sink) -> list[tuple[str, str]]:
        """What a `%dependencies` line does in the notebook, by the kernel's own policy.

        Returns:
            Name and version of everything that the session has now.

        Raises:
            DependencyRefused, DependencyFailed, BackendUnavailable: they could not be had.
            RequestRefused: it was interrupted.
        """
        outcome = await self._run("install", {"packages": list(packages)}, on_event)
        if outcome.error is not None:
            raise RequestRefused(outcome.error.value or outcome.error.name)
        content, _ = await self._ask("packages")
        found = content.get("packages")
        return [(str(name), str(version)) for name, version in found or ()]

    async def attach(self, layers: list[dict[str, str]], environment: dict[str, str]) -> None:
        """Never: which packages a notebook has is its kernel's to say. See `install`.

        Raises:
            RequestRefused: always.
        """
        raise RequestRefused(
            "A notebook's packages are its kernel's to install. Ask it to, by `install`, or by "
            "%dependencies in the notebook."
        )

    async def interrupt(self, *, anyones: bool = False) -> None:
        """Stop this program's cells, those that wait for their turn too.

        `anyones`: stop whatever runs, the reader's cell as well.
        """
        await self._ask("interrupt", {"of": -1 if anyones else 0})

    async def restart(self) -> None:
        await self._ask("restart")

    def answer_input(self, text: str | None) -> None:
        with contextlib.suppress(SandboxKernelError):
            self._send(self._next(), {"verb": "input", "text": text})

    # -- questions

    async def complete(self, code: str, cursor_pos: int, *, runner: str = "") -> Json:
        wanted = {"code": code, "cursor_pos": cursor_pos, "runner": runner}
        return (await self._ask("complete", wanted))[0]

    async def inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, *, runner: str = ""
    ) -> Json:
        wanted: Json = {"code": code, "cursor_pos": cursor_pos, "runner": runner}
        return (await self._ask("inspect", {**wanted, "detail_level": detail_level}))[0]

    async def is_complete(self, code: str, *, runner: str = "") -> Json:
        return (await self._ask("is_complete", {"code": code, "runner": runner}))[0]

    async def status(self) -> Json:
        return (await self._ask("status"))[0]

    # -- the end

    async def close(self) -> None:
        """Leave; the notebook goes on, without what this program had running. Never raises."""
        self._lose(SessionClosed("This program has left the notebook's session."))
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._writer.wait_closed()

    def _lose(self, error: SandboxKernelError) -> None:
        """Whoever waits is told, and whoever comes; the first reason stays."""
        if self._end is None:
            self._end = error
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(self._end)

    # -- asking

    async def _run(
        self, verb: str, wanted: Json, on_event: Sink, on_cell: OnCell | None = None
    ) -> Outcome:
        content, _ = await self._ask(verb, wanted, sink=on_event, on_cell=on_cell)
        try:
            outcome = values.from_json(content.get("outcome"))
        except ProtocolError as error:
            raise RequestRefused(f"The notebook's kernel gave no answer: {error}.") from None
        assert isinstance(outcome, Outcome)
        return outcome

    async def _ask_file(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> events.Answered:
        content, found = await self._ask("file", {"kind": kind, "meta": meta or {}}, data)
        return events.Answered(0, content, found)

    async def _ask(
        self,
        verb: str,
        wanted: Json | None = None,
        data: bytes = b"",
        *,
        sink: Sink | None = None,
        on_cell: OnCell | None = None,
    ) -> tuple[Json, bytes]:
        number = self._next()
        asked = self._asked[number] = _Asked(sink, on_cell)
        try:
            self._send(number, {"verb": verb, **(wanted or {})}, data)
            return await asked.answer
        except asyncio.CancelledError:
            if sink is not None:
                with contextlib.suppress(SandboxKernelError):
                    self._send(self._next(), {"verb": "interrupt", "of": number})
            raise
        finally:
            self._asked.pop(number, None)

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _send(self, number: int, message: Json, data: bytes = b"") -> None:
        if self._end is not None:
            raise self._end
        try:
            self._writer.write(wire.pack({"id": number, **message}, data))
        except ProtocolError as error:
            raise RequestRefused(f"The request is too large: {error}. Use a file.") from None

    # -- hearing

    async def _read(self, reader: asyncio.StreamReader) -> None:
        end = SandboxDied(
            "The notebook's kernel went away without a word: it was killed or crashed, and the "
            f"variables are gone. {_LIVE_ONES}"
        )
        try:
            while (message := await wire.read(reader)) is not None:
                self._take(*message)
        except ProtocolError as error:
            end = SandboxDied(f"What the notebook's kernel sent is no message of ours: {error}.")
        finally:
            self._lose(end)
            self._writer.close()

    def _take(self, message: Json, data: bytes) -> None:
        kind = message.get("kind")
        if kind == "closed":
            self._lose(SessionClosed(f"{message.get('text')} {_LIVE_ONES}"))
            return
        self._note_now(message)
        asked = self._asked.get(message.get("id", 0))
        if asked is None or asked.answer.done():
            return
        if kind == "event" and asked.sink is not None:
            asked.sink(values.from_json(message.get("event"), data))
        elif kind == "begun" and asked.on_cell is not None:
            asked.on_cell(int(message.get("cell", 0)))
        elif kind == "answer":
            content = message.get("content")
            asked.answer.set_result((content if isinstance(content, dict) else {}, data))
        elif kind == "error":
            asked.answer.set_exception(_error(message))

    def _note_now(self, message: Json) -> None:
        now = message.get("now")
        if isinstance(now, dict):
            self._now = now


def _spec(greeting: Json) -> SandboxSpec:
    """What the kernel says of its sandbox; what it doesn't, as by default."""
    said = greeting.get("spec")
    known = {name: value for name, value in (said or {}).items() if name in SandboxSpec._fields}
    return SandboxSpec(
        language=str(greeting.get("language")), limits=_limits(greeting.get("limits")), **known
    )


def _limits(said: Any) -> Limits:
    try:
        return Limits(**said)
    except (TypeError, SettingsError):
        raise BackendUnavailable(
            f"The notebook's kernel states limits that this version ({__version__}) does not "
            "know. Restart it."
        ) from None


def _error(message: Json) -> SandboxKernelError:
    """The kernel's error, of its own kind where this package has that."""
    kind = getattr(errors, str(message.get("name")), None)
    is_ours = isinstance(kind, type) and issubclass(kind, SandboxKernelError)
    return (kind if is_ours and kind is not None else RequestRefused)(str(message.get("text")))
