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
from collections.abc import Sequence
from typing import Any

from sandbox_kernel import events
from sandbox_kernel.errors import (
    BackendUnavailable,
    NoSuchSession,
    RequestRefused,
    SessionClosed,
)
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import Files, Outcome, State
from sandbox_kernel.session.run import Sink
from sandbox_kernel.sharing import greeting, places, values, wire
from sandbox_kernel.sharing.conversation import Conversation, OnCell
from sandbox_kernel.sharing.places import LIVE_ONES
from sandbox_kernel.sharing.wire import Json, ProtocolError

# A kernel that is being killed closes what was accepted a moment before it stops listening.
HANGUPS = 10
HANGUP_PAUSE_S = 0.05
_UNSET: Any = object()


async def connect(session_id: str, *, driver: str = "engine") -> SharedSeat:
    """Take a seat in the session that `%sandbox status` calls `session_id`.

    Args:
        driver: what the notebook's reader sees beside the cells of this program.

    Raises:
        NoSuchSession: no live session has this id, or it is not this user's.
        BackendUnavailable: its kernel does not answer, or is of another version.
    """
    if not places.is_id(session_id):
        raise NoSuchSession(f"{session_id!r} is not the id of a session. {LIVE_ONES}")
    for _ in range(HANGUPS):
        reader, writer = await asyncio.open_connection(sock=_found(session_id))
        with contextlib.suppress(greeting.HungUp):
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
        said = await greeting.greeted(reader)
        greeting.check_version(said)
        writer.write(wire.pack({"verb": "join", "driver": driver}))
        return SharedSeat(said, reader, writer)
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
                    f"{error.strerror or error}. {LIVE_ONES}"
                ) from None
            if peer is not None:
                return peer
    raise NoSuchSession(
        f"No live session of this user has the id {session_id}: its kernel has ended, was "
        f"restarted, or is not shared. {LIVE_ONES}"
    )


class SharedSeat:
    """See `SandboxSession` for what each method does and raises. Made by `connect`.

    Every method raises `SessionClosed` after the notebook was shut down, its kernel restarted
    or the seat closed, and `SandboxDied` when the kernel went away without a word.
    """

    def __init__(
        self, said: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.session_id = str(said.get("session_id"))
        self.notebook = str(said.get("notebook"))
        self.backend_name = str(said.get("backend"))
        self.spec = greeting.spec_of(said)
        self.files = Files(self._ask_file, self.spec.limits.workspace_bytes)
        self._kernel = Conversation(said, reader, writer)

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
        return str(self._kernel.now.get("boundary", ""))

    @property
    def sandbox_id(self) -> str:
        return str(self._kernel.now.get("sandbox_id", ""))

    @property
    def state(self) -> State:
        """As of the last answer; whether the reader runs a cell just now is not known."""
        if isinstance(self._kernel.end, SessionClosed):
            return State.CLOSED
        if self._kernel.end is not None:
            return State.DEAD
        if self._kernel.has_cells:
            return State.BUSY
        try:
            return State(self._kernel.now.get("state"))
        except ValueError:
            return State.IDLE

    @property
    def is_busy(self) -> bool:
        return self.state is State.BUSY

    # -- cells

    async def start(self) -> Json:
        return (await self._kernel.ask("start"))[0]

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
        content, _ = await self._kernel.ask("packages")
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
        await self._kernel.ask("interrupt", {"of": -1 if anyones else 0})

    async def restart(self) -> None:
        await self._kernel.ask("restart")

    def answer_input(self, text: str | None) -> None:
        self._kernel.tell("input", {"text": text})

    # -- questions

    async def complete(self, code: str, cursor_pos: int, *, runner: str = "") -> Json:
        wanted = {"code": code, "cursor_pos": cursor_pos, "runner": runner}
        return (await self._kernel.ask("complete", wanted))[0]

    async def inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, *, runner: str = ""
    ) -> Json:
        wanted: Json = {"code": code, "cursor_pos": cursor_pos, "runner": runner}
        return (await self._kernel.ask("inspect", {**wanted, "detail_level": detail_level}))[0]

    async def is_complete(self, code: str, *, runner: str = "") -> Json:
        return (await self._kernel.ask("is_complete", {"code": code, "runner": runner}))[0]

    async def status(self) -> Json:
        return (await self._kernel.ask("status"))[0]

    # -- the end

    async def close(self) -> None:
        """Leave; the notebook goes on, without what this program had running. Never raises."""
        await self._kernel.close()

    # -- asking

    async def _run(
        self, verb: str, wanted: Json, on_event: Sink, on_cell: OnCell | None = None
    ) -> Outcome:
        content, _ = await self._kernel.ask(verb, wanted, sink=on_event, on_cell=on_cell)
        try:
            outcome = values.from_json(content.get("outcome"))
        except ProtocolError as error:
            raise RequestRefused(f"The notebook's kernel gave no answer: {error}.") from None
        assert isinstance(outcome, Outcome)
        return outcome

    async def _ask_file(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> events.Answered:
        content, found = await self._kernel.ask("file", {"kind": kind, "meta": meta or {}}, data)
        return events.Answered(0, content, found)
