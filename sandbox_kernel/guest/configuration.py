"""What the host wants of this sandbox: its first frame, CONFIGURE.

Rule 1: no import of `json`, `struct` or `typing` on the usual path. They cost 14 ms of a
start-up in which nothing else can happen yet; the C parser inside `json` costs none.
Rule 2: the host is trusted, but what is wrong is refused by name rather than guessed.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADER_BYTES = 13  # as in `framing.HEADER`
_CONFIGURE = 1  # as in `framing.Kind`
# Environment and limits: a few kilobytes. The kernel bounds an environment to 2 MiB.
_MAX_BYTES = 4 * 1024 * 1024

_LIMITS = (
    "memory_bytes",
    "processes",
    "workspace_bytes",
    "workspace_inodes",
    "open_files",
    "output_bytes",
    "artifact_bytes",
    "displays",
    "artifacts",
)


class ConfigurationError(ValueError):
    """The host's first frame is no CONFIGURE, or says something we cannot obey."""


class Configuration:
    """The checked content of CONFIGURE; every attribute has the type that it says."""

    def __init__(self, meta: dict[str, Any], guest_directory: str) -> None:
        self.language = _take(meta, "language", str, "")
        self._guest_directory = guest_directory
        self.argv: list[str] = self._fill_in(meta.get("runner"))
        # One object for all runners: what is attached later is for all that start later.
        self.environment: dict[str, str] = _take(meta, "environment", dict, {})
        for name, value in self.environment.items():
            if not isinstance(value, str):
                raise ConfigurationError("CONFIGURE sets %r to no text." % name)
        self.workspace: str = _take(meta, "workspace", str, "/workspace")
        self.watch_memory: bool = _take(meta, "watch_memory", bool, False)
        limits = _take(meta, "limits", dict, {})
        self.limits: dict[str, int] = {name: _number(limits, name) for name in _LIMITS}

    def for_runner(self, argv: Any) -> Configuration:
        """The same, for another runner beside the first. Raises `ConfigurationError`."""
        other = object.__new__(Configuration)
        other.__dict__.update(self.__dict__)
        other.argv = self._fill_in(argv)
        return other

    def attach(self, environment: Any) -> None:
        """Set variables for every runner to come. Raises `ConfigurationError`."""
        if not isinstance(environment, dict):
            raise ConfigurationError("The environment to attach is no JSON object.")
        for name, value in environment.items():
            if not _is_variable(name, value):
                raise ConfigurationError("%r cannot be set to %r." % (name, value))
        self.environment.update(environment)

    def _fill_in(self, argv: Any) -> list[str]:
        """`argv` with this guest's places in it."""
        if not isinstance(argv, list) or not argv or not all(map(_is_word, argv)):
            raise ConfigurationError("A runner is a list of words, and %.200r is none." % (argv,))
        return [
            item.replace("{guest}", self._guest_directory).replace("{python}", sys.executable)
            for item in argv
        ]


def read_configuration(fd: int) -> Configuration:
    """Wait for the host's first frame and check it. Raises `ConfigurationError`."""
    header = _read_exactly(fd, _HEADER_BYTES)
    length = int.from_bytes(header[0:4], "big")
    meta_length = int.from_bytes(header[9:13], "big")
    if header[4] != _CONFIGURE or length > _MAX_BYTES or meta_length > length:
        raise ConfigurationError("The first frame is not CONFIGURE.")
    meta = _parse(_read_exactly(fd, length)[:meta_length].decode("utf-8"))
    if not isinstance(meta, dict):
        raise ConfigurationError("CONFIGURE holds no JSON object.")
    return Configuration(meta, os.path.dirname(os.path.abspath(__file__)))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_variable(name: Any, value: Any) -> bool:
    """Whether a program can be started with it: one that cannot would stop every runner."""
    if not (_is_word(name) and _is_word(value)) or not name or "=" in name:
        return False
    try:
        os.fsencode(name + value)
    except UnicodeEncodeError:
        return False
    return True


def _take(meta: dict[str, Any], name: str, expected: type, default: Any) -> Any:
    value = meta.get(name, default)
    if not isinstance(value, expected):
        raise ConfigurationError("CONFIGURE has %r as its %r." % (value, name))
    return value


def _number(limits: dict[str, Any], name: str) -> int:
    value = limits.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigurationError("CONFIGURE has %r as its limit %r." % (value, name))
    return int(value)


def _read_exactly(fd: int, count: int) -> bytes:
    content = b""
    while len(content) < count:
        chunk = os.read(fd, count - len(content))
        if not chunk:
            raise ConfigurationError("The host closed the stream before it said what to run.")
        content += chunk
    return content


class _Dialect:
    """What the parser in C asks `json.JSONDecoder` for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(lambda name: None)


def _parse(text: str) -> Any:
    """JSON, by the parser that `json` wraps: same result, without importing `re`."""
    try:
        from _json import make_scanner

        return make_scanner(_Dialect())(text, 0)[0]  # type: ignore[arg-type]
    except (ImportError, StopIteration, ValueError, SystemError):
        # Another Python than CPython, or an error, which the C parser cannot word alone.
        return _parse_slowly(text)


def _parse_slowly(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError("CONFIGURE holds no JSON: %s." % error) from None
