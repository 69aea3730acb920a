"""Which engine there is, found without importing it: DuckDB takes 0.1 s and more."""

import os
from typing import Callable, NamedTuple

from .engine import Engine


class Choice(NamedTuple):
    """An engine that is there. `notice` is what a reader should know of it, or ""."""

    name: str
    version: str
    open: Callable[[], Engine]
    notice: str = ""


def choose() -> Choice:
    """DuckDB, or what every Python has."""
    from importlib.util import find_spec

    spec = find_spec("duckdb")
    if spec is None or not spec.origin:
        return _sqlite()
    return Choice("DuckDB", _version_beside(os.path.dirname(spec.origin)), _open_duckdb)


def _open_duckdb() -> Engine:
    from .duckdb_engine import DuckDB

    return DuckDB()


def _open_sqlite() -> Engine:
    from .sqlite_engine import SQLite

    return SQLite()


def _sqlite() -> Choice:
    from sqlite3 import sqlite_version

    notice = (
        "SQL runs on SQLite %s here, because Python's package duckdb is not installed; "
        "it reads CSV, TSV and JSON files, and no Parquet." % sqlite_version
    )
    return Choice("SQLite", sqlite_version, _open_sqlite, notice)


def _version_beside(package: str) -> str:
    """The version that the package's metadata is named by; asking it properly costs 20 ms."""
    directory, name = os.path.split(package)
    try:
        found = os.listdir(directory)
    except OSError:
        return ""
    for entry in found:
        if entry.startswith(name + "-") and entry.endswith(".dist-info"):
            return entry[len(name) + 1 : -len(".dist-info")]
    return ""
