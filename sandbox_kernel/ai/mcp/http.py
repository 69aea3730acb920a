"""Served over streamable HTTP, at a loopback address.

Rule: nothing is served to whom `guard` refuses; see there for the reasons.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any

from sandbox_kernel.ai.mcp.clients import Client
from sandbox_kernel.ai.mcp.guard import PATH, Guard
from sandbox_kernel.ai.mcp.visits import Visits
from sandbox_kernel.engine import Engine
from sandbox_kernel.errors import SettingsError

# One file of 10 MB in base64, and then some.
MAX_BODY_BYTES = 16 * 1024**2
# Of headers; a token and a session id are a few hundred.
MAX_HEAD_BYTES = 32 * 1024
# Every client has a stream that it listens to, and a few requests.
MAX_CONNECTIONS = 512
SHUTDOWN_S = 1


def listen(host: str, port: int) -> socket.socket:
    """
    Args:
        host: an address that `guard.check_host` gave.
        port: 0 takes one that is free.

    Raises:
        SettingsError: it is taken, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise SettingsError(
            f"Cannot listen at {host} port {port}: {error.strerror}. Choose another --port; 0 "
            "takes one that is free."
        ) from None
    return made


def address(listener: socket.socket) -> str:
    """Where clients find it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"


async def serve(
    engine: Engine,
    listener: socket.socket,
    token: str,
    *,
    origins: Iterable[str],
    idle_timeout_s: float | None,
    stopped: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Serve until `stopped` is set.

    Args:
        on_ready: called when requests are answered.
    """
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

    from sandbox_kernel.ai.mcp.server import make_server

    server = make_server(lambda context: visits.client(_session_id(context)))
    manager = StreamableHTTPSessionManager(
        server,
        max_request_body_size=MAX_BODY_BYTES,
        # `visits` ends them, and knows what is running.
        session_idle_timeout=None,
    )
    visits = Visits(
        manager.handle_request,
        Guard(token, listener.getsockname()[1], origins),
        tuple(HANDSHAKE_PROTOCOL_VERSIONS),
        lambda: Client(engine),
        idle_timeout_s,
    )
    try:
        async with manager.run():
            watching = asyncio.ensure_future(visits.watch())
            try:
                await _serve(visits, listener, stopped, on_ready)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    finally:
        await visits.close()


def _session_id(context: Any) -> str | None:
    """Whose request it is: the SDK has compared it with the session that serves it."""
    if context.request is None:
        return None
    found: str | None = context.request.headers.get("mcp-session-id")
    return found


async def _serve(
    app: Visits, listener: socket.socket, stopped: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    import uvicorn

    from sandbox_kernel.ai.mcp import door

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield  # they are ours: uvicorn's would end the process before the sandboxes

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            on_ready()

    server = Server(
        uvicorn.Config(
            app,
            http=door.made(),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    stopping = asyncio.ensure_future(stopped.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


def on_signals(stopped: asyncio.Event) -> None:
    """SIGTERM, SIGINT and SIGHUP set `stopped`: sandboxes are closed before we go."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
