"""Broadcasts: what a session's events look like to every client, and in which order.

Rule 1: whatever is broadcast goes through `Broadcast.send`, which writes the text that
        is still held first. So the order of events is the order of messages.
Rule 2: text is held a moment: ten thousand printed lines are a handful of messages,
        and Jupyter Server cuts a kernel off at a thousand a second.
Rule 3: a content that is no JSON becomes a note. It never ends the kernel.

To add an event: a row in `Broadcast.show`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sandbox_kernel import events
from sandbox_kernel.kernel.log import log
from sandbox_kernel.kernel.wire import Codec, Json, WireError

# Text is sent at once, then at most so often: nobody reads faster, and it is half of what
# Jupyter Server lets through even if every moment brings many pieces.
TEXT_INTERVAL_S = 0.02
# Over so many changes between stdout and stderr within one interval, text is sorted by
# stream: their exact weave is given up before messages are lost.
MAX_PIECES_HELD = 8
# A longer text becomes several messages: a browser lays each out in one go.
MAX_TEXT_CHARACTERS = 1024 * 1024
# Whose late output still finds its cell. A notebook has some hundreds.
MAX_PARENTS = 1000


class Parent(NamedTuple):
    """The request that a message belongs to.

    driver: the name of the program that sent it, where that is no Jupyter client.
    """

    header: bytes
    is_silent: bool = False
    execution_count: int = 0
    driver: str = ""


NOBODY = Parent(b"{}")


class Broadcast:
    """The iopub channel.

    Args:
        send: hands parts to the socket.
        on_comm: hears of every comm message of the guest's, before clients do.
    """

    def __init__(
        self,
        codec: Codec,
        send: Callable[[list[bytes]], None],
        on_comm: Callable[[events.CommSent], None] = lambda _event: None,
    ) -> None:
        self._codec = codec
        self._send = send
        self._on_comm = on_comm
        self._parents: OrderedDict[int, Parent] = OrderedDict()
        self._held: list[tuple[Parent, str, list[str]]] = []
        self._held_characters = 0
        self._last_text_s = 0.0
        self._timer: asyncio.Handle | None = None

    # -- whose output

    def remember(self, cell: int, parent: Parent) -> None:
        """What `cell` sends from now on, however late, belongs to `parent`."""
        self._parents[cell] = parent
        if len(self._parents) > MAX_PARENTS:
            self._parents.popitem(last=False)

    def parent_of(self, cell: int) -> Parent:
        return self._parents.get(cell, NOBODY)

    # -- messages

    def send(
        self,
        msg_type: str,
        content: Json,
        parent: Parent = NOBODY,
        *,
        metadata: Json | None = None,
        buffers: Iterable[bytes] = (),
    ) -> None:
        """Broadcast one message, after the text that is held."""
        if self._held:
            self.flush()
        self._broadcast(msg_type, content, parent, metadata, buffers)

    def status(self, state: str, parent: Parent = NOBODY) -> None:
        self.send("status", {"execution_state": state}, parent)

    def text(self, parent: Parent, stream: str, text: str) -> None:
        """Broadcast text of a stream, soon."""
        if self._held and self._held[-1][0] is parent and self._held[-1][1] == stream:
            self._held[-1][2].append(text)
        else:
            self._held.append((parent, stream, [text]))
        self._held_characters += len(text)
        if self._held_characters >= MAX_TEXT_CHARACTERS:
            self.flush()
        elif self._timer is None:
            self._flush_soon()

    def _flush_soon(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = self._last_text_s + TEXT_INTERVAL_S - loop.time()
        if wait_s > 0:
            self._timer = loop.call_later(wait_s, self.flush)
        else:
            self._timer = loop.call_soon(self.flush)

    def flush(self) -> None:
        """Broadcast the text that is held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._held:
            return
        held, self._held, self._held_characters = self._held, [], 0
        self._last_text_s = asyncio.get_running_loop().time()
        for parent, stream, texts in _by_stream(held) if len(held) > MAX_PIECES_HELD else held:
            text = "".join(texts)
            for start in range(0, len(text), MAX_TEXT_CHARACTERS):
                piece = text[start : start + MAX_TEXT_CHARACTERS]
                self._broadcast("stream", {"name": stream, "text": piece}, parent)

    def _broadcast(
        self,
        msg_type: str,
        content: Json,
        parent: Parent,
        metadata: Json | None = None,
        buffers: Iterable[bytes] = (),
    ) -> None:
        if parent.driver:
            metadata = {**(metadata or {}), "sandbox_kernel": {"driver": parent.driver}}
        topic = [f"kernel.{self._codec.session}.{msg_type}".encode("utf-8", "replace")]
        try:
            parts = self._codec.encode(
                msg_type,
                content,
                parent=parent.header,
                metadata=metadata,
                identities=topic,
                buffers=buffers,
            )
        except WireError as error:
            log(f"A message of type {msg_type} was replaced by a note: {error}.")
            note = f"[sandbox] An output of type {msg_type} is not shown: {error}.\n"
            parts = self._codec.encode(
                "stream",
                {"name": "stderr", "text": note},
                parent=parent.header,
                identities=topic,
            )
        self._send(parts)

    # -- events

    def show_late(self, event: events.Event) -> None:
        """Broadcast an event that belongs to no running cell."""
        self.show(event, self.parent_of(event.cell))

    def show(self, event: events.Event, parent: Parent) -> None:
        """Broadcast one event of the session's. A silent request shows nothing but comms."""
        if isinstance(event, events.CommSent):
            self._comm(event, parent)
        elif parent.is_silent:
            return
        elif isinstance(event, events.TextWritten):
            self.text(parent, event.stream, event.text)
        else:
            self._rich(event, parent)

    def _rich(self, event: events.Event, parent: Parent) -> None:
        match event:
            case events.DisplayShown():
                self.send("display_data", _display(event), parent)
            case events.DisplayUpdated():
                self.send("update_display_data", _display(event), parent)
            case events.ResultShown():
                content = {
                    "execution_count": parent.execution_count,
                    "data": event.bundle,
                    "metadata": event.metadata,
                }
                self.send("execute_result", content, parent)
            case events.OutputCleared():
                self.send("clear_output", {"wait": bool(event.is_delayed)}, parent)
            case events.CellFailed():
                self.send("error", error_content(event), parent)

    def _comm(self, event: events.CommSent, parent: Parent) -> None:
        if event.action not in ("open", "msg", "close"):
            return
        self._on_comm(event)
        content: dict[str, Any] = {"comm_id": event.comm_id, "data": event.data}
        if event.action == "open":
            content["target_name"] = event.target_name
        self.send(
            f"comm_{event.action}",
            content,
            parent,
            metadata=event.metadata,
            buffers=event.buffers,
        )


def error_content(failure: events.CellFailed) -> Json:
    """What `error` broadcasts and failed replies have in common."""
    return {
        "ename": failure.name,
        "evalue": failure.value,
        "traceback": failure.traceback,
    }


def _display(event: events.DisplayShown | events.DisplayUpdated) -> Json:
    return {"data": event.bundle, "metadata": event.metadata, "transient": event.transient}


def _by_stream(
    held: list[tuple[Parent, str, list[str]]],
) -> list[tuple[Parent, str, list[str]]]:
    """`held` with one piece for each cell and stream, in order of first appearance."""
    sorted_: dict[tuple[int, str], tuple[Parent, str, list[str]]] = {}
    for parent, stream, texts in held:
        piece = sorted_.setdefault((id(parent), stream), (parent, stream, []))
        piece[2].extend(texts)
    return list(sorted_.values())
