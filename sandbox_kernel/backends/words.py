"""What a guest said, fit to be quoted to a person. Pure."""

from __future__ import annotations

SHOWN_WORDS = 500


def clean(words: bytes) -> str:
    """Bytes of a guest as one printable line, bounded."""
    text = words.decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN_WORDS else "…" + line[-SHOWN_WORDS:]
