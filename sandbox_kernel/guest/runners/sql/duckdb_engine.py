"""DuckDB: fast, and reads CSV, Parquet and JSON files where their names stand for tables."""

import os
import re
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

import duckdb

from . import resources, text
from .engine import Column, Engine, Names, Result, Rows, Statement, changed, done
from .errors import Interrupted, Place, SqlError

_BATCH_ROWS = 2048
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?\b|UINTEGER|FLOAT|DOUBLE|DECIMAL|BIGNUM")
# What Python holds without loss. The rest DuckDB turns into text itself: infinite dates,
# nanoseconds, months of intervals, time zones, and all that nests.
_FAITHFUL = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|UINTEGER|DOUBLE|DECIMAL\(.*\)|VARCHAR|BOOLEAN|UUID)\Z"
)
_PLACE = re.compile(r"\n\n?LINE (\d+): (.*)\n( *)(\^+)[ \n]*\Z", re.DOTALL)
_KIND = re.compile(r"\A[\w ]* ?Error: ")
_MEMORY_SHARE = 0.6


class DuckDB(Engine):
    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:")
        memory = resources.memory_bytes()
        settings: Dict[str, Any] = {
            # What cannot come from the network is not asked for there.
            "autoinstall_known_extensions": False,
            # A table that is missing is not looked for among this program's variables.
            "python_enable_replacements": False,
            "enable_progress_bar": False,
            "threads": resources.cpus(),
            # Not `.tmp` in the workspace, where it would count as the cell's work.
            "temp_directory": os.path.join(resources.temporary_directory(), ".duckdb"),
        }
        if memory:
            settings["memory_limit"] = "%dB" % int(memory * _MEMORY_SHARE)
        for name, value in settings.items():
            with suppress(duckdb.Error):  # a version that doesn't know it
                self._connection.execute("SET %s = %s" % (name, _literal(value)))

    def split(self, code: str) -> List[Statement]:
        if not text.has_code(code):
            return []
        try:
            parsed = duckdb.extract_statements(code)
        except duckdb.Error as error:
            _refuse(error, code, 0, 0)
        statements, position = [], 0
        for each in parsed:
            found = code.find(each.query, position)
            position = found if found >= 0 else position
            statements.append(Statement(each.query, position, each))
            position += len(each.query)
        return statements

    def run(self, statement: Statement) -> Result:
        # By its text: of a parsed one DuckDB does not say where in it an error is.
        query, columns, lines_before = statement.text, _NO_COLUMNS, 0
        relation = self._bind(statement)
        try:
            if relation is not None:
                columns = _columns(relation.columns, relation.types)
                if not all(_FAITHFUL.match(str(each)) for each in relation.types):
                    # Its first line is ours: places are counted from one earlier.
                    query, lines_before = _as_text(statement.text, relation.types), 1
            cursor = self._connection.execute(query)
            return self._result(cursor, columns, statement, lines_before)
        except duckdb.Error as error:
            _refuse(error, statement.text, statement.offset, lines_before)

    def _bind(self, statement: Statement) -> Any:
        """What a SELECT would return, before it is run; None when that cannot be told.

        An error is not told either: running says it with its place.
        """
        if statement.handle.type != duckdb.StatementType.SELECT:
            return None
        try:
            return self._connection.query(statement.text)
        except duckdb.Error:
            return None

    def _result(
        self, cursor: Any, columns: List[Column], statement: Statement, lines_before: int
    ) -> Result:
        kind, expected = statement.handle.type, statement.handle.expected_result_type
        described = [(each[0], str(each[1])) for each in cursor.description or ()]
        if duckdb.ExpectedResultType.QUERY_RESULT not in expected:
            return done(statement.text)
        if duckdb.ExpectedResultType.CHANGED_ROWS in expected and described == [_COUNT]:
            counted = cursor.fetchall()
            return changed(counted[0][0]) if counted else done(statement.text)
        if kind == duckdb.StatementType.EXPLAIN:
            return "\n".join(str(row[-1]).rstrip() for row in cursor.fetchall())
        if not columns:
            columns = _columns(*zip(*described)) if described else []  # noqa: B905
        return Rows(columns, _batches(cursor, statement, lines_before))

    def interrupt(self) -> None:
        self._connection.interrupt()

    def is_valid(self, code: str) -> bool:
        try:
            duckdb.extract_statements(code)
        except duckdb.Error:
            return False
        return True

    def names(self) -> Names:
        tables: Dict[str, List[str]] = {}
        for table, column in self._ask(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal "
            "ORDER BY table_oid, column_index"
        ):
            tables.setdefault(table, []).append(column)
        functions = self._ask(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            r"WHERE regexp_full_match(function_name, '[a-z]\w*')"
        )
        keywords = self._ask("SELECT upper(keyword_name) FROM duckdb_keywords()")
        return Names(tables, [row[0] for row in functions], [row[0] for row in keywords])

    def describe(self, name: str) -> Optional[Rows]:
        rows = self._ask(
            "SELECT column_name, data_type, CASE WHEN is_nullable THEN '' ELSE 'NOT NULL' END "
            "FROM duckdb_columns() WHERE NOT internal AND lower(table_name) = lower($1) "
            "ORDER BY table_oid, column_index",
            name,
        )
        if rows:
            return Rows([Column("column"), Column("type"), Column("")], [rows])
        rows = self._ask(
            "SELECT DISTINCT function_name || '(' || array_to_string(parameters, ', ') || ')', "
            "coalesce(return_type, ''), coalesce(description, '') FROM duckdb_functions() "
            "WHERE function_name = lower($1) ORDER BY ALL LIMIT 50",
            name,
        )
        if rows:
            return Rows([Column("function"), Column("returns"), Column("description")], [rows])
        return None

    def _ask(self, query: str, *values: str) -> List[Tuple[Any, ...]]:
        """A question of our own; nothing when a failed transaction lets none through."""
        try:
            return list(self._connection.execute(query, values or None).fetchall())
        except duckdb.Error:
            return []


_COUNT = ("Count", "BIGINT")
_NO_COLUMNS: List[Column] = []


def _columns(names: Any, types: Any) -> List[Column]:
    pairs = zip(names, types)  # noqa: B905  # Python 3.8
    return [Column(str(name), bool(_NUMBER.match(str(kind)))) for name, kind in pairs]


def _as_text(query: str, types: Any) -> str:
    """The same query, with what Python cannot hold as DuckDB's own text of it."""
    columns = (
        "#%d" % number if _FAITHFUL.match(str(kind)) else "CAST(#%d AS VARCHAR)" % number
        for number, kind in enumerate(types, 1)
    )
    return "SELECT %s FROM (\n%s\n)" % (", ".join(columns), text.without_end(query))


def _batches(
    cursor: Any, statement: Statement, lines_before: int
) -> Iterator[List[Tuple[Any, ...]]]:
    while True:
        try:
            rows = cursor.fetchmany(_BATCH_ROWS)
        except duckdb.Error as error:
            _refuse(error, statement.text, statement.offset, lines_before)
        if not rows:
            return
        yield rows


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else "'%s'" % str(value).replace("'", "''")


def _refuse(error: Any, query: str, offset: int, lines_before: int) -> NoReturn:
    """DuckDB's error as ours: its `LINE 2: …^` counts from the statement's beginning."""
    name, message = type(error).__name__, str(error)
    if name == "InterruptException":
        raise Interrupted from None
    found = _PLACE.search(message)
    place = None
    if found is not None:
        message = message[: found.start()]
        place = _find_place(found, query, offset, lines_before)
    elif query.strip():
        place = Place(offset, len(query.split("\n", 1)[0].rstrip()))
    raise SqlError(name, _KIND.sub("", message).strip(), place) from None


def _find_place(
    found: "re.Match[str]", query: str, offset: int, lines_before: int
) -> Optional[Place]:
    number = int(found.group(1)) - 1 - lines_before
    lines = query.split("\n")
    if not 0 <= number < len(lines):
        return None
    # Of a long line DuckDB shows a piece, with dots where it was cut.
    quoted = found.group(2).strip().strip(".").strip()
    start = lines[number].find(quoted)
    if start < 0:
        return None
    prefix = len("LINE %s: " % found.group(1))
    within = len(found.group(3)) - prefix - (len(found.group(2)) - len(found.group(2).lstrip(" .")))
    before = sum(len(line) + 1 for line in lines[:number])
    return Place(offset + before + max(0, start + within), len(found.group(4)))
