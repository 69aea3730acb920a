"""JSON-like values of a guest's, copied within bounds. Pure.

A copy is what a signed message can hold: string keys, finite numbers, no lone surrogates,
no nesting that makes an encoder run out of stack.
"""

from __future__ import annotations

from typing import Any

# JupyterLab's own JSON view is unusable long before; Python's encoder survives about 900.
MAX_DEPTH = 100
# A table of 10,000 rows and ten columns as JSON records; a browser's tree view stalls on more.
MAX_NODES = 200_000
MAX_CHARACTERS = 4 * 1024**2
# Python refuses to print integers over 4,300 digits; a browser keeps 53 bits.
_MAX_INTEGER_BITS = 1024


class Unshowable(Exception):
    """This part of an output is not shown. `str()` is the reason, for the reader's note."""


def replace_surrogates(text: str) -> str:
    """`text` that UTF-8 can hold: surrogate pairs joined, lone ones replaced."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def copy_json(
    value: Any,
    *,
    max_depth: int = MAX_DEPTH,
    max_nodes: int = MAX_NODES,
    max_characters: int = MAX_CHARACTERS,
) -> Any:
    """A copy of `value` that JSON can hold. NaN, huge integers and foreign types become None.

    Raises:
        Unshowable: it is over one of the bounds.
    """
    return _Copier(max_depth, max_nodes, max_characters).copy(value, 0)


class _Copier:
    def __init__(self, max_depth: int, max_nodes: int, max_characters: int) -> None:
        self._max_depth = max_depth
        self._nodes_left = max_nodes
        self._characters_left = max_characters

    def copy(self, value: Any, depth: int) -> Any:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise Unshowable("it has too many parts")
        if isinstance(value, str):
            return self._copy_text(value)
        if isinstance(value, dict | list | tuple):
            if depth >= self._max_depth:
                raise Unshowable(f"it is nested more than {self._max_depth} deep")
            if isinstance(value, dict):
                return {
                    self._copy_text(key): self.copy(item, depth + 1)
                    for key, item in value.items()
                    if isinstance(key, str)
                }
            return [self.copy(item, depth + 1) for item in value]
        return _copy_scalar(value)

    def _copy_text(self, text: str) -> str:
        self._characters_left -= len(text)
        if self._characters_left < 0:
            raise Unshowable("it is too large")
        return replace_surrogates(text)


def _copy_scalar(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_INTEGER_BITS else None
    if isinstance(value, float):
        # NaN is the one number that differs from itself.
        is_finite = value == value and abs(value) != float("inf")
        return value if is_finite else None
    return None
