"""The conversation with the installer in a builder: its requests out, its layer in.

Rule 1: everything it says is hostile. It may ask in the numbers and sizes below, and hand over
what it was asked for; whatever else it says ends the build.
Rule 2: nothing piles up on either side: a piece of an answer is sent when the last one was used
up, and the layer is fetched piece by piece.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from sandbox_kernel import events
from sandbox_kernel.dependencies.receiver import LayerRefused, Receiver
from sandbox_kernel.dependencies.relay import Broken, Relay, Request
from sandbox_kernel.errors import SandboxKernelError
from sandbox_kernel.guest.framing import Kind

# Installers open ten or fifteen connections at a time.
CONCURRENCY = 8
_MAX_WAITING = 256
_MAX_RESOLVED = 5_000
_MAX_TEXT = 200
# Longer paths and headers are refused by `admission`; here they would be held, 256 of them.
_MAX_WORD = 8_192
# A piece is 2 MiB and what is left of a chunk.
_MAX_PIECE_BYTES = 8 * 1024 * 1024
# What whoever talks with a builder meets when it is gone, or this process's loop is.
_GONE = (SandboxKernelError, RuntimeError, CancelledError)


class Ask(Protocol):
    """`Guest.ask` with a number of its own for each."""

    def __call__(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> Awaitable[events.Answered | events.Replied]: ...


class GuestLied(Exception):
    """The installer said what no installer of ours says. The build ends."""


class Resolved(NamedTuple):
    """One package that was installed, as the installer says; `hash` was checked by us."""

    name: str
    version: str
    hash: str


class Transfer:
    """Both directions of one build. Lives in one event loop.

    Args:
        ask: sends a request to the guest and waits for its reply.
        on_lie: called once when the guest broke a rule.
    """

    def __init__(self, ask: Ask, relay: Relay, on_lie: Callable[[str], None]) -> None:
        self._ask = ask
        self._relay = relay
        self._on_lie = on_lie
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._piece: list[events.CommSent] = []
        self._is_wanted = False

    # -- its requests

    def hear(self, event: events.CommSent) -> None:
        """Whatever the installer says beside its output."""
        try:
            if event.target_name == "fetch":
                self._begin(event)
            elif event.target_name == "layer":
                self._keep(event)
            else:
                raise GuestLied(f"It speaks of {ascii(event.target_name)[:100]}.")
        except GuestLied as lie:
            self._on_lie(str(lie))

    def _begin(self, event: events.CommSent) -> None:
        number, request = event.comm_id, _request(event)
        if len(number) > 20 or number in self._tasks or len(self._tasks) >= _MAX_WAITING:
            raise GuestLied("It has too many requests on their way, or one twice.")
        task = self._loop.create_task(self._serve(number, request))
        self._tasks[number] = task
        task.add_done_callback(lambda _task: self._tasks.pop(number, None))

    async def _serve(self, number: str, request: Request) -> None:
        async with self._slots:
            exchange = _Exchange(self._loop, self._ask, number)
            ended = self._loop.create_future()

            def work() -> None:
                try:
                    with suppress(*_GONE):
                        self._answer(request, exchange)
                finally:
                    _settle(self._loop, ended)

            # A daemon: a slow index must not hold up the end of this process.
            threading.Thread(target=work, name="package-relay", daemon=True).start()
            await ended

    def _answer(self, request: Request, exchange: _Exchange) -> None:
        try:
            self._relay.answer(request, exchange)
            exchange.end()
        except Broken as problem:
            exchange.break_off(str(problem))
        except _GONE:
            raise
        except BaseException:  # a defect of ours; nobody inside waits for ever
            exchange.break_off("The relay failed.")
            raise

    def close(self) -> None:
        """Ask for nothing any more."""
        self._relay.close()
        for task in list(self._tasks.values()):
            task.cancel()

    # -- its layer

    def _keep(self, event: events.CommSent) -> None:
        if not self._is_wanted or self._piece or sum(map(len, event.buffers)) > _MAX_PIECE_BYTES:
            raise GuestLied("It hands over what nobody asked for.")
        self._piece.append(event)

    async def receive(self, receiver: Receiver) -> list[Resolved]:
        """Take over the layer; what the installer says is in it.

        Raises:
            LayerRefused: it broke a rule.
            SandboxDied: the builder went away.
            OSError: the disk here is full.
        """
        while True:
            self._is_wanted = True
            self._piece.clear()
            await self._ask(Kind.COMM, _meta("layer", "", {}))
            self._is_wanted = False
            if not self._piece:
                raise LayerRefused("The installer handed over nothing.")
            [piece] = self._piece
            if "resolved" in piece.data:
                return self._resolved(piece.data["resolved"])
            content = b"".join(piece.buffers)
            await _to_end(receiver.take, piece.data.get("entries"), content)

    def _resolved(self, items: Any) -> list[Resolved]:
        if not isinstance(items, list) or len(items) > _MAX_RESOLVED:
            raise LayerRefused("The list of packages is none.")
        return list(dict.fromkeys(self._checked(item) for item in items))

    def _checked(self, item: Any) -> Resolved:
        match item:
            case {"name": str(name), "version": str(version), "hash": str(digest)}:
                found = Resolved(*map(_plain, (name, version, _hexadecimal(digest))))
            case _:
                raise LayerRefused("A package in the list is none.")
        if found.hash and found.hash not in self._relay.digests:
            raise LayerRefused(f"The index never gave the file of {found.name} {found.version}.")
        return found


class _Exchange:
    """One answer on its way into the builder. Its methods run in the relay's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask, number: str) -> None:
        self._loop = loop
        self._ask = ask
        self._number = number
        self._head: dict[str, Any] | None = None
        self._has_begun = False

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._head = {"status": status, "headers": dict(headers)}

    def write(self, content: bytes) -> bool:
        return self._send({}, content)

    def end(self) -> None:
        self._send({"is_last": True})

    def break_off(self, problem: str) -> None:
        if not self._has_begun:
            self.begin(502, {"Content-Type": "text/plain"})
            self._send({"is_last": True}, problem.encode("utf-8", "replace"))
        else:
            self._send({"is_broken": True})

    def _send(self, data: dict[str, Any], content: bytes = b"") -> bool:
        """Send a piece and wait until it is used up; whether there is anybody to use it."""
        head, self._head = self._head, None
        self._has_begun = True
        meta = _meta("fetch", self._number, {**(head or {}), **data}, content)
        sent = asyncio.run_coroutine_threadsafe(self._sent(meta, content), self._loop)
        return sent.result()

    async def _sent(self, meta: dict[str, Any], content: bytes) -> bool:
        reply = await self._ask(Kind.COMM, meta, content)
        return reply.content.get("status") == "ok"


async def _to_end(work: Callable[..., None], *arguments: Any) -> None:
    """Work in a thread; who is cancelled meanwhile still waits for its end."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _meta(target: str, number: str, data: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
    return {
        "action": "msg",
        "comm_id": number,
        "target_name": target,
        "data": data,
        "metadata": {},
        "buffers": [len(content)] if content else [],
    }


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(None)

    # The loop may be closed: then nobody waits.
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return


def _request(event: events.CommSent) -> Request:
    match event.data:
        case {"method": str(method), "path": str(path), "headers": dict(headers)}:
            words = (method, path, *headers, *headers.values())
            if len(headers) <= 10 and all(
                isinstance(word, str) and len(word) <= _MAX_WORD for word in words
            ):
                return Request(method, path, headers)
    raise GuestLied("It asks for what is no request.")


def _plain(text: str) -> str:
    """`text` for records and readers."""
    return "".join(letter for letter in text[:_MAX_TEXT] if letter.isprintable())


def _hexadecimal(digest: str) -> str:
    """npm writes its hashes in base64."""
    import base64
    import binascii

    kind, dash, rest = digest[:_MAX_TEXT].partition("-")
    if not dash or kind != "sha512":
        return digest
    try:
        return "sha512:" + base64.b64decode(rest, validate=True).hex()
    except (binascii.Error, ValueError):
        raise LayerRefused("A package in the list has a hash that is none.") from None
