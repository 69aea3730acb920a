"""A kernel that says what a test wants, for programs that attach to it."""

from __future__ import annotations

import asyncio
import socket

from sandbox_kernel import __version__
from sandbox_kernel.sharing import places

HELLO = {"kind": "hello", "protocol": 1, "version": __version__, "language": "python"}


class FakeKernel:
    """Listens in the place of one, and says what it is told."""

    def __init__(self, *said: bytes) -> None:
        self.id = places.new_id()
        self._said = said
        self.place = places.make()
        self._listener = places.listening(self.place, self.id)
        self._peers: list[socket.socket] = []

    async def __aenter__(self):
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    def _accept(self) -> None:
        peer, _ = self._listener.accept()
        self._peers.append(peer)
        peer.sendall(b"".join(self._said))

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self._listener)
        for one in (*self._peers, self._listener):
            one.close()
        self.place.remove(self.id + places.ENDING)
        self.place.close()
