"""Generated files as display data: a picture, the head of a table, or a line. Pure.

Rule 1: the type comes from the first bytes. Among texts the name's ending decides only
between CSV, TSV and JSON.
Rule 2: at most `_ROWS` x `_COLUMNS` short cells are shown, and no more is parsed than that takes.
Rule 3: all that the guest chose (name, cells) is cleaned as text, then escaped.
"""

from __future__ import annotations

import binascii
import re
from html import escape
from typing import Any, NamedTuple

from sandbox_kernel.limits import format_size
from sandbox_kernel.outputs import filetypes, images, latex
from sandbox_kernel.outputs.streams import clean_name, clean_text
from sandbox_kernel.outputs.values import Unshowable, copy_json

Json = dict[str, Any]

_ROWS, _COLUMNS, _CELL = 10, 10, 60
_JSON_LINES = 20
_LINE = 120
# Ten rows are rarely a tenth of this; `_ROWS` rows of ten huge cells each are cut here.
_MAX_TEXT = 64 * 1024
# A JSON file has to be read whole to be understood; a larger one is shown as text.
_MAX_JSON = 1024**2


class Preview(NamedTuple):
    label: str  # "CSV table"
    rows: list[list[str]]  # the first is the header
    lines: list[str]  # instead of rows
    note: str  # what is left out, or ""


def describe_file(name: str, size: int, content: bytes, is_whole: bool) -> tuple[Json, Json]:
    """`OutputPolicy.admit_file`."""
    picture = _show_picture(name, size, content, is_whole)
    if picture is not None:
        return picture, {}
    text = filetypes.decode_text(content, is_whole)
    label = filetypes.sniff_label(content, text)
    preview = None
    if text is not None and label == "text":
        preview = _preview_text(name, text, is_whole and len(content) == size)
    if preview is None:
        return _show_line(name, label, size)
    return _show_preview(name, size, preview)


def _caption(name: str, label: str, size: int) -> str:
    return f"{clean_name(name)} · {label} · {format_size(max(0, size))}"


def _show_line(name: str, label: str, size: int) -> tuple[Json, Json]:
    caption = _caption(name, label, size)
    return {"text/plain": caption, "text/html": _html(_caption_html(caption))}, {}


def _html(inner: str) -> str:
    """JupyterLab typesets formulas in html; a file's cells are none."""
    return f'<div class="mathjax_ignore tex2jax_ignore">{latex.disarm(inner)}</div>'


def _caption_html(caption: str) -> str:
    return f'<div style="opacity: 0.75; padding: 2px 0">{escape(caption)}</div>'


def _show_picture(name: str, size: int, content: bytes, is_whole: bool) -> Json | None:
    """None when it is none; a caption with the reason when it is one that cannot be shown."""
    text = filetypes.decode_text(content[:4096], is_whole=False)
    is_svg = text is not None and images.is_svg(text)
    picture = None if is_svg else images.measure(content)
    if not is_svg and picture is None:
        return None
    label = "SVG picture" if picture is None else _picture_label(picture)
    caption = _caption(name, label, size)
    try:
        if not is_whole:
            raise Unshowable("it is over the size that is shown")
        return {"text/plain": caption} | _picture_data(content, picture, caption)
    except Unshowable as reason:
        caption = f"{caption} · not shown: {reason}"
        return {"text/plain": caption, "text/html": _html(_caption_html(caption))}


def _picture_label(picture: images.Picture) -> str:
    kind = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WebP"}
    return f"{kind[picture.mime_type]} picture, {picture.width} x {picture.height}"


def _picture_data(content: bytes, picture: images.Picture | None, caption: str) -> Json:
    if picture is None:
        shown = images.admit_svg(content.decode("utf-8", "replace"))
        return {"text/html": _html(shown + _caption_html(caption))}
    images.check_raster(content)
    encoded = binascii.b2a_base64(content, newline=False).decode("ascii")
    return {picture.mime_type: encoded}


def _preview_text(name: str, text: str, is_complete: bool) -> Preview | None:
    ending = name[-8:].lower().rpartition(".")[2]
    looks_like_json = text[:200].lstrip("\ufeff \t\r\n")[:1] in ("{", "[")
    if looks_like_json and (preview := _preview_json(text, is_complete, ending)) is not None:
        return preview
    return _preview_table(text, is_complete, ending)


def _preview_json(text: str, is_complete: bool, ending: str) -> Preview | None:
    import json

    values: Any = None
    if is_complete and len(text) <= _MAX_JSON:
        try:
            values = copy_json(json.loads(text))
        except Unshowable as reason:
            return Preview("JSON", [], _text_lines(text), f"not laid out: {reason}")
        except (ValueError, RecursionError):
            values = None
    if values is not None:
        return _show_values(values, json.dumps(values, indent=2, ensure_ascii=False))
    records = _read_json_lines(text, is_complete)
    if records:
        return _show_records("JSON lines", records, "the first lines")
    if ending not in {"json", "geojson", "ipynb"}:
        return None
    return Preview("JSON", [], _text_lines(text), "the beginning" if not is_complete else "")


def _show_values(values: Any, pretty: str) -> Preview:
    is_table = isinstance(values, list) and values and all(isinstance(row, dict) for row in values)
    if is_table and not any(
        isinstance(cell, dict | list) for row in values[:_ROWS] for cell in row.values()
    ):
        return _show_records("JSON table", values, _count_note(len(values)))
    lines = pretty.split("\n", _JSON_LINES)
    note = f"the first {_JSON_LINES} lines" if len(lines) > _JSON_LINES else ""
    return Preview("JSON", [], [_cut(line, _LINE) for line in lines[:_JSON_LINES]], note)


def _show_records(label: str, records: list[Json], note: str) -> Preview:
    columns = list(dict.fromkeys(key for record in records[:_ROWS] for key in record))
    rows = [
        [_show_cell(record.get(key, "")) for key in columns[:_COLUMNS]]
        for record in records[:_ROWS]
    ]
    return Preview(label, [columns[:_COLUMNS], *rows], [], _add_columns_note(note, len(columns)))


def _show_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    import json

    return json.dumps(value, ensure_ascii=False)


def _read_json_lines(text: str, is_complete: bool) -> list[Json]:
    """The records of the first lines when each line is one, else nothing."""
    import json

    lines = text[:_MAX_TEXT].split("\n", _ROWS)
    has_more = len(lines) > _ROWS
    if not has_more and not is_complete:
        lines = lines[:-1]  # may be cut
    records = []
    for line in filter(str.strip, lines[:_ROWS]):
        try:
            record = copy_json(json.loads(line))
        except (ValueError, RecursionError, Unshowable):
            return []
        if not isinstance(record, dict):
            return []
        records.append(record)
    return records if len(records) > 1 or has_more else []


_DELIMITERS = {"csv": ",;|\t", "tsv": "\t", "tab": "\t"}


def _preview_table(text: str, is_complete: bool, ending: str) -> Preview | None:
    is_named = ending in _DELIMITERS
    delimiter = _find_delimiter(text, _DELIMITERS.get(ending, ",\t;"))
    if delimiter is None:
        if not is_named:
            return None
        delimiter = "\t" if ending != "csv" else ","
    rows, is_all = _read_rows(text, delimiter, is_complete)
    if not rows or (not is_named and not _is_rectangular(rows)):
        return None
    label = "TSV table" if delimiter == "\t" else "CSV table"
    note = "" if is_all else _count_note(_count_rows(text) if is_complete else None)
    columns = max(map(len, rows))
    return Preview(label, [row[:_COLUMNS] for row in rows], [], _add_columns_note(note, columns))


def _is_rectangular(rows: list[list[str]]) -> bool:
    """Whether a text without a telling name is a table: prose has commas, but no columns."""
    return len(rows) >= 3 and len(rows[0]) >= 2 and len({len(row) for row in rows}) == 1


def _find_delimiter(text: str, candidates: str) -> str | None:
    """The candidate that the first lines have most alike; None when the header has none."""
    header, *lines = [line for line in text[:_MAX_TEXT].split("\n", 6)[:6] if line.strip()] or [""]
    counted = [
        (sum(line.count(mark) == header.count(mark) for line in lines), header.count(mark), mark)
        for mark in candidates
        if mark in header
    ]
    return max(counted)[2] if counted else None


def _read_rows(text: str, delimiter: str, is_complete: bool) -> tuple[list[list[str]], bool]:
    """Header and up to `_ROWS` rows, and whether that is all of the file."""
    import csv

    head = text[:_MAX_TEXT]
    is_cut = not is_complete or len(text) > len(head)
    # A cut last line would be a row that the file does not have.
    lines = head.splitlines(keepends=True)[: None if not is_cut else -1] or [head]
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if not row:
                continue
            if len(rows) > _ROWS:
                return rows, False
            rows.append(row)
    except csv.Error:  # a field over csv's own limit
        return rows, False
    return rows, not is_cut


def _count_rows(text: str) -> int:
    """Rows below the header, about: a quoted line break counts as one."""
    return max(0, text.count("\n") - (1 if text.endswith("\n") else 0))


def _count_note(count: int | None) -> str:
    if count is None:
        return f"the first {_ROWS} rows"
    return f"the first {_ROWS} of {count:,} rows" if count > _ROWS else ""


def _add_columns_note(note: str, columns: int) -> str:
    if columns <= _COLUMNS:
        return note
    return f"{note or 'all rows'}, {_COLUMNS} of {columns:,} columns"


def _text_lines(text: str) -> list[str]:
    return [_cut(line, _LINE) for line in text[:_MAX_TEXT].split("\n", _JSON_LINES)[:_JSON_LINES]]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _show_preview(name: str, size: int, preview: Preview) -> tuple[Json, Json]:
    caption = _caption(name, preview.label, size)
    if preview.note:
        caption = f"{caption} · {preview.note}"
    rows = [[_cell(text) for text in row] for row in preview.rows]
    lines = [clean_text(line) for line in preview.lines]
    plain = _plain_table(rows) if rows else "\n".join(lines)
    body = _html_table(rows) if rows else f"<pre>{escape(plain)}</pre>"
    html = _html(_caption_html(caption) + body)
    return {"text/plain": f"{caption}\n{plain}", "text/html": html}, {}


_BREAKS = re.compile(r"[\r\n\t\x08\x0b\x0c\u2028\u2029]+")


def _cell(text: str) -> str:
    return _cut(
        _BREAKS.sub(" ", clean_text(re.sub(r"\x1b\[[0-9;:]*m", "", text[: 4 * _CELL]))), _CELL
    )


def _plain_table(rows: list[list[str]]) -> str:
    count = max(map(len, rows))
    full = [row + [""] * (count - len(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in full
    )


def _html_table(rows: list[list[str]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [f"<thead><tr>{cells}</tr></thead><tbody>"]
    for row in body:
        lines.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return f'<table border="1" class="dataframe">{"".join(lines)}</tbody></table>'
