"""Completion and inspection: tables, columns, functions, keywords, files of the workspace."""

import os
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from . import tables, text
from .engine import Engine, Names

Json = Dict[str, Any]

_MAX_MATCHES = 500
_MAX_ENTRIES = 5000
_PLAIN = str.isidentifier


def complete(engine: Engine, code: str, cursor: int) -> Json:
    """The reply to COMPLETE."""
    path = text.path_before(code, cursor)
    if path is not None:
        return _reply(cursor - len(path), cursor, ((found, "path") for found in _paths(path)))
    word = text.word_before(code, cursor)
    start = cursor - len(word)
    found = _candidates(engine.names(), code, text.qualifier_before(code, start), word)
    return _reply(start, cursor, found)


def _candidates(names: Names, code: str, qualifier: str, word: str) -> Iterator[Tuple[str, str]]:
    known = {table.lower(): columns for table, columns in names.tables.items()}
    if qualifier:
        columns = known.get(qualifier.lower()) or known.get(_table_of(code, qualifier), [])
        yield from _matching(columns, word, "instance")
        return
    if not word:
        yield from ((_quoted(table), "class") for table in names.tables)
        return
    words = {each.lower() for kind, each, _ in text.tokens(code) if kind == "other"}
    named = [table for table in names.tables if table.lower() in words]
    columns = [column for table in named or names.tables for column in names.tables[table]]
    yield from _matching(dict.fromkeys(columns), word, "instance")
    yield from _matching(names.tables, word, "class")
    is_upper = word[0].isupper()
    keywords = names.keywords if is_upper else [each.lower() for each in names.keywords]
    yield from _matching(sorted(keywords), word, "keyword")
    yield from _matching(sorted(names.functions), word, "function")


def _table_of(code: str, alias: str) -> str:
    """What `FROM table alias` or `table AS alias` calls so."""
    words = [each for kind, each, _ in text.tokens(code) if kind in ("other", "quoted")]
    lowered = [each.strip('"').lower() for each in words]
    for i in range(1, len(lowered)):
        if lowered[i] == alias.lower():
            before = lowered[i - 2] if lowered[i - 1] == "as" and i > 1 else lowered[i - 1]
            if before not in ("from", "join", ",", ".", "select"):
                return before
    return ""


def _matching(found: Iterable[str], word: str, kind: str) -> Iterator[Tuple[str, str]]:
    lowered = word.lower()
    for each in found:
        if each.lower().startswith(lowered):
            yield _quoted(each), kind


def _quoted(name: str) -> str:
    return name if _PLAIN(name) else '"%s"' % name.replace('"', '""')


def _paths(path: str) -> Iterator[str]:
    directory, prefix = os.path.split(path)
    try:
        with os.scandir(directory or ".") as entries:
            found = [entry for _, entry in zip(range(_MAX_ENTRIES), entries)]  # noqa: B905
    except OSError:
        return
    for entry in sorted(found, key=lambda each: each.name):
        if entry.name.startswith(prefix) and (prefix or not entry.name.startswith(".")):
            yield os.path.join(directory, entry.name) + ("/" if entry.is_dir() else "")


def _reply(start: int, end: int, found: Iterable[Tuple[str, str]]) -> Json:
    matches: List[Tuple[str, str]] = []
    seen = set()
    for match, kind in found:
        if match not in seen and len(matches) < _MAX_MATCHES:
            seen.add(match)
            matches.append((match, kind))
    typed = [{"start": start, "end": end, "text": each, "type": kind} for each, kind in matches]
    return {
        "status": "ok",
        "matches": [each for each, _ in matches],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {"_jupyter_types_experimental": typed} if typed else {},
    }


def inspect(engine: Engine, code: str, cursor: int) -> Json:
    """The reply to INSPECT."""
    word = text.word_at(code, cursor)
    described = engine.describe(word) if word else None
    data = tables.bundle(tables.read(described)) if described is not None else {}
    return {"status": "ok", "found": bool(data), "data": data, "metadata": {}}


def is_complete(engine: Engine, code: str) -> Json:
    """The reply to IS_COMPLETE: as in any console of SQL, a semicolon ends a statement."""
    if not text.has_code(code):
        return {"status": "complete"}
    if text.is_open(code) or not text.is_ended(code):
        return {"status": "incomplete", "indent": ""}
    return {"status": "complete" if engine.is_valid(code) else "invalid"}
