"""Which sessions are live, and the sockets of those that are not."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from sandbox_kernel.errors import SandboxKernelError
from sandbox_kernel.sharing import places
from sandbox_kernel.sharing.greeting import HungUp, greeted
from sandbox_kernel.sharing.wire import Json


class SharedSession(NamedTuple):
    """A live session that programs of this user may attach to.

    Args:
        notebook: its path as Jupyter's server names it; "" where the kernel was not told.
        pid: of its kernel.
        started: UTC, ISO 8601.
        state: "idle", "busy", … as `session.State`.
    """

    id: str
    language: str
    backend: str
    notebook: str
    pid: int
    started: str
    state: str


async def list_shared() -> list[SharedSession]:
    """Live sessions, the oldest first. What dead ones left is removed."""
    peers = [peer for peer in _peers() if peer is not None]
    found = await asyncio.gather(*(_described(peer) for peer in peers))
    return sorted((item for item in found if item is not None), key=lambda item: item.started)


def collect_garbage() -> list[str]:
    """Remove the sockets of kernels that are gone; a line for each."""
    removed = []
    with places.existing() as found:
        for place in found:
            for session_id in place.ids():
                if _connected(place, session_id) is None and session_id not in place.ids():
                    removed.append(f"removed the socket of a session that ended: {session_id}")
    return removed


def _peers() -> list[socket.socket | None]:
    with places.existing() as found:
        return [_connected(place, name, keep=True) for place in found for name in place.ids()]


def _connected(place: places.Place, name: str, *, keep: bool = False) -> socket.socket | None:
    try:
        peer = places.connected(place, name)
    except OSError:
        return None  # not ours, or too busy to greet anybody
    if peer is not None and not keep:
        peer.close()
    return peer


async def _described(peer: socket.socket) -> SharedSession | None:
    reader, writer = await asyncio.open_connection(sock=peer)
    try:
        return _session(await greeted(reader))
    except (SandboxKernelError, HungUp):
        return None
    finally:
        writer.close()


def _session(greeting: Json) -> SharedSession:
    now, pid = greeting.get("now"), greeting.get("pid")
    return SharedSession(
        id=str(greeting.get("session_id", "")),
        language=str(greeting.get("language", "")),
        backend=str(greeting.get("backend", "")),
        notebook=str(greeting.get("notebook", "")),
        pid=pid if isinstance(pid, int) else 0,
        started=str(greeting.get("started", "")),
        state=str(now.get("state", "")) if isinstance(now, dict) else "",
    )
