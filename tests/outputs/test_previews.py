"""Generated files: the bytes say what they are; names and cells are only text."""

from __future__ import annotations

import base64
import json
import zipfile
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.outputs import OutputPolicy
from tests.outputs.pictures import PICTURES, SVG, png

SAFE = OutputPolicy("safe")


def show(name: str, content: bytes, size: int | None = None) -> dict[str, Any]:
    is_whole = size is None
    bundle, metadata = SAFE.admit_file(
        name, len(content) if size is None else size, content, is_whole
    )
    assert metadata == {}
    return bundle


@pytest.mark.parametrize(("content", "mime_type"), PICTURES)
def test_pictures_are_shown_whatever_their_name(content: bytes, mime_type: str) -> None:
    for name in ("chart.png", "notes.txt", "data.csv", ""):
        bundle = show(name, content)
        assert base64.b64decode(bundle[mime_type]) == content
        assert "320 x 200" in bundle["text/plain"]


def test_svg_files_are_shown_by_an_img() -> None:
    bundle = show("a.txt", SVG.encode())
    assert "<img src=" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert bundle["text/plain"] == f"a.txt · SVG picture · {len(SVG)} bytes"


@pytest.mark.parametrize(
    ("content", "label"),
    [
        (b"<!DOCTYPE html><script>alert(1)</script>", "HTML text"),
        (b" <html><body onload=alert(1)>", "HTML text"),
        (b"%PDF-1.7 ...", "PDF document"),
        (b"\x7fELF\x02", "ELF program"),
        (b"PAR1\x15", "Parquet table"),
        (b"SQLite format 3\x00", "SQLite database"),
        (b"\x1f\x8b\x08", "gzip data"),
        (b"\x93NUMPY\x01\x00", "NumPy array"),
        (b"\x80\x04\x95", "Python pickle"),
        (b"\x00\x01\x02", "unknown data"),
        (b"", "empty file"),
        (b"print('hello')\n", "text"),
        (b"BM is how this text begins", "text"),
        (b"\xff\xfea\x00,\x00b\x00", "text"),
        (b"GIF87a", "GIF picture"),
    ],
)
def test_a_name_that_lies_changes_nothing(content: bytes, label: str) -> None:
    for name in ("x.png", "x.svg", "x.csv.exe", "x"):
        bundle = show(name, content)
        assert not any(kind.startswith("image/") for kind in bundle)
        assert bundle["text/plain"].startswith(f"{name} · {label} · ")
        assert "<script" not in bundle["text/html"]


def test_archives_are_not_opened() -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../etc/passwd", "x")
    assert "ZIP archive" in show("a.png", archive.getvalue())["text/plain"]


def test_a_picture_bomb_is_a_line_that_says_why() -> None:
    bundle = show("a.png", png(50_000, 50_000))
    assert "image/png" not in bundle
    assert "50000 x 50000 pixels are more than a browser should decode" in bundle["text/plain"]


def test_a_picture_of_which_only_the_head_came_is_a_line() -> None:
    bundle = show("a.png", png(320, 200), size=30 * 2**20)
    assert set(bundle) == {"text/plain", "text/html"}
    assert "30 MiB · not shown: it is over the size that is shown" in bundle["text/plain"]


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.csv",
        "\x1b[2J.csv",
        "<img src=x onerror=alert(1)>.csv",
        "photo\u202egnp.csv",
        "-rf",
        "../../etc/passwd",
        "caf\udce9.csv",
        "x" * 5000 + ".csv",
        r"$\href{javascript:alert(1)}{x}$.csv",
    ],
)
def test_names_are_only_text(name: str) -> None:
    for content in (b"a,b\n1,2\n", b"\x00", png(50_000, 9)):
        bundle = show(name, content)
        first_line = bundle["text/plain"].split("\n")[0]
        assert len(first_line) < 300
        assert not {"\x1b", "\u202e", "\udce9"} & set(str(bundle))
        assert "<img" not in bundle["text/html"]
        assert r"\href" not in bundle["text/html"]


def test_csv_is_a_short_table() -> None:
    rows = "".join(f"{n},name {n},{n / 3}\n" for n in range(500))
    bundle = show("data.csv", f"id,name,value\n{rows}".encode())
    assert bundle["text/html"].count("<tr>") == 11
    assert "<th>name</th>" in bundle["text/html"]
    assert "<td>name 9</td>" in bundle["text/html"]
    lines = bundle["text/plain"].split("\n")
    assert "data.csv · CSV table · " in lines[0]
    assert lines[0].endswith("the first 10 of 500 rows")
    assert lines[1].split() == ["id", "name", "value"]
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("name", "text", "label", "cell"),
    [
        ("a.tsv", "x\ty\n1, 2\t3\n", "TSV table", "1, 2"),
        ("a.csv", "x;y\n1;2,5\n", "CSV table", "2,5"),
        ("a.csv", 'x,y\n"a, ""b""\nc",2\n', "CSV table", "a, &quot;b&quot; c"),
        ("a.csv", "only\none\ncolumn\n", "CSV table", "column"),
        ("renamed.dat", "x,y\n1,2\n3,4\n", "CSV table", "3"),
        ("chart.png", "x,y\n1,2\n3,4\n", "CSV table", "3"),
        ("a.csv", "\ufeffx,y\n1,2\n", "CSV table", "x"),
    ],
)
def test_tables_of_other_shapes(name: str, text: str, label: str, cell: str) -> None:
    bundle = show(name, text.encode())
    assert f"{name} · {label} · " in bundle["text/plain"]
    assert f">{cell}</t" in bundle["text/html"]


def test_prose_is_no_table() -> None:
    for text in ("Dear Ann, dear Bob,\nwe came, we saw,\nand left.\n", "x = 1\ny = 2\n"):
        assert show("letter.txt", text.encode())["text/plain"].split(" · ")[1] == "text"


def test_cells_are_cut_and_escaped() -> None:
    wide = ",".join(f"c{n}" for n in range(40))
    content = f"{wide}\n<script>alert(1)</script>,{'y' * 500},\x1b[31mz\x1b[0m,\u2028\n".encode()
    bundle = show("a.csv", content)
    assert "<script" not in bundle["text/html"]
    assert "y" * 59 + "…" in bundle["text/html"]
    assert "y" * 60 not in bundle["text/html"]
    assert "10 of 40 columns" in bundle["text/plain"]
    assert "\x1b" not in str(bundle)


def test_the_head_of_a_long_table_ends_at_a_whole_row() -> None:
    head = b"a,b\n" + b"1,2\n" * 3 + b"3,cut of"
    bundle = show("a.csv", head, size=10**9)
    assert "cut of" not in bundle["text/html"]
    assert "the first 10 rows" in bundle["text/plain"]


def test_records_are_a_table_and_other_json_is_laid_out() -> None:
    records = [{"name": f"n{n}", "ok": True, "x": None} for n in range(30)]
    bundle = show("a.json", json.dumps(records).encode())
    assert "JSON table" in bundle["text/plain"]
    assert "the first 10 of 30 rows" in bundle["text/plain"]
    assert "<td>true</td>" in bundle["text/html"]
    bundle = show("a.json", json.dumps({"a": {"b": ["<b>"] * 100}}).encode())
    assert "the first 20 lines" in bundle["text/plain"]
    assert "&lt;b&gt;" in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]


def test_json_lines_are_a_table() -> None:
    content = b"".join(b'{"a": %d}\n' % n for n in range(50))
    for size in (None, 10**9):
        bundle = show("a.jsonl", content, size)
        assert "JSON lines" in bundle["text/plain"]
        assert bundle["text/html"].count("<tr>") == 11


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": NaN, "a": Infinity, "\\ud800": "\\udc00"}',
        b'{"n": ' + b"9" * 10_000 + b"}",
        b"{broken",
        b'[{"a": [[[[1]]]]}]',
        b"[]",
        b"{}",
        b'[{"' + b"k" * 100_000 + b'": 1}]',
    ],
    ids=lambda content: repr(content[:14]),
)
def test_odd_json_is_shown_somehow(content: bytes) -> None:
    for name in ("a.json", "a.txt"):
        bundle = show(name, content)
        assert len(bundle["text/plain"]) < 5000
        json.dumps(bundle, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content",
    [b'"' * 200_000, b"a" * 500_000, b'x,"' + b"y" * 300_000, b"\n" * 100_000, b"," * 100_000],
)
def test_odd_tables_are_shown_somehow(content: bytes) -> None:
    bundle = show("a.csv", content)
    assert len(bundle["text/html"]) < 20_000


@given(
    st.text(st.characters(), max_size=60),
    st.one_of(
        st.binary(max_size=80),
        st.text('ab,;\t\n"[]{}:1<>', max_size=80).map(str.encode),
        st.sampled_from([content for content, _kind in PICTURES]).flatmap(
            lambda content: st.integers(0, len(content)).map(lambda end: content[:end])
        ),
    ),
    st.booleans(),
)
def test_no_file_makes_the_policy_raise(name: str, content: bytes, is_whole: bool) -> None:
    bundle, _metadata = SAFE.admit_file(name, len(content), content, is_whole)
    assert bundle["text/plain"]
    json.dumps(bundle, ensure_ascii=False).encode()
