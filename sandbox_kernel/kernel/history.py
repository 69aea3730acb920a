"""What was typed in this kernel's life, for history requests. Kept on the host, in memory.

Rule 1: bounded in entries and in characters; the oldest go first.
Rule 2: as in IPython an entry is (session, line, source) or, with output, (session, line,
        (source, output)). There is one session, number 1; 0 means the current one.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

SESSION = 1
MAX_ENTRIES = 10_000
# jupyter console asks for the last thousand at once; long cells must not make that absurd.
MAX_CHARACTERS = 8 * 1024 * 1024
MAX_OUTPUT_CHARACTERS = 10_000


class Entry(NamedTuple):
    line: int
    source: str
    output: str | None  # text form of the cell's result

    @property
    def size(self) -> int:
        return len(self.source) + len(self.output or "")


class History:
    """The entries, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._characters = 0

    def record(self, line: int, source: str, output: str | None = None) -> None:
        """Add a cell that stored history. A source too long to keep is cut."""
        kept = output[:MAX_OUTPUT_CHARACTERS] if output is not None else None
        entry = Entry(line, source[: MAX_CHARACTERS // 2], kept)
        self._entries.append(entry)
        self._characters += entry.size
        while len(self._entries) > MAX_ENTRIES or self._characters > MAX_CHARACTERS:
            self._characters -= self._entries.popleft().size

    def answer(self, wanted: dict[str, Any]) -> list[list[Any]]:
        """The entries that the content of a history request asks for.

        `raw` makes no difference: the host never sees what the guest makes of a source.
        """
        kind = wanted.get("hist_access_type")
        if kind == "tail":
            found = self._tail(_number(wanted, "n"))
        elif kind == "range":
            found = self._range(wanted)
        elif kind == "search":
            found = self._search(wanted)
        else:
            found = []
        has_output = bool(wanted.get("output"))
        return [[SESSION, e.line, [e.source, e.output] if has_output else e.source] for e in found]

    def _tail(self, count: int | None) -> list[Entry]:
        return _last(list(self._entries), count)

    def _range(self, wanted: dict[str, Any]) -> list[Entry]:
        if (_number(wanted, "session") or 0) not in (0, SESSION):
            return []
        start, stop = _number(wanted, "start") or 0, _number(wanted, "stop")
        after_last = self._entries[-1].line + 1 if self._entries else 0
        if start < 0:
            start += after_last
        if not stop or stop > after_last:
            stop = after_last
        elif stop < 0:
            stop += after_last
        return [entry for entry in self._entries if start <= entry.line < stop]

    def _search(self, wanted: dict[str, Any]) -> list[Entry]:
        pattern = wanted.get("pattern")
        matches = _glob(pattern if isinstance(pattern, str) and pattern else "*")
        found = [entry for entry in self._entries if matches(entry.source)]
        if wanted.get("unique"):
            # The last of equal sources stays, where it is.
            latest = {entry.source: entry for entry in found}
            found = sorted(latest.values(), key=lambda entry: entry.line)
        return _last(found, _number(wanted, "n"))


def _last(entries: list[Entry], count: int | None) -> list[Entry]:
    if count is None:
        return entries
    return entries[-count:] if count > 0 else []


def _glob(pattern: str) -> Any:
    """A function that says whether a whole text matches the glob."""
    from fnmatch import translate  # only who searches pays
    from re import compile as compile_pattern

    return compile_pattern(translate(pattern)).match


def _number(wanted: dict[str, Any], name: str) -> int | None:
    value = wanted.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
