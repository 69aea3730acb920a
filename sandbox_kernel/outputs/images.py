"""Pictures: only those whose first bytes and size a browser can take. Pure.

Rule 1: headers are read, pixels never: a PNG of 50,000 x 50,000 is a few kilobytes.
Rule 2: an SVG is shown through `<img>`, where it runs no script and loads nothing; never
as itself, which is a document with the page's rights.

Source: PNG 3rd edition 11.2.1 (IHDR); ITU T.81 B.2.2 (SOF); GIF89a 18 and 20; WebP
container specification, "Simple file format" and "Extended file format".
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from sandbox_kernel.outputs.values import Unshowable

# Chromium refuses sides over 65,535 and some 500 megapixels; a 24-inch poster at 300 dpi is 64.
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_767
# The frame that brought it is at most 16 MiB; base64 adds a third.
MAX_ENCODED = 16 * 1024**2
MAX_SVG = 8 * 1024**2
# Frame headers come after thumbnails and colour profiles, which are under a megabyte. A
# hostile chain of tiny blocks is walked no further.
_MAX_HEADER = 2 * 1024**2

RASTER_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class Picture(NamedTuple):
    mime_type: str
    width: int
    height: int


def admit_raster(mime_type: str, text: object) -> str:
    """The base64 text of a raster image in its canonical form, which holds no markup.

    Raises:
        Unshowable: it is not base64, not of its type, or too large to decode safely.
    """
    content = decode_base64(text)
    check_raster(content, mime_type)
    return binascii.b2a_base64(content, newline=False).decode("ascii")


def decode_base64(text: object) -> bytes:
    """The bytes of a bundle's base64 `text`, line breaks allowed as nbformat has them.

    Raises:
        Unshowable: it is no base64, or over `MAX_ENCODED`.
    """
    if isinstance(text, list):
        text = "".join(part for part in text if isinstance(part, str))
    if not isinstance(text, str) or not text.isascii():
        raise Unshowable("it is not base64 text")
    if len(text) > MAX_ENCODED:
        raise Unshowable("it is too large")
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except binascii.Error:
        raise Unshowable("it is not base64 text") from None


def check_raster(content: bytes, mime_type: str | None = None) -> Picture:
    """What picture `content` is, by its header.

    Raises:
        Unshowable: none, another than `mime_type`, or larger than a browser should decode.
    """
    picture = measure(content)
    if picture is None or mime_type not in (None, picture.mime_type):
        kind = "a picture" if mime_type is None else f"an {mime_type} picture"
        raise Unshowable(f"its first bytes are not those of {kind}")
    width, height = picture.width, picture.height
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise Unshowable(f"{width} x {height} pixels are more than a browser should decode")
    return picture


def measure(content: bytes) -> Picture | None:
    """Type and size from the header; None when it is no raster image that we show."""
    content = content[:_MAX_HEADER]
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _measure_png(content)
    if content.startswith(b"\xff\xd8\xff"):
        return _measure_jpeg(content)
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _measure_gif(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _measure_webp(content)
    return None


def _measure_png(content: bytes) -> Picture | None:
    if content[12:16] != b"IHDR" or len(content) < 24:
        return None
    return Picture("image/png", _big(content[16:20]), _big(content[20:24]))


# SOF0..SOF15, but DHT (C4), JPG (C8) and DAC (CC), which share the range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _measure_jpeg(content: bytes) -> Picture | None:
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _START_OF_FRAME:
            size = content[position + 5 : position + 9]
            return Picture("image/jpeg", _big(size[2:]), _big(size[:2]))
        elif marker == 0xDA:  # scan data before any frame header
            return None
        else:
            position += 2 + max(2, _big(content[position + 2 : position + 4]))
    return None


def _measure_gif(content: bytes) -> Picture | None:
    """The larger of screen and first frame: decoders grow the screen to that frame."""
    if len(content) < 13:
        return None
    width, height = _little(content[6:8]), _little(content[8:10])
    position = 13 + _color_table_bytes(content[10])
    while content[position : position + 1] == b"!":  # extensions before the first frame
        position = _skip_blocks(content, position + 2)
    frame = content[position : position + 10]
    if len(frame) == 10 and frame[:1] == b",":
        width = max(width, _little(frame[1:3]) + _little(frame[5:7]))
        height = max(height, _little(frame[3:5]) + _little(frame[7:9]))
    return Picture("image/gif", width, height)


def _color_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(content: bytes, position: int) -> int:
    """Where the chain of length-prefixed blocks at `position` ends."""
    while position < len(content) and content[position]:
        position += 1 + content[position]
    return position + 1


def _measure_webp(content: bytes) -> Picture | None:
    chunk, body = content[12:16], content[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return Picture("image/webp", _little(body[4:7]) + 1, _little(body[7:10]) + 1)
    if chunk == b"VP8L" and body[0] == 0x2F:
        bits = _little(body[1:5])
        return Picture("image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return Picture("image/webp", _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF)
    return None


def _big(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _little(octets: bytes) -> int:
    return int.from_bytes(octets, "little")


_SVG_START = re.compile(
    r"\ufeff?\s*(?:<\?xml[^<>]{0,200}\?>\s*)?"
    r"(?:(?:<!--(?:(?!-->).){0,4000}-->|<!DOCTYPE\s+svg[^<>\[]{0,400}>)\s*){0,20}<svg[\s>/]",
    re.IGNORECASE | re.DOTALL,
)


def is_svg(text: str) -> bool:
    """Whether `text` begins as an SVG document, whatever its name says."""
    return _SVG_START.match(text) is not None


def admit_svg(text: object) -> str:
    """An `<img>` that shows an SVG, as html.

    Raises:
        Unshowable: it is no SVG, too large, or defines entities, which can multiply.
    """
    if isinstance(text, list):
        text = "".join(part for part in text if isinstance(part, str))
    if not isinstance(text, str) or not is_svg(text):
        raise Unshowable("it does not begin as an SVG document")
    if len(text) > MAX_SVG:
        raise Unshowable("it is too large")
    if "<!ENTITY" in text.upper():
        raise Unshowable("it defines entities")
    encoded = binascii.b2a_base64(text.encode("utf-8", "replace"), newline=False).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{encoded}" style="max-width: 100%">'


_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp|svg\+xml));base64,", re.IGNORECASE)


def admit_data_url(url: str) -> str | None:
    """A `data:` url of a picture as an `<img>` may have it, or None."""
    url = url.strip()
    found = _DATA_URL.match(url)
    if found is None:
        return None
    mime_type = found[1].lower()
    try:
        if mime_type == "image/svg+xml":
            svg = decode_base64(url[found.end() :]).decode("utf-8", "replace")
            return admit_svg(svg).split('"')[1]
        return f"data:{mime_type};base64,{admit_raster(mime_type, url[found.end() :])}"
    except Unshowable:
        return None
