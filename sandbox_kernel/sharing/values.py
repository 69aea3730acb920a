"""Events and outcomes as JSON and back, whichever they are. Pure.

    a NamedTuple of the vocabulary   {"is": its name, "of": [its fields]}
    a tuple, bytes, a dict           {"is": "tuple" | "bytes" | "dict", "of": …}
    a list                           a list
    all else                         itself

Bytes are taken out, to travel beside the JSON; "of" is their length.

Rule: only names in the vocabulary are made into values, with as many fields as they have.
"""

from __future__ import annotations

from typing import Any

from sandbox_kernel import events
from sandbox_kernel.session.run import Outcome
from sandbox_kernel.sharing.wire import ProtocolError

_VOCABULARY: dict[str, Any] = {
    kind.__name__: kind for kind in (*events.Event.__args__, events.Receipt, Outcome)
}
# What is nested in an event: a tuple of names, a list of buffers.
MAX_DEPTH = 6


def to_json(value: Any) -> tuple[Any, bytes]:
    """`value` as JSON, and the bytes that were in it, joined."""
    blobs: list[bytes] = []
    return _encoded(value, blobs), b"".join(blobs)


def _encoded(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, bytes):
        blobs.append(value)
        return {"is": "bytes", "of": len(value)}
    if isinstance(value, dict):
        return {"is": "dict", "of": value}
    if isinstance(value, list):
        return [_encoded(item, blobs) for item in value]
    if isinstance(value, tuple):
        name = type(value).__name__ if hasattr(value, "_fields") else "tuple"
        return {"is": name, "of": [_encoded(item, blobs) for item in value]}
    return value


def from_json(value: Any, data: bytes = b"") -> Any:
    """The value that `to_json` was given.

    Raises:
        ProtocolError: it was given no such thing.
    """
    return _Decoder(data).decode(value, 0)


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def decode(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ProtocolError("a value is nested too deep")
        if isinstance(value, list):
            return [self.decode(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        kind, of = value.get("is"), value.get("of")
        if kind == "dict" and isinstance(of, dict):
            return of
        if kind == "bytes" and isinstance(of, int) and 0 <= of <= len(self._data):
            taken, self._data = bytes(self._data[:of]), self._data[of:]
            return taken
        if not isinstance(of, list):
            raise ProtocolError("a value is of no kind")
        items = [self.decode(item, depth + 1) for item in of]
        return tuple(items) if kind == "tuple" else _made(kind, items)


def _made(kind: Any, items: list[Any]) -> Any:
    made = _VOCABULARY.get(kind) if isinstance(kind, str) else None
    if made is None or len(made._fields) != len(items):
        raise ProtocolError(f"there is no {str(kind)[:50]} with {len(items)} fields")
    return made(*items)
