"""Pictures: the type from the bytes, the size from the header, and never a decoded pixel."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sandbox_kernel.outputs import OutputPolicy, images
from sandbox_kernel.outputs.values import Unshowable
from tests.outputs.pictures import PICTURES, SVG, gif, jpeg, png, webp_extended

SAFE = OutputPolicy("safe")


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(("content", "mime_type"), PICTURES)
def test_pictures_of_each_type_pass_in_canonical_base64(content: bytes, mime_type: str) -> None:
    assert images.measure(content) == (mime_type, 320, 200)
    text = base64.encodebytes(content).decode()
    assert SAFE.admit_bundle({mime_type: text}, {})[0] == {mime_type: encode(content)}


@pytest.mark.parametrize(
    ("content", "mime_type"),
    [
        (png(50_000, 50_000), "image/png"),
        (png(2**32 - 1, 1), "image/png"),
        (png(0, 5), "image/png"),
        (png(32_768, 1), "image/png"),
        (png(20_000, 20_000), "image/png"),
        (jpeg(65_500, 65_500), "image/jpeg"),
        (gif(60_000, 60_000), "image/gif"),
        (gif(1, 1, (60_000, 60_000)), "image/gif"),
        (webp_extended(2**24, 2**24), "image/webp"),
    ],
)
def test_bombs_leave_a_note_and_no_picture(content: bytes, mime_type: str) -> None:
    shown = SAFE.admit_bundle({mime_type: encode(content)}, {})[0]
    assert list(shown) == ["text/plain"]
    assert "more than a browser should decode" in shown["text/plain"]


@pytest.mark.parametrize(
    "value",
    [
        encode(b"<html><script>alert(1)</script>"),
        encode(jpeg(9, 9)),
        encode(png(9, 9)[:16]),
        encode(b""),
        '"><script>alert(1)</script>',
        encode(png(9, 9)) + '" onerror="alert(1)',
        "iVBORw0KGgo\u2028",
        "====",
        None,
        7,
        {"a": 1},
        [1, 2],
        "A" * (17 * 2**20),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_png_is_not_shown_as_one(value: Any) -> None:
    shown = SAFE.admit_bundle({"image/png": value}, {})[0]
    assert list(shown) == ["text/plain"]
    assert shown["text/plain"].startswith("[image/png was not shown: ")


def test_hostile_block_chains_are_walked_a_bounded_way() -> None:
    assert images.measure(b"GIF89a" + bytes(7) + b"!\xff\x00" * 4_000_000) is not None
    assert images.measure(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 3_000_000) is None


@pytest.mark.parametrize(
    "text",
    [
        SVG,
        f"<?xml version='1.0'?>\n<!-- c --><!DOCTYPE svg PUBLIC 'x' 'y'>\n{SVG}",
        "\ufeff " + SVG,
        [SVG],
    ],
)
def test_svg_is_shown_by_an_img_and_never_as_itself(text: Any) -> None:
    shown = SAFE.admit_bundle({"image/svg+xml": text}, {})[0]
    source = text if isinstance(text, str) else "".join(text)
    assert shown == {
        "text/html": f'<img src="data:image/svg+xml;base64,{encode(source.encode())}" '
        'style="max-width: 100%">'
    }


@pytest.mark.parametrize(
    "text",
    [
        "<html>" + SVG,
        "<!DOCTYPE svg [<!ENTITY a 'b'>]>" + SVG,
        SVG.replace("<script>", "<!entity x>"),
        "<svgx>",
        "",
        None,
        5,
        "<svg " + " " * images.MAX_SVG,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_plain_svg_leaves_a_note(text: Any) -> None:
    assert list(SAFE.admit_bundle({"image/svg+xml": text}, {})[0]) == ["text/plain"]


def test_data_urls_hold_pictures_only() -> None:
    good = f"data:image/png;base64,{encode(png(3, 3))}"
    assert images.admit_data_url(good) == good
    assert images.admit_data_url(f" DATA:image/PNG;base64,{encode(png(3, 3))}") == good
    assert images.admit_data_url(f"data:image/svg+xml;base64,{encode(SVG.encode())}") is not None
    for url in (
        f"data:text/html;base64,{encode(b'<script>')}",
        f"data:image/jpeg;base64,{encode(png(3, 3))}",
        "data:image/svg+xml,<svg onload=alert(1)>",
        "data:image/png,x",
        "https://example.org/x.png",
        "javascript:alert(1)",
    ):
        assert images.admit_data_url(url) is None


def test_a_surrogate_in_an_svg_is_no_exception() -> None:
    assert images.admit_svg("<svg \ud800>").startswith("<img")
    with pytest.raises(Unshowable):
        images.admit_svg("\ud800")
