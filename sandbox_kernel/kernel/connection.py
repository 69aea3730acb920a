"""The connection file: read, checked, and turned into endpoints.

Rule 1: whoever holds a `Connection` may rely on every field.
Rule 2: a message names the file, the field and its value, but never a key.
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

from sandbox_kernel.errors import ConnectionFileError

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
# Real ones are half a KiB; a file that long is something else.
MAX_FILE_BYTES = 64 * 1024
_REMEDY = "Start the kernel through a Jupyter client, which writes the file itself."
_KEY_CHARACTERS = 40  # a CURVE key in Z85


class Connection(NamedTuple):
    """Where to listen, and how to sign."""

    path: str
    transport: str  # "tcp" or "ipc"
    ip: str  # for ipc: the beginning of the socket files' paths
    ports: dict[str, int]  # by channel, see CHANNELS
    key: bytes  # b"": messages are not signed
    digest: str  # a name that hashlib knows
    curve_public: bytes | None
    curve_secret: bytes | None

    def endpoint(self, channel: str) -> str:
        """What to bind the socket of `channel` to."""
        between = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{between}{self.ports[channel]}"


def read(path: str | None) -> Connection:
    """The connection that the file at `path` describes.

    Raises:
        ConnectionFileError: it is missing, unreadable, or not a connection file.
    """
    if not path:
        raise ConnectionFileError(f"No connection file was given (-f FILE). {_REMEDY}")
    return parse(path, _load(path, _read_bounded(path)))


def _read_bounded(path: str) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ConnectionFileError(f"There is no connection file {path!r}. {_REMEDY}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConnectionFileError(
            f"The connection file {path!r} cannot be read: {reason}. {_REMEDY}"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _refusal(path, "it is not a regular file")
        content = os.read(handle, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refusal(path, f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)
    if len(content) > MAX_FILE_BYTES:
        raise _refusal(path, f"it is longer than {MAX_FILE_BYTES} bytes")
    return content


def _load(path: str, content: bytes) -> dict[str, Any]:
    import json

    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise _refusal(path, "it is not JSON") from None
    if not isinstance(value, dict):
        raise _refusal(path, "it is not a JSON object")
    return value


def parse(path: str, fields: dict[str, Any]) -> Connection:
    """Check what a connection file says. `path` is for messages only.

    Raises:
        ConnectionFileError: a field is missing or makes no sense.
    """
    wanted = ("transport", "ip", "key", *(f"{channel}_port" for channel in CHANNELS))
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise _refusal(path, f"it has no {', '.join(missing)}")
    transport = fields["transport"]
    if transport not in ("tcp", "ipc"):
        raise _refusal(path, f"its transport is {transport!r}, and we speak tcp and ipc")
    curve_public, curve_secret = _curve_keys(path, fields)
    return Connection(
        path,
        transport,
        _text(path, fields, "ip"),
        {channel: _port(path, fields, channel, transport) for channel in CHANNELS},
        _key(path, fields),
        _digest(path, fields.get("signature_scheme") or "hmac-sha256"),
        curve_public,
        curve_secret,
    )


def _text(path: str, fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value or "\0" in value:
        raise _refusal(path, f"its {name} is {value!r}, which is no address")
    return value


def _port(path: str, fields: dict[str, Any], channel: str, transport: str) -> int:
    value = fields[f"{channel}_port"]
    highest = 65535 if transport == "tcp" else 2**31
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= highest:
        raise _refusal(path, f"its {channel}_port is {value!r}, which is not 1 to {highest}")
    return value


def _key(path: str, fields: dict[str, Any]) -> bytes:
    key = fields["key"]
    if not isinstance(key, str):
        raise _refusal(path, "its key is not a text")
    return key.encode("utf-8", "surrogatepass")


def _digest(path: str, scheme: Any) -> str:
    import hashlib

    family, _, name = str(scheme).partition("-")
    # An extendable digest (shake) has no length of its own, so it signs nothing.
    if family != "hmac" or name not in hashlib.algorithms_available or "shake" in name:
        raise _refusal(path, f"its signature_scheme is {scheme!r}, and we sign with hmac-sha256")
    return name


def _curve_keys(path: str, fields: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    names = ("curve_publickey", "curve_secretkey")
    given = [name for name in names if fields.get(name) is not None]
    if not given:
        return None, None
    if len(given) == 1:
        raise _refusal(path, f"it has {given[0]} but not the other CURVE key")
    for name in names:
        value = fields[name]
        if not isinstance(value, str) or len(value) != _KEY_CHARACTERS or not value.isascii():
            raise _refusal(path, f"its {name} is not a CURVE key of {_KEY_CHARACTERS} characters")
    return fields[names[0]].encode(), fields[names[1]].encode()


def _refusal(path: str, reason: str) -> ConnectionFileError:
    return ConnectionFileError(f"{path!r} is not a connection file: {reason}. {_REMEDY}")
