"""An error of a statement, and how it is told: where in the cell, then what."""

from typing import Any, Dict, List, NamedTuple, Optional

Json = Dict[str, Any]

_SHOWN_CHARACTERS = 200


class Place(NamedTuple):
    """A piece of a cell: `offset` in characters."""

    offset: int
    length: int = 1


class SqlError(Exception):
    """What an engine refused. `name` is its own word for that kind of error."""

    def __init__(self, name: str, text: str, place: Optional[Place] = None) -> None:
        super().__init__(text)
        self.name = name
        self.text = text
        self.place = place


class Interrupted(SqlError):
    def __init__(self) -> None:
        super().__init__("Interrupted", "The cell was interrupted.")


def content(error: SqlError, code: str, count: int) -> Json:
    """The content of an ERROR frame."""
    lines = _quote(error.place, code, count) if error.place is not None else []
    lines.append("\x1b[31m%s\x1b[0m: %s" % (error.name, error.text))
    return {"ename": error.name, "evalue": error.text, "traceback": lines}


def _quote(place: Place, code: str, count: int) -> List[str]:
    """The line of the cell, and a mark below."""
    number = code.count("\n", 0, place.offset)
    start = code.rfind("\n", 0, place.offset) + 1
    line = code[start:].split("\n", 1)[0].replace("\t", " ").rstrip()
    column = place.offset - start
    cut = max(0, column - _SHOWN_CHARACTERS // 2)
    shown = line[cut : cut + _SHOWN_CHARACTERS]
    mark = "^" * max(1, min(place.length, len(shown) - (column - cut)))
    return [
        "Cell[%d], line %d" % (count, number + 1),
        "    " + shown,
        "    " + " " * (column - cut) + mark,
    ]
