"""Any object as JSON: what user code puts into displays, metadata and comms.

Bytes become base64 as Jupyter has it, numpy's and pandas' numbers become numbers, sets
lists, and what has no better form its `repr`. Pure; nothing here raises.
"""

import json
from binascii import b2a_base64
from typing import Any

# Far deeper than any display; shallow enough for the recursion below.
_MAX_DEPTH = 100

_encode = json.JSONEncoder(separators=(",", ":"), default=lambda value: to_jsonable(value)).encode


def dump_json(value: Any) -> bytes:
    """`value` as JSON text in ASCII: lone surrogates stay escapes, so encoding cannot fail."""
    try:
        return _encode(value).encode("ascii")
    except (TypeError, ValueError, RecursionError, OverflowError):
        return _encode(_clean(value, 0)).encode("ascii")


def to_jsonable(value: Any) -> Any:
    """A value that JSON has no form for, as one that it has."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(bytes(value), newline=False).decode("ascii")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    for method in ("item", "tolist", "isoformat"):
        convert = getattr(value, method, None)
        if callable(convert):
            try:
                converted = convert()
            except Exception:  # a user's class may raise anything
                continue
            if type(converted) is not type(value):
                return converted
    try:
        return repr(value)
    except Exception:
        return "<%s>" % type(value).__name__


def _clean(value: Any, depth: int) -> Any:
    """`value` rebuilt: with text keys, no cycles, no depth that JSON parsers refuse."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return _clean_atom(value)
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {_clean_key(key): _clean(item, depth + 1) for key, item in list(value.items())}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item, depth + 1) for item in list(value)]
    return _clean(to_jsonable(value), depth + 1)


def _clean_key(key: Any) -> str:
    return str(key) if isinstance(key, str) else str(_clean(key, _MAX_DEPTH - 1))


def _clean_atom(value: Any) -> Any:
    # Subclasses of int and float may have a `__repr__` that is no JSON.
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    return None
