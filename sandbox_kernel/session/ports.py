"""A server inside, reachable on this machine: connections tunnelled over the one stream.

`Forward` listens on this machine's loopback, or on a unix socket; each connection that
comes is opened inside by the supervisor, to the sandbox's own loopback (see `connections`).

Rule 1: a forward is off unless its owner allowed it, and never listens to other machines.
Rule 2: a client's connection neither starts a sandbox nor outlives one.

What comes through is the guest's, and goes where the caller lets it: a page that is opened in
a browser runs the guest's script there, with the browser's network, and gets what the
browser sends. Browsers share cookies between the ports of one host, so a page at 127.0.0.1
could read those of a Jupyter at 127.0.0.1: open `Forward.browser_url`, a host name of its own.
A port answers every user and program of this machine; `socket_path` answers its owner only.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import socket as sockets
import stat
import struct
from contextlib import suppress

from sandbox_kernel.errors import RequestRefused, SandboxKernelError, SettingsError
from sandbox_kernel.session.connections import PIECE_BYTES, Connection, Ports

NOT_ALLOWED = (
    "No port of this sandbox is forwarded: it was made without leave for that. Make the session "
    "with allow_forward=True, if what runs inside may serve this machine's programs."
)
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.25
_LOOPBACK = "127.0.0.1"
_TO_RESET = struct.pack("ii", 1, 0)


class Forward:
    """A port inside, reachable on this machine while the context is open.

    Made by `SandboxSession.forward`. It lives on when the sandbox is replaced.

    Attributes:
        guest_port: where the server listens inside.
        host, host_port: where it is reachable; port 0 before it is opened.
        socket_path: the unix socket in their place, or None.
    """

    def __init__(
        self, ports: Ports, guest_port: int, host: str, host_port: int, socket_path: str | None
    ) -> None:
        _check_port(guest_port, "guest_port", 1)
        _check_port(host_port, "host_port", 0)
        _check_host(host)
        self.guest_port = guest_port
        self.host = host
        self.host_port = host_port
        self.socket_path = socket_path
        self._ports = ports
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Nobody else's cookies are sent to a host that is called so.
        self._label = f"sandbox-{secrets.token_hex(4)}"

    @property
    def is_open(self) -> bool:
        return self._server is not None

    @property
    def url(self) -> str:
        """For programs; see the module's header for browsers."""
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        return f"http://{self.host}:{self.host_port}"

    @property
    def browser_url(self) -> str:
        """The same by a host name of its own, which browsers know to be this machine."""
        if self.socket_path is not None:
            raise SettingsError("A browser opens no unix socket. Forward to a port for that.")
        return f"http://{self._label}.localhost:{self.host_port}/"

    async def open(self) -> Forward:
        """Listen. Safe to call again.

        Raises:
            SandboxDied, BackendUnavailable: there is no sandbox.
            SettingsError: the place is taken, or others could reach the socket.
        """
        if self._server is None:
            await self._ports.start()
            try:
                self._server = await self._listen()
            except OSError as error:
                where = self.socket_path or f"port {self.host_port} of {self.host}"
                raise SettingsError(
                    f"The forward cannot listen at {where}: {error.strerror or error}. Choose "
                    "another one; host_port=0 is any that is free."
                ) from None
            self._ports.forwards.add(self)
        return self

    async def _listen(self) -> asyncio.Server:
        if self.socket_path is not None:
            _check_place(self.socket_path)
            server = await asyncio.start_unix_server(self._serve, self.socket_path)
            os.chmod(self.socket_path, 0o600)
            return server
        server = await asyncio.start_server(self._serve, self.host, self.host_port)
        self.host_port = server.sockets[0].getsockname()[1]
        return server

    async def close(self) -> None:
        """Stop to listen and end its connections. Safe to call twice; never raises."""
        server, self._server = self._server, None
        self._ports.forwards.discard(self)
        if server is None:
            return
        server.close()
        if self.socket_path is not None:
            with suppress(OSError):
                os.unlink(self.socket_path)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Forward:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def wait_until_open(self, timeout_s: float = 30.0) -> Forward:
        """Wait until the server inside takes connections; it sees one that is closed at once.

        Raises:
            RequestRefused: it has not within `timeout_s`.
            SandboxDied: the sandbox is gone, and its server.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        delay_s = _FIRST_LOOK_S
        while True:
            try:
                connection = await self._ports.open(self.guest_port)
            except RequestRefused:
                if asyncio.get_running_loop().time() + delay_s > deadline_s:
                    raise
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LAST_LOOK_S)
            else:
                connection.abort("close")
                return self

    # -- a client

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._tunnel(reader, writer)
        except asyncio.CancelledError:
            _reset(writer)  # and no more: `close` is who cancels, asyncio would log it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = await self._ports.open(self.guest_port)
        except SandboxKernelError:
            _reset(writer)
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_in(reader, writer, connection))
                both.create_task(_pass_out(connection, writer))
        except* (OSError, SandboxKernelError):
            _reset(writer)
        finally:
            connection.abort()


async def _pass_in(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection
) -> None:
    socket = writer.get_extra_info("socket")
    while data := await reader.read(PIECE_BYTES):
        await connection.send(data, lambda: _is_there(socket.fileno()))
    await connection.finish()


def _is_there(fd: int) -> bool:
    """Whether a client still is. While its bytes wait, asyncio does not look at it."""
    poller = select.poll()
    poller.register(max(fd, 0), 0)
    return fd >= 0 and not poller.poll(0)


async def _pass_out(connection: Connection, writer: asyncio.StreamWriter) -> None:
    while data := await connection.receive():
        writer.write(data)
        await writer.drain()
        await connection.passed_on(len(data))
    if writer.can_write_eof():
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break off, so that the client does not take half of an answer for the whole."""
    socket = writer.get_extra_info("socket")
    with suppress(OSError):
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _TO_RESET)
    writer.transport.abort()


# --- where it may listen ----------------------------------------------------------------


def _check_port(port: int, name: str, lowest: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not lowest <= port < 65536:
        raise SettingsError(f"{name} is {port!r}; choose a number from {lowest} to 65535.")


def _check_host(host: str) -> None:
    if host not in (_LOOPBACK, "::1"):
        raise SettingsError(
            f"A forward cannot listen at {host!r}: what runs in a sandbox is not offered to other "
            f"machines. Leave host at {_LOOPBACK}, and put a server of your own before it."
        )


def _check_place(path: str) -> None:
    """Refuse a place for a socket that other users reach."""
    directory = os.path.dirname(os.path.abspath(path))
    found = os.stat(directory)
    is_private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    if not is_private:
        raise SettingsError(
            f"The directory {directory!r} is open to other users, who could use the socket. "
            "Choose one that is yours alone (mode 700)."
        )
    if os.path.lexists(path):
        raise SettingsError(f"There is something at {path!r} already. Choose another name.")
