"""A result as a table, in text and in html. Pure.

Of a long result the first rows are shown, and how many there are; of a wide one the first
columns. Cells are cut. Nothing that was cut looks as if it were all.
"""

import time
from html import escape
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from .engine import Column, Rows
from .values import in_html, in_text, width

# A screen or two; to see more, ask for it (LIMIT, OFFSET, COPY).
_SHOWN_ROWS = 50
# One more row than fits is shown rather than announced.
_WHOLE_ROWS = 60
_SHOWN_COLUMNS = 100
_TEXT_WIDTH = 60
# 60 rows of 20 columns of text are 300 kB at most.
_HTML_CHARACTERS = 300_000
# Counting fetches, and costs as much as reading.
_COUNTED_ROWS = 100_000
_COUNTED_S = 2.0


class Table(NamedTuple):
    """What is shown of a result; `total` rows were counted, all of them if `is_exact`."""

    columns: List[Column]
    rows: List[Tuple[Any, ...]]
    total: int
    is_exact: bool


def read(found: Rows) -> Table:
    """Fetch what is shown, and count the rest within reason."""
    kept: List[Tuple[Any, ...]] = []
    total, deadline = 0, time.monotonic() + _COUNTED_S
    is_exact = True
    for batch in found.batches:
        kept += batch[: max(0, _WHOLE_ROWS - len(kept))]
        total += len(batch)
        if total > _COUNTED_ROWS or (total > _WHOLE_ROWS and time.monotonic() > deadline):
            is_exact = False
            break
    if total > _WHOLE_ROWS:
        del kept[_SHOWN_ROWS:]
    return Table(found.columns, kept, total, is_exact)


def bundle(table: Table) -> Dict[str, str]:
    """The table's forms by MIME type."""
    return {"text/plain": to_text(table), "text/html": to_html(table)}


def to_text(table: Table) -> str:
    columns = table.columns[:_SHOWN_COLUMNS]
    names = [in_text(column.name, _TEXT_WIDTH) for column in columns]
    rows = [[in_text(value, _TEXT_WIDTH) for value in row[: len(columns)]] for row in table.rows]
    widths = [
        max([width(names[i]), *(width(row[i]) for row in rows)], default=0)
        for i in range(len(columns))
    ]
    lines = [_line(names, widths, columns), "─┼─".join("─" * size for size in widths)]
    lines += [_line(row, widths, columns) for row in rows]
    return "\n".join([*lines, *_notes(table, always=not table.rows)])


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = []
    for i, cell in enumerate(cells):
        space = " " * (widths[i] - width(cell))
        padded.append(space + cell if columns[i].is_number else cell + space)
    return " │ ".join(padded).rstrip()


def to_html(table: Table) -> str:
    columns = table.columns[:_SHOWN_COLUMNS]
    size = _HTML_CHARACTERS // max(1, len(columns) * len(table.rows))
    size = max(40, min(1000, size))
    parts = ['<table border="1" class="dataframe"><thead><tr>']
    parts += [_cell("th", escape(in_text(c.name, size)), c.is_number) for c in columns]
    parts.append("</tr></thead><tbody>")
    for row in table.rows:
        cells = (_cell("td", in_html(row[i], size), c.is_number) for i, c in enumerate(columns))
        parts.append("<tr>%s</tr>" % "".join(cells))
    parts.append("</tbody></table>")
    parts += ["<p>%s</p>" % escape(note) for note in _notes(table, always=not table.rows)]
    return "".join(parts)


def _cell(tag: str, content: str, is_number: bool) -> str:
    return '<%s style="text-align: %s">%s</%s>' % (
        tag,
        "right" if is_number else "left",
        content,
        tag,
    )


def _notes(table: Table, *, always: bool) -> Iterable[str]:
    if table.total > len(table.rows):
        more = "" if table.is_exact else "more than "
        yield "… %s%s rows, of which the first %d are shown" % (
            more,
            "{:,}".format(table.total if table.is_exact else _round_down(table.total)),
            len(table.rows),
        )
    elif always:
        yield "(no rows)"
    hidden = len(table.columns) - _SHOWN_COLUMNS
    if hidden > 0:
        yield "… and %s more columns" % "{:,}".format(hidden)


def _round_down(total: int) -> int:
    """Of a count that was broken off no more is said than its size."""
    return int(str(total)[0] + "0" * (len(str(total)) - 1))
