"""A layer as pieces for the host: regular files only, whatever the installer left.

Links inside of the layer become copies; others are left out. The host refuses anything else,
so what is not packed here cannot come in another way.
"""

import os
import stat
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

Json = Dict[str, Any]

_PIECE_BYTES = 2 * 1024 * 1024
_PIECE_ENTRIES = 1000
_MAX_DEPTH = 64
# Programs in such a directory load what lies beside their real place, so they are not copied.
_LAUNCHERS = ".bin"
_LAUNCHER = '#!/bin/sh\nexec "${0%%/*}/%s" "$@"\n'


class Piece(NamedTuple):
    """Files begun in it, and the next bytes of all files in their order."""

    entries: List[Json]
    content: bytes


def pieces(layer: str) -> Iterator[Piece]:
    """The whole layer."""
    entries: List[Json] = []
    held: List[bytes] = []
    size = 0
    for path, content, is_executable, length in _files(layer):
        entries.append({"path": path, "is_executable": is_executable, "size": length})
        for chunk in content:
            held.append(chunk)
            size += len(chunk)
            if size >= _PIECE_BYTES:
                yield Piece(entries, b"".join(held))
                entries, held, size = [], [], 0
        if len(entries) >= _PIECE_ENTRIES:
            yield Piece(entries, b"".join(held))
            entries, held, size = [], [], 0
    if entries or held:
        yield Piece(entries, b"".join(held))


def _files(layer: str) -> Iterator[Tuple[str, Iterator[bytes], bool, int]]:
    for path, real in _walk(os.path.realpath(layer), "", os.path.realpath(layer), set()):
        launcher = _launcher(path, os.path.join(layer, path))
        if launcher is not None:
            yield path, iter([launcher]), True, len(launcher)
            continue
        found = os.stat(real)
        if stat.S_ISREG(found.st_mode):
            is_executable = bool(found.st_mode & 0o111)
            yield path, _read(real, found.st_size), is_executable, found.st_size


def _walk(directory: str, prefix: str, layer: str, above: Set[str]) -> Iterator[Tuple[str, str]]:
    """(path in the layer, real path) of everything that may be packed."""
    if directory in above or len(above) >= _MAX_DEPTH:
        return
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        real: Optional[str] = entry.path
        if entry.is_symlink():
            real = _inside(entry.path, layer)
        if real is None:
            continue
        if os.path.isdir(real):
            yield from _walk(real, prefix + entry.name + "/", layer, above | {directory})
        else:
            yield prefix + entry.name, real


def _inside(link: str, layer: str) -> Optional[str]:
    """What a link leads to if that is in the layer. Packages of a system link from the root."""
    target = os.readlink(link)
    if os.path.isabs(target) and not target.startswith(layer + "/"):
        target = layer + target
    real = os.path.realpath(os.path.join(os.path.dirname(link), target))
    return real if real.startswith(layer + "/") and os.path.exists(real) else None


def _launcher(path: str, link: str) -> Optional[bytes]:
    parts = path.split("/")
    if len(parts) < 2 or parts[-2] != _LAUNCHERS or not os.path.islink(link):
        return None
    target = os.readlink(link)
    if os.path.isabs(target) or "'" in target or '"' in target or "$" in target:
        return None
    return (_LAUNCHER % target).encode("utf-8", "surrogateescape")


def _read(path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, as was announced, whatever happens to the file meanwhile."""
    left = size
    with open(path, "rb") as file:
        while left:
            chunk = file.read(min(left, _PIECE_BYTES)) or bytes(min(left, _PIECE_BYTES))
            left -= len(chunk)
            yield chunk
