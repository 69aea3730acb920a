"""Who may speak to the HTTP server: decided by a request's line and headers. Pure.

A server at a loopback address is within reach of every page that the user's browser shows
(DNS rebinding makes a stranger's name resolve to it), and of every program on the machine.
So the Host must be ours, an Origin must be one that its owner allowed, and a token must be
known. Refused requests are answered before a byte of their body is read.

Source: Model Context Protocol, "Streamable HTTP", security warning; RFC 6750 section 3.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sandbox_kernel.errors import SettingsError

PATH = "/mcp"
METHODS = ("GET", "POST", "DELETE")

Headers = Sequence[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """An HTTP status, a sentence, and headers that go with them."""

    status: int
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """
    Args:
        token: what a client must bring as `Authorization: Bearer TOKEN`.
        port: where we listen.
        origins: of pages that may call us, as `http://localhost:6274`.
    """

    def __init__(self, token: str, port: int, origins: Iterable[str] = ()) -> None:
        self._token = token.encode()
        names = ("127.0.0.1", "localhost", "[::1]")
        # A client leaves the port out where it is the scheme's own.
        self._hosts = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())
        self._origins = {f"http://{host}" for host in self._hosts} | set(origins)

    def refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Why a request is refused; None: it may come in."""
        hosts, origins = _all(headers, b"host"), _all(headers, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Refusal(421, "The Host header does not name this server.")
        if len(origins) > 1 or (origins and origins[0].lower() not in self._origins):
            return Refusal(403, "Pages of this Origin may not call this server (--allow-origin).")
        if not self._knows_token(_all(headers, b"authorization")):
            return Refusal(
                401,
                "Send the header Authorization: Bearer TOKEN, with the token that this server "
                "was given or printed when it started.",
                ((b"www-authenticate", b'Bearer realm="sandbox-kernel"'),),
            )
        if path != PATH:
            return Refusal(404, f"The server is at {PATH}.")
        if method not in METHODS:
            allowed = ((b"allow", ", ".join(METHODS).encode()),)
            return Refusal(405, f"Use {', '.join(METHODS)}.", allowed)
        return None

    def _knows_token(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token)
        return same and scheme.lower() == "bearer"


def _all(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


# --- what its owner chose ---------------------------------------------------------------


# Sixteen characters of 64 kinds are 96 bits, when they are random.
MIN_TOKEN_CHARS = 16


def check_token(token: str, source: str) -> str:
    """
    Raises:
        SettingsError: it is too short to be a secret, or no header could carry it.
    """
    if len(token) < MIN_TOKEN_CHARS or not re.fullmatch(r"[\x21-\x7e]{1,4096}", token):
        raise SettingsError(
            f"The token from {source} is refused: give {MIN_TOKEN_CHARS} or more visible ASCII "
            "characters without spaces, or leave it out and take the one that is printed."
        )
    return token


def check_host(host: str) -> str:
    """The loopback address to listen at.

    Raises:
        SettingsError: others could reach it.
    """
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    # Others of 127.0.0.0/8 have no Host that we would answer to.
    if address is None or str(address) not in ("127.0.0.1", "::1"):
        raise SettingsError(
            f"--host is {host!r}, but this server listens at a loopback address only: 127.0.0.1, "
            "::1 or localhost. From other machines, forward the port: ssh -L 8765:127.0.0.1:8765."
        )
    return str(address)


def check_origin(origin: str) -> str:
    """
    Raises:
        SettingsError: it is no origin: scheme, host and port, nothing else.
    """
    if not re.fullmatch(r"https?://[a-z0-9.\[\]:_-]+", origin.lower()):
        raise SettingsError(
            f"--allow-origin is {origin!r}, which is no origin. Write http://localhost:6274."
        )
    return origin.lower()
