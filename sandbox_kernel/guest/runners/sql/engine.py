"""What an engine does for us: the interface of `duckdb_engine` and `sqlite_engine`."""

import re
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union


class Statement(NamedTuple):
    """One statement of a cell. `handle` is the engine's own form of it, if it has one."""

    text: str
    offset: int  # of its first character in the cell
    handle: Any = None


class Column(NamedTuple):
    name: str
    is_number: bool = False


class Rows(NamedTuple):
    """A result, as it comes: `batches` may run the statement and raise `SqlError`."""

    columns: List[Column]
    batches: Iterable[List[Tuple[Any, ...]]]


_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

# Rows to show, a sentence to print, or nothing to say.
Result = Union[Rows, str, None]


class Names(NamedTuple):
    """What can be written in a statement."""

    tables: Dict[str, List[str]]  # and views: their columns
    functions: List[str]
    keywords: List[str]


class Engine(ABC):
    """One connection to one database in memory. Used by one thread but for `interrupt`."""

    @abstractmethod
    def split(self, code: str) -> List[Statement]:
        """The statements of a cell. Raises `SqlError`: it cannot be parsed."""

    @abstractmethod
    def run(self, statement: Statement) -> Result:
        """Run one statement. Raises `SqlError`."""

    @abstractmethod
    def interrupt(self) -> None:
        """End what runs now with an error; nothing if nothing does. From any thread."""

    @abstractmethod
    def is_valid(self, code: str) -> bool:
        """Whether `code`, which ends with a semicolon, can be parsed."""

    @abstractmethod
    def names(self) -> Names:
        """What there is now."""

    @abstractmethod
    def describe(self, name: str) -> Optional[Rows]:
        """Columns of a table or view, or the forms of a function."""


def changed(count: int) -> str:
    """What is said of a statement that changes rows."""
    return "1 row changed." if count == 1 else "{:,} rows changed.".format(count)


def done(text: str) -> str:
    """What is said of a statement that returns nothing, by its first words."""
    words = re.findall(r"\w+", _COMMENT.sub(" ", text[:1000]))[:2] or [""]
    size = 2 if words[0].upper() in ("CREATE", "DROP", "ALTER") else 1
    return " ".join(words[:size]).upper() + ": done."
