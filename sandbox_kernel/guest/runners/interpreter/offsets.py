"""Cursor positions: code points for Jupyter, bytes of UTF-8 for interpreters. Pure."""


def to_bytes(code: str, position: object) -> int:
    """The byte offset of the cursor at code point `position`; the end if that is none."""
    if isinstance(position, int) and 0 <= position <= len(code):
        code = code[:position]
    return len(code.encode("utf-8", "replace"))


def to_code_points(code: str, offset: str, otherwise: int) -> int:
    """The code point position of a byte offset that an interpreter named."""
    if not offset.isdecimal() or len(offset) > 9:
        return otherwise
    before = code.encode("utf-8", "replace")[: int(offset)]
    return min(len(before.decode("utf-8", "ignore")), otherwise)
