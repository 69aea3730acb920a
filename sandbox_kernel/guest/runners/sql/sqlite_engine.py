"""SQLite, which every Python has: for guests without DuckDB.

A file of the workspace may stand for a table (`FROM 'data.csv'`): the first time that it is
missing it is loaded (see `files`), and again when the file has changed.
"""

import re
import sqlite3
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

from . import files, text
from .engine import Column, Engine, Names, Result, Rows, Statement, changed, done
from .errors import Interrupted, Place, SqlError

_BATCH_ROWS = 2048
# One statement may name several files.
_MAX_FILES = 20
_MISSING = re.compile(r"\Ano such table: (?:main\.|temp\.)?(.+)\Z")
_NEAR = re.compile(r"\Anear \"(.+)\": |\Ano such (?:table|column|function): (.+)\Z", re.DOTALL)
_FUNCTIONS = (
    "abs avg changes char coalesce count cume_dist date datetime dense_rank first_value format "
    "glob group_concat hex ifnull iif instr json json_array json_extract json_group_array "
    "json_group_object json_object julianday lag last_insert_rowid last_value lead length like "
    "lower ltrim max min ntile nullif printf quote random rank replace round row_number rtrim "
    "sign strftime substr sum time total trim typeof unicode unixepoch upper zeroblob"
).split()
_KEYWORDS = (
    "ABORT ADD AFTER ALL ALTER ANALYZE AND AS ASC ATTACH AUTOINCREMENT BEFORE BEGIN BETWEEN BY "
    "CASCADE CASE CAST CHECK COLLATE COLUMN COMMIT CONFLICT CONSTRAINT CREATE CROSS CURRENT_DATE "
    "CURRENT_TIME CURRENT_TIMESTAMP DATABASE DEFAULT DELETE DESC DETACH DISTINCT DROP EACH ELSE "
    "END ESCAPE EXCEPT EXISTS EXPLAIN FALSE FILTER FOREIGN FROM FULL GLOB GROUP HAVING IF IGNORE "
    "IN INDEX INNER INSERT INTERSECT INTO IS ISNULL JOIN KEY LEFT LIKE LIMIT MATCH NATURAL NOT "
    "NOTHING NOTNULL NULL OFFSET ON OR ORDER OUTER OVER PARTITION PLAN PRAGMA PRIMARY QUERY "
    "RECURSIVE REFERENCES REINDEX RELEASE RENAME REPLACE RETURNING RIGHT ROLLBACK ROW ROWS "
    "SAVEPOINT SELECT SET TABLE TEMP TEMPORARY THEN TO TRANSACTION TRIGGER TRUE UNION UNIQUE "
    "UPDATE USING VACUUM VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH WITHOUT"
).split()


class SQLite(Engine):
    def __init__(self) -> None:
        # No transactions but those that a cell begins.
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._connection.text_factory = lambda content: content.decode("utf-8", "replace")
        self._loaded: Dict[str, files.Version] = {}

    def split(self, code: str) -> List[Statement]:
        statements, start = [], 0
        for end in text.ends(code):
            # A trigger has semicolons of its own.
            if sqlite3.complete_statement(code[start:end]):
                statements.append(_statement(code, start, end))
                start = end
        statements.append(_statement(code, start, len(code)))
        return [each for each in statements if text.has_code(each.text)]

    def run(self, statement: Statement) -> Result:
        self._forget_changed_files()
        for _ in range(_MAX_FILES):
            try:
                return self._run(statement)
            except sqlite3.Error as error:
                missing = _MISSING.match(str(error))
                if missing is None or not self._load(missing.group(1), statement):
                    _refuse(error, statement)
        raise SqlError("TooManyFiles", "A statement can read %d files at most." % _MAX_FILES)

    def _run(self, statement: Statement) -> Result:
        before = self._connection.total_changes
        cursor = self._connection.execute(statement.text)
        if cursor.description is not None:
            first = cursor.fetchmany(_BATCH_ROWS)
            columns = [
                Column(str(each[0]), _is_number(first, i))
                for i, each in enumerate(cursor.description)
            ]
            return Rows(columns, _batches(first, cursor, statement))
        if cursor.rowcount >= 0:
            return changed(cursor.rowcount)
        count = self._connection.total_changes - before
        return changed(count) if count else done(statement.text)

    def interrupt(self) -> None:
        self._connection.interrupt()

    def is_valid(self, code: str) -> bool:
        return sqlite3.complete_statement(code)

    # -- files that stand for tables

    def _load(self, name: str, statement: Statement) -> bool:
        """Make a table of the file `name`; False when there is no such file."""
        if name in self._loaded or not files.is_data_file(name):
            return False
        try:
            self._loaded[name] = files.load(self._connection, name)
        except (OSError, ValueError) as error:
            place = _find(name, statement)
            raise SqlError("FileError", "%s cannot be read: %s" % (name, error), place) from None
        except sqlite3.Error as error:
            _refuse(error, statement)
        return True

    def _forget_changed_files(self) -> None:
        for name, version in list(self._loaded.items()):
            if files.version(name) != version:
                del self._loaded[name]
                with suppress(sqlite3.Error):
                    self._connection.execute("DROP TABLE temp.%s" % files.quoted(name))

    # -- names

    def names(self) -> Names:
        tables: Dict[str, List[str]] = {}
        for schema in self._schemas():
            for name in self._tables_of(schema):
                tables[name] = [row[1] for row in self._columns_of(schema, name)]
        return Names(tables, _FUNCTIONS, _KEYWORDS)

    def describe(self, name: str) -> Optional[Rows]:
        for schema in self._schemas():
            rows = self._columns_of(schema, name)
            if rows:
                columns = [Column("column"), Column("type"), Column("")]
                return Rows(columns, [[(r[1], r[2], "NOT NULL" if r[3] else "") for r in rows]])
        return None

    def _schemas(self) -> List[str]:
        return [row[1] for row in self._ask("PRAGMA database_list")] + ["temp"]

    def _tables_of(self, schema: str) -> List[str]:
        master = "sqlite_temp_master" if schema == "temp" else "sqlite_master"
        query = "SELECT name FROM %s.%s WHERE type IN ('table', 'view') ORDER BY name"
        return [row[0] for row in self._ask(query % (files.quoted(schema), master))]

    def _columns_of(self, schema: str, table: str) -> List[Tuple[Any, ...]]:
        return self._ask("PRAGMA %s.table_info(%s)" % (files.quoted(schema), files.quoted(table)))

    def _ask(self, query: str) -> List[Tuple[Any, ...]]:
        try:
            return self._connection.execute(query).fetchall()
        except sqlite3.Error:
            return []


def _statement(code: str, start: int, end: int) -> Statement:
    piece = code[start:end]
    return Statement(piece.strip(), start + len(piece) - len(piece.lstrip()))


def _is_number(rows: List[Tuple[Any, ...]], column: int) -> bool:
    """SQLite's columns have no types; values have."""
    values = [row[column] for row in rows if row[column] is not None]
    return bool(values) and all(isinstance(value, (int, float)) for value in values)


def _batches(
    first: List[Tuple[Any, ...]], cursor: sqlite3.Cursor, statement: Statement
) -> Iterator[List[Tuple[Any, ...]]]:
    rows = first
    while rows:
        yield rows
        try:
            rows = cursor.fetchmany(_BATCH_ROWS)
        except sqlite3.Error as error:
            _refuse(error, statement)


def _refuse(error: sqlite3.Error, statement: Statement) -> NoReturn:
    message = str(error)
    if message == "interrupted":
        raise Interrupted from None
    found = _NEAR.match(message)
    word = (found.group(1) or found.group(2)) if found else ""
    raise SqlError(type(error).__name__, message, _find(word, statement)) from None


def _find(word: str, statement: Statement) -> Place:
    """Where a word is, if it is there once; else the statement's first line."""
    offsets = [
        offset
        for _, token, offset in text.tokens(statement.text)
        if token.strip("'\"").lower() == word.lower()
    ]
    if word and len(offsets) == 1:
        return Place(statement.offset + offsets[0], len(word))
    return Place(statement.offset, len(statement.text.split("\n", 1)[0].rstrip()))
