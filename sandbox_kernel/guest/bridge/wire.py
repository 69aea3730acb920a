"""Jupyter's messages as parts of a ZeroMQ message: built, signed, checked, read. Pure.

    identities…, <IDS|MSG>, signature, header, parent header, metadata, content, buffers…

Rule: whatever comes is read or None; nothing raises. A message whose signature is wrong is
none: a cell that finds a socket cannot speak for the kernel without its key.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

import hmac
from json import JSONEncoder, loads
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

DELIMITER = b"<IDS|MSG>"
# Nested deeper than any display; what reads our frames gives up not much deeper.
_MAX_DEPTH = 200

_encode = JSONEncoder(separators=(",", ":")).encode
Json = Dict[str, Any]


class Message(NamedTuple):
    """One message of the kernel's. Every field has the type that it says, and no more."""

    kind: str
    header: Json
    parent_id: str
    metadata: Json
    content: Json
    buffers: List[bytes]


class Wire:
    """Speaks with one key, as one client."""

    def __init__(self, key: str) -> None:
        self._mac = hmac.new(key.encode("ascii"), digestmod="sha256")

    def encode(
        self,
        kind: str,
        message_id: str,
        content: Json,
        *,
        parent: Optional[Json] = None,
        metadata: Optional[Json] = None,
        buffers: Iterable[bytes] = (),
    ) -> List[bytes]:
        """The parts of a message of ours."""
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "session": message_id.rpartition("-")[0],
            "username": "sandbox",
            "date": _now(),
            "version": "5.3",
        }
        parts = [_dump(part) for part in (header, parent or {}, metadata or {}, content)]
        return [DELIMITER, self._sign(parts), *parts, *buffers]

    def decode(self, parts: List[bytes]) -> Optional[Message]:
        """What the kernel says; None if it is no message, or somebody else's."""
        try:
            start = parts.index(DELIMITER) + 1
        except ValueError:
            return None
        if len(parts) < start + 5:
            return None
        signed = parts[start + 1 : start + 5]
        if not hmac.compare_digest(self._sign(signed), parts[start]):
            return None
        header, parent, metadata, content = map(_load, signed)
        if header is None or content is None:
            return None
        kind, parent_id = header.get("msg_type"), (parent or {}).get("msg_id")
        return Message(
            kind if isinstance(kind, str) else "",
            header,
            parent_id if isinstance(parent_id, str) else "",
            metadata or {},
            content,
            parts[start + 5 :],
        )

    def _sign(self, parts: Iterable[bytes]) -> bytes:
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode("ascii")


def _dump(value: Json) -> bytes:
    # In ASCII a lone surrogate stays an escape, so encoding cannot fail.
    return _encode(value).encode("ascii")


def _load(part: bytes) -> Optional[Json]:
    """A JSON object, or None. R writes an empty one as a list."""
    try:
        value = loads(part.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and not value:
        return {}
    return value if isinstance(value, dict) and not _is_too_deep(value) else None


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def _now() -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%S.000000Z", gmtime())
