"""Pictures that code showed and did not save, under names by which they can be kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sandbox_kernel.limits import MIB, format_size
from sandbox_kernel.outputs import images
from sandbox_kernel.outputs.values import Unshowable

if TYPE_CHECKING:
    from sandbox_kernel.engine import Display

# Each is 10 MiB at the most; the oldest go.
MAX_BYTES = 128 * MIB
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
# How the output policy captions a picture file (see `outputs.previews`).
_FILE = re.compile(r"(?P<name>.{1,200}) · (?:PNG|JPEG|GIF|WebP) picture, \d+ x \d+ · .{1,20}")


class Pictures:
    """The newest of them, by name."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._count = 0

    def take(self, display: Display) -> str:
        """Keep the picture of `display`; a line about it, "" when it has none."""
        mime = next((mime for mime in _ENDINGS if mime in display.bundle), None)
        if mime is None:
            return ""
        if saved := _FILE.fullmatch(display.text):
            return f"[{display.text}] /files get {saved['name']}"
        try:
            content = images.decode_base64(display.bundle[mime])
            picture = images.check_raster(content, mime)
        except Unshowable as reason:
            return f"[a picture that is not shown: {reason}]"
        self._count += 1
        name = f"picture-{self._count}.{_ENDINGS[mime]}"
        self._kept[name] = content
        while sum(map(len, self._kept.values())) > MAX_BYTES and len(self._kept) > 1:
            del self._kept[next(iter(self._kept))]
        size = f"{picture.width} x {picture.height}, {format_size(len(content))}"
        return f"[{name}: {size}] /files get {name}"

    def get(self, name: str) -> bytes | None:
        return self._kept.get(name)
