"""`mcp`: sandboxes for whoever speaks the Model Context Protocol.

On stdin and stdout for a client that starts us; with `--http` at a loopback address, for
clients that have the token. What the process prints goes to stderr: stdout is the protocol's.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE
from sandbox_kernel.cli.options import add_settings, chosen_settings
from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.settings import Settings

PORT = 8765
# Each may take 2 GiB, by default.
MAX_SESSIONS = 16
IDLE_TIMEOUT = "60m"


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "mcp",
        help="serve sandboxes to AI agents (MCP), on stdio or HTTP",
        description="Serve sandboxes over the Model Context Protocol: on stdin and stdout, for a "
        "client that starts this command, or over HTTP at a loopback address.",
        allow_abbrev=False,
    )
    parser.add_argument("--http", action="store_true", help="serve HTTP instead of stdio")
    parser.add_argument("--host", metavar="ADDRESS", help="a loopback address (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="N", help=f"0 takes one that is free (default: {PORT})")
    parser.add_argument(
        "--token-file", metavar="FILE",
        help="holds what clients must know; made when it is not there (default: the variable "
        "SANDBOX_KERNEL_MCP_TOKEN, or a random token that is printed)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append",
        help="let pages of this origin call the server; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--max-sessions", metavar="N", default=str(MAX_SESSIONS),
        help="sandboxes of all clients together (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--idle-timeout", metavar="TIME", default=IDLE_TIMEOUT,
        help="a session that is unused for so long ends; none: never (default: %(default)s)",
    )  # fmt: skip
    add_settings(parser)
    parser.set_defaults(execute=run)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from sandbox_kernel.settings import Settings

    settings = Settings.load(chosen_settings(arguments))
    max_sessions = _whole("--max-sessions", arguments.max_sessions, 1, 10_000)
    idle_timeout_s = _time("--idle-timeout", arguments.idle_timeout)
    for name in ("host", "port", "token_file", "allow_origin"):
        if getattr(arguments, name) is not None and not arguments.http:
            raise SettingsError(f"--{name.replace('_', '-')} is for --http only. Add it.")
    _require_sdk()
    serving = _http if arguments.http else _stdio
    asyncio.run(serving(arguments, settings, max_sessions, idle_timeout_s))
    return DONE


async def _stdio(
    _: argparse.Namespace, settings: Settings, max_sessions: int, idle_timeout_s: float | None
) -> None:
    import asyncio

    from sandbox_kernel.ai.mcp import stdio

    wire = stdio.claim()  # before anything else is imported that might print
    stopped = asyncio.Event()
    from sandbox_kernel.ai.mcp.clients import Client
    from sandbox_kernel.ai.mcp.http import on_signals
    from sandbox_kernel.ai.mcp.server import make_server
    from sandbox_kernel.engine import Engine

    on_signals(stopped)
    async with Engine(
        settings=settings, max_sessions=max_sessions, idle_timeout_s=idle_timeout_s
    ) as engine:
        client = Client(engine)
        await stdio.serve(make_server(lambda _: client), wire, stopped)


async def _http(
    arguments: argparse.Namespace,
    settings: Settings,
    max_sessions: int,
    idle_timeout_s: float | None,
) -> None:
    import asyncio

    from sandbox_kernel.ai.mcp import guard, http
    from sandbox_kernel.engine import Engine

    host = guard.check_host(arguments.host or "127.0.0.1")
    port = _whole("--port", arguments.port or str(PORT), 0, 65535)
    origins = [guard.check_origin(one) for one in arguments.allow_origin or ()]
    token, is_new = _token(settings, arguments.token_file)
    listener = http.listen(host, port)

    def tell() -> None:
        print(f"sandbox-kernel: serving MCP at {http.address(listener)}", file=sys.stderr)
        if is_new:
            print(f"sandbox-kernel: token {token}", file=sys.stderr)
        sys.stderr.flush()

    stopped = asyncio.Event()
    http.on_signals(stopped)
    async with Engine(
        settings=settings, max_sessions=max_sessions, idle_timeout_s=idle_timeout_s
    ) as engine:
        await http.serve(
            engine,
            listener,
            token,
            origins=origins,
            idle_timeout_s=idle_timeout_s,
            stopped=stopped,
            on_ready=tell,
        )


# --- what the flags say ---------------------------------------------------------------


def _require_sdk() -> None:
    from importlib.util import find_spec

    if find_spec("mcp") is None or find_spec("mcp_types") is None:
        raise SettingsError(
            "The command mcp needs the MCP SDK, version 2 or later: "
            "pip install 'sandbox-kernel[mcp]'."
        )


def _token(settings: Settings, path: str | None) -> tuple[str, bool]:
    """What clients must know, and whether it was drawn just now and nobody knows it."""
    import secrets

    from sandbox_kernel.ai.mcp.guard import check_token

    if path is not None:
        return check_token(_file_token(path), f"the file {path}"), False
    if settings.mcp_token is not None:
        return check_token(settings.mcp_token.reveal(), "SANDBOX_KERNEL_MCP_TOKEN"), False
    return secrets.token_urlsafe(32), True


def _file_token(path: str) -> str:
    """The token in a file that its owner alone can read; made when it is not there."""
    import secrets

    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            token = secrets.token_urlsafe(32)
            file.write(token + "\n")
            return token
    except FileExistsError:
        pass
    with open(path, encoding="utf-8", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise SettingsError(
                f"The token file {path} can be used by other users (mode {mode & 0o777:o}): "
                f"chmod 600 {path}. Who may have read it can use the token: replace it."
            )
        return file.read(8192).strip()


def _whole(name: str, text: str, lowest: int, highest: int) -> int:
    if not text.isdecimal() or not lowest <= int(text[:9]) <= highest:
        raise SettingsError(f"{name} is {text!r}; give a number from {lowest} to {highest}.")
    return int(text)


def _time(name: str, text: str) -> float | None:
    from sandbox_kernel.limits import Limits

    try:
        return Limits.parse({"timeout_s": text}).timeout_s
    except SettingsError:
        raise SettingsError(
            f"{name} is {text!r}; give a time such as 90s, 30m or 2h, or none."
        ) from None
