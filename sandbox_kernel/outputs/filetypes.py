"""What a file is, by its first bytes. Pure.

Rule 1: the name has no say: the guest chose it. (`previews` lets it break a tie between texts.)
Rule 2: the answer is a label for a reader; only `images` decides what is shown as a picture.

To add a type: a row in `_SIGNATURES`.
"""

from __future__ import annotations

import re

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    # offset, bytes, label
    (0, b"\x89PNG\r\n\x1a\n", "PNG picture"),
    (0, b"\xff\xd8\xff", "JPEG picture"),
    (0, b"GIF87a", "GIF picture"),
    (0, b"GIF89a", "GIF picture"),
    (8, b"WEBP", "WebP picture"),
    (0, b"%PDF-", "PDF document"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"PK\x05\x06", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\xfd7zXZ\x00", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (257, b"ustar", "tar archive"),
    (0, b"PAR1", "Parquet table"),
    (0, b"ARROW1", "Arrow table"),
    (0, b"SQLite format 3\x00", "SQLite database"),
    (8, b"DUCK", "DuckDB database"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 data"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"\x80\x04\x95", "Python pickle"),
    (0, b"\x80\x05\x95", "Python pickle"),
    (0, b"\x7fELF", "ELF program"),
    (0, b"MZ", "Windows program"),
    (4, b"ftyp", "MP4 video"),
    (0, b"\x1aE\xdf\xa3", "Matroska video"),
    (8, b"WAVE", "WAV audio"),
    (0, b"ID3", "MP3 audio"),
    (0, b"OggS", "Ogg audio"),
    (0, b"fLaC", "FLAC audio"),
    (0, b"BM", "BMP picture"),
    (0, b"II*\x00", "TIFF picture"),
    (0, b"MM\x00*", "TIFF picture"),
    (0, b"\x00asm", "WebAssembly module"),
)
# Two letters are also how a text can begin.
_AMBIGUOUS = frozenset({"Windows program", "BMP picture", "bzip2 data", "MP3 audio"})
_HTML = re.compile(
    r"\ufeff?\s*(?:<!--[^>]{0,500}-->\s*)?<(?:!doctype\s+html|html|head|body|script)\b", re.I
)


def sniff_label(content: bytes, text: str | None) -> str:
    """A label such as "PDF document". `text` is `content` decoded, None when it is no text."""
    for offset, signature, label in _SIGNATURES:
        if content.startswith(signature, offset) and not (text is not None and label in _AMBIGUOUS):
            return label
    if not content:
        return "empty file"
    if text is None:
        return "unknown data"
    if _HTML.match(text):
        return "HTML text"
    return "text"


_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Colours and form feeds occur in logs; NUL and the rest do not.
_NO_TEXT = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")


def decode_text(content: bytes, is_whole: bool) -> str | None:
    """`content` as text when it is plainly that; a character cut off at its end is left out."""
    import codecs

    marked = [encoding for mark, encoding in _BYTE_ORDER_MARKS if content.startswith(mark)]
    try:
        decoder = codecs.getincrementaldecoder((marked or ["utf-8"])[0])("strict")
        text = decoder.decode(content, is_whole)
    except UnicodeDecodeError:
        return None
    return None if _NO_TEXT.search(text) else text
