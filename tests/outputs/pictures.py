"""Picture files of any size that hold no pixels."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack("!IIBBBBB", width, height, 8, 6, 0, 0, 0)
    checked = header + struct.pack("!I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack("!I", 13) + checked + b"pixels"


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    frame = b"\xff\xc2" + struct.pack("!HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8\xff\xe0" + struct.pack("!H", 16) + bytes(14) + before + frame


def gif(width: int, height: int, frame: tuple[int, int] = (1, 1)) -> bytes:
    extension = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    image = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0)
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + extension + image
    )


def webp(chunk: bytes, body: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + chunk + struct.pack("<I", len(body)) + body


def webp_extended(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes(4) + sides)


VP8L = webp(b"VP8L", b"\x2f" + ((319 | 199 << 14).to_bytes(4, "little")) + bytes(8))
VP8 = webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 320, 200) + bytes(8))
PICTURES = [
    (png(320, 200), "image/png"),
    (jpeg(320, 200), "image/jpeg"),
    (jpeg(320, 200, b"\xff\xff\xe1" + struct.pack("!H", 2000) + bytes(1998)), "image/jpeg"),
    (gif(320, 200), "image/gif"),
    (webp_extended(320, 200), "image/webp"),
    (VP8L, "image/webp"),
    (VP8, "image/webp"),
]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9"><script>alert(1)</script></svg>'
