"""CSV, TSV and JSON files as temporary tables of SQLite, named as the files are.

Column types are those of the values: a column of whole numbers is INTEGER, of numbers REAL,
else TEXT; an empty field of a number column is NULL. Nested JSON stays JSON text.
"""

import csv
import json
import os
import sqlite3
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple

_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
# All of it is held in memory, several times while it is read.
_MAX_BYTES = 100 * 1024 * 1024
# SQLite's own limit on the columns of a table.
_MAX_COLUMNS = 2000


class Version(NamedTuple):
    """What tells a file from the same one later."""

    modified_ns: int
    size: int
    inode: int


def is_data_file(name: str) -> bool:
    """Whether `name` could be loaded, and is there."""
    return name.lower().endswith(_ENDINGS) and os.path.isfile(name)


def version(name: str) -> Optional[Version]:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return Version(status.st_mtime_ns, status.st_size, status.st_ino)


def quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')


def load(connection: sqlite3.Connection, name: str) -> Version:
    """Make the table. Raises OSError, ValueError (with the reason) or sqlite3.Error."""
    seen = version(name)
    if seen is None:
        raise OSError("it is gone")
    if seen.size > _MAX_BYTES:
        raise ValueError("it has more than %d MiB, which DuckDB could read" % (_MAX_BYTES >> 20))
    columns, rows = _read_json(name) if "json" in name.lower() else _read_csv(name)
    if not columns:
        raise ValueError("it has no columns")
    if len(columns) > _MAX_COLUMNS:
        raise ValueError("it has %d columns, over %d" % (len(columns), _MAX_COLUMNS))
    _fill(connection, name, columns, rows)
    return seen


def _fill(
    connection: sqlite3.Connection, name: str, columns: List[str], rows: List[List[Any]]
) -> None:
    kinds = [_kind_of(row[i] for row in rows) for i in range(len(columns))]
    declared = ", ".join(
        "%s %s" % (quoted(column), kind)
        for column, (kind, _) in zip(_distinct(columns), kinds)  # noqa: B905  # Python 3.8
    )
    converters = [converter for _, converter in kinds]
    table = "temp.%s" % quoted(name)
    connection.execute("CREATE TABLE %s (%s)" % (table, declared))
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        "INSERT INTO %s VALUES (%s)" % (table, marks),
        ([convert(v) for convert, v in zip(converters, row)] for row in rows),  # noqa: B905
    )


def _read_csv(name: str) -> Tuple[List[str], List[List[Any]]]:
    # `utf-8-sig`: spreadsheets write a mark at the beginning.
    with open(name, encoding="utf-8-sig", errors="replace", newline="") as file:
        delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(file.readline())
        file.seek(0)
        reader = csv.reader((line.replace("\0", "") for line in file), delimiter=delimiter)
        try:
            columns = next(reader, [])
            size = len(columns)
            rows = [(row + [""] * size)[:size] for row in reader if row]
        except csv.Error as error:
            raise ValueError("line %d: %s" % (reader.line_num, error)) from None
    return columns, rows


def _delimiter(line: str) -> str:
    return max(",;\t|", key=line.count) if line else ","


def _read_json(name: str) -> Tuple[List[str], List[List[Any]]]:
    with open(name, encoding="utf-8-sig", errors="replace") as file:
        content = file.read()
    try:
        records = _records(content)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    columns = list(dict.fromkeys(key for record in records for key in record))
    return columns, [[_flat(record.get(key)) for key in columns] for record in records]


def _records(content: str) -> List[Any]:
    """Objects: of a list, of lines, or the only one."""
    try:
        found = json.loads(content)
    except ValueError:
        lines = [line for line in content.splitlines() if line.strip()]
        found = [json.loads(line) for line in lines]
    records = found if isinstance(found, list) else [found]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("it is no list of objects")
    return records


def _flat(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, (str, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return json.dumps(value, ensure_ascii=False)


def _distinct(names: List[str]) -> Iterator[str]:
    """Names of columns: none empty, none twice (SQLite does not tell case apart)."""
    taken = set()
    for number, name in enumerate(names, 1):
        base = name.strip() or "column%d" % number
        chosen, count = base, 1
        while chosen.lower() in taken:
            count += 1
            chosen = "%s_%d" % (base, count)
        taken.add(chosen.lower())
        yield chosen


def _kind_of(values: Iterable[Any]) -> Tuple[str, Callable[[Any], Any]]:
    """A column's type, and what makes its values of the file's."""
    kind = "INTEGER"
    for value in values:
        if value is None or value == "":
            continue
        if kind == "INTEGER" and not _fits(int, value):
            kind = "REAL"
        if kind == "REAL" and not _fits(float, value):
            return "TEXT", lambda value: value
    convert = int if kind == "INTEGER" else float
    return kind, lambda value: None if value is None or value == "" else convert(value)


def _fits(convert: Callable[[Any], Any], value: Any) -> bool:
    if isinstance(value, str):
        # `01234` is a number of a house or a phone, not twelve hundred and thirty-four.
        digits = value.strip().lstrip("+-")
        if "_" in value or (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()):
            return False
    elif convert is int and not isinstance(value, int):
        return False
    try:
        converted = convert(value)
    except (ValueError, OverflowError):
        return False
    return not isinstance(converted, int) or -(2**63) <= converted < 2**63
