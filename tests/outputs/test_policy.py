"""The policy's own promises: bundles, metadata, tracebacks, payloads, whatever the guest sends."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.outputs import OutputPolicy, content_digest, picture_digest

SAFE, TRUSTED = OutputPolicy("safe"), OutputPolicy("trusted")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_TEXT = base64.b64encode(PNG).decode()
NOT_SHOWN = 'was not shown: the output policy is "safe"]'


def admit(bundle: Any, metadata: Any = None) -> dict[str, Any]:
    return SAFE.admit_bundle(bundle, metadata or {})[0]


def test_another_policy_name_is_refused_with_the_choices() -> None:
    with pytest.raises(SettingsError, match="'open'; it can be safe or trusted"):
        OutputPolicy("open")


@pytest.mark.parametrize(
    "mime_type",
    [
        "application/javascript",
        "text/javascript",
        "application/pdf",
        "application/vnd.plotly.v1+json",
        "application/vnd.vegalite.v5+json",
        "application/vnd.vega.v5+json",
        "application/geo+json",
        "application/vnd.jupyter.stderr",
        "text/vnd.mermaid",
        "video/mp4",
        "x-unknown/\x1b[2J\u202e",
        "",
    ],
)
def test_types_that_no_rule_names_leave_a_visible_note(mime_type: str) -> None:
    shown = admit({mime_type: "alert(1)"})
    assert list(shown) == ["text/plain"]
    assert NOT_SHOWN in shown["text/plain"]
    assert "\x1b" not in shown["text/plain"]
    kept = admit({mime_type: "alert(1)", "text/plain": "fallback"})
    assert kept["text/plain"].startswith("fallback\n[")


def test_trusted_passes_everything_unchanged() -> None:
    bundle = {"text/html": "<script>x</script>", "application/javascript": "y", "a/b": {"c": [1]}}
    metadata = {"isolated": True, "text/html": {"isolated": True}}
    assert TRUSTED.admit_bundle(bundle, metadata) == (bundle, metadata)


def test_trusted_is_still_json() -> None:
    bundle = {"a/b": [float("nan"), float("inf"), "\ud800", 10**5000, b"x"], "c/d": deep(5000)}
    json.dumps(TRUSTED.admit_bundle(bundle, {}), allow_nan=False).encode()


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [deep(200), deep(100_000), [0] * 300_000, "x" * (5 * 2**20)],
    ids=["deep", "very deep", "wide", "long"],
)
def test_json_bombs_leave_a_note(value: Any) -> None:
    shown = admit({"application/json": value})
    assert list(shown) == ["text/plain"]
    assert "application/json was not shown" in shown["text/plain"]


def test_json_passes_with_numbers_that_a_browser_can_read() -> None:
    shown = admit({"application/json": {"a": [1, 2.5, None, True, float("nan")], "b": deep(50)}})
    assert shown["application/json"] == {"a": [1, 2.5, None, True, None], "b": deep(50)}


@pytest.mark.parametrize("bundle", [None, 3, "text", [], {}, {"text/plain": None}, {3: 4}])
def test_what_is_no_bundle_becomes_one(bundle: Any) -> None:
    assert list(admit(bundle)) == ["text/plain"]


def test_texts_may_be_lists_of_lines() -> None:
    assert admit({"text/plain": ["a\n", "b"]}) == {"text/plain": "a\nb"}


def test_plain_text_is_cleaned_and_cut() -> None:
    assert admit({"text/plain": "\x1b[31mr\x1b[0m\x1b]0;t\x07\ud800"}) == {
        "text/plain": "\x1b[31mr\x1b[0m\ufffd"
    }
    assert admit({"text/plain": "x" * 3 * 2**20})["text/plain"].endswith("were not shown]")


def test_metadata_keeps_only_what_renderers_of_pictures_need() -> None:
    metadata = {
        "isolated": True,
        "trusted": True,
        "tags": ["x"],
        "needs_background": "dark",
        "image/png": {
            "width": 30,
            "height": '1" onerror="alert(1)',
            "unconfined": True,
            "isolated": True,
            "needs_background": "url(x)",
        },
        "text/html": {"isolated": True},
    }
    shown, kept = SAFE.admit_bundle({"image/png": PNG_TEXT, "text/html": "<b>x</b>"}, metadata)
    assert set(shown) == {"image/png", "text/html"}
    assert kept == {"needs_background": "dark", "image/png": {"width": 30, "unconfined": True}}


@pytest.mark.parametrize("number", [True, -1, 0, 10**9, float("nan"), float("inf"), None, [1]])
def test_sizes_that_are_none_are_dropped(number: Any) -> None:
    assert SAFE.admit_bundle({"image/png": PNG_TEXT}, {"image/png": {"width": number}})[1] == {}


MODEL_ID = "0123456789abcdef0123456789abcdef"


def test_widget_views_pass_with_an_id_and_nothing_else() -> None:
    view = "application/vnd.jupyter.widget-view+json"
    given_view = {"model_id": MODEL_ID, "version_major": 2, "extra": "<script>"}
    assert admit({view: given_view}) == {
        view: {"version_major": 2, "version_minor": 0, "model_id": MODEL_ID}
    }
    for model_id in ("", "../x", 3, None, MODEL_ID + "0", ["a"]):
        assert list(admit({view: {"model_id": model_id}})) == ["text/plain"]


@pytest.mark.parametrize(
    "latex",
    [
        r"$\href{javascript:alert(1)}{x}$",
        r"$\url{https://evil.example}$",
        r"$\style{background: url(https://evil.example)}{x}$",
        r"$\bbox[background: url(https://evil.example)]{x}$",
        r"$\class{jp-Cell}{x}\cssId{main}{y}$",
        r"$\require{html}$",
        r"$\unicode[serif]{x263a}$",
        r"$\def\a{\b\b}\newcommand{\c}{}$",
        r"$\csname href\endcsname$",
        r"$\\\href{x}{y}$",
    ],
)
def test_latex_that_reaches_out_of_its_formula_leaves_a_note(latex: str) -> None:
    shown = admit({"text/latex": latex, "text/plain": "fallback"})
    assert list(shown) == ["text/plain"]
    assert "text/latex was not shown: its LaTeX has" in shown["text/plain"]


@pytest.mark.parametrize(
    "latex",
    [
        r"$\displaystyle \int_{0}^{\infty} e^{- x^{2}}\, dx = \frac{\sqrt{\pi}}{2}$",
        r"$\left[\begin{matrix}1 & 2\\3 & 4\end{matrix}\right]$",
        r"\begin{align}a &= b \\ \delta &\leq \defeq\end{align}",
    ],
)
def test_latex_of_formulas_passes(latex: str) -> None:
    assert admit({"text/latex": latex}) == {"text/latex": latex}


def test_latex_cannot_begin_a_tag() -> None:
    assert admit({"text/latex": "$a<b$"}) == {"text/latex": "$a< b$"}


def test_tracebacks_keep_colours_and_their_ends() -> None:
    lines = ["\x1b[0;31mValueError\x1b[0m\x1b]8;;x\x07", *["middle"] * 5000, "ValueError: \ud800"]
    shown = SAFE.admit_traceback(lines)
    assert shown[0] == "\x1b[0;31mValueError\x1b[0m"
    assert shown[-1] == "ValueError: \ufffd"
    assert len(shown) == 1001
    assert "4002 parts are not shown" in shown[500]


def test_a_traceback_of_one_huge_line_is_cut() -> None:
    shown = SAFE.admit_traceback(["x" * 10_000_000, "the end"])
    assert sum(map(len, shown)) < 300_000
    assert shown[-1].endswith("the end")


@pytest.mark.parametrize("lines", [None, 3, "text", [None, {}, ["x"]]])
def test_what_is_no_traceback_is_empty(lines: Any) -> None:
    assert SAFE.admit_traceback(lines) == []


def test_only_a_text_pager_passes_as_payload() -> None:
    page = {"source": "page", "data": {"text/plain": "help\x1b[2J", "text/html": "<script>"}}
    payload = [
        {"source": "set_next_input", "text": "evil()", "replace": True},
        {"source": "edit_magic", "filename": "/etc/passwd", "line_number": 1},
        {"source": "ask_exit"},
        page | {"start": 4, "extra": 1},
        page | {"start": "4"},
        {"source": "page", "data": {"text/html": "<script>"}},
        None,
    ]
    assert SAFE.admit_payload(payload) == [
        {"source": "page", "data": {"text/plain": "help"}, "start": 4},
        {"source": "page", "data": {"text/plain": "help"}, "start": 0},
    ]
    assert SAFE.admit_payload({"source": "page"}) == []
    assert TRUSTED.admit_payload(payload[:1]) == payload[:1]


def test_digests_of_pictures_match_their_files() -> None:
    svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    bundle = {"image/png": PNG_TEXT + "\n", "image/svg+xml": svg, "text/plain": "x"}
    assert picture_digest(bundle) == {content_digest(PNG), content_digest(svg.encode())}
    for broken in (None, [], {"image/png": 3}, {"image/png": "***"}, {"image/svg+xml": [1]}):
        assert picture_digest(broken) == set()


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
MIME_TYPES = st.sampled_from(
    "text/plain text/html text/markdown text/latex image/png image/svg+xml application/json "
    "application/vnd.jupyter.widget-view+json a/b".split()
)
PIECES = (
    "<script> </script> <b> <style> p{color:red} </style> <svg </svg> "
    "<img src= \" ' > < & $ \\ \\href "
    "[a]( javascript: ) "
    "![ ``` onerror= data:image/png;base64, <!-- --> <table> <a href=".split()
)
MARKUP = st.lists(st.sampled_from([*PIECES, " ", "\n", "\x00", "\ud800"]), max_size=12).map("".join)


@given(JSON_LIKE, JSON_LIKE)
def test_no_value_makes_the_policy_raise(bundle: Any, metadata: Any) -> None:
    for policy in (SAFE, TRUSTED):
        admitted = policy.admit_bundle(bundle, metadata)
        json.dumps(admitted, allow_nan=False, ensure_ascii=False).encode()
        policy.admit_traceback(bundle)
        policy.admit_payload(bundle)


@given(st.dictionaries(MIME_TYPES, MARKUP | JSON_LIKE, max_size=4), JSON_LIKE)
def test_bundles_of_odd_markup_stay_displayable(bundle: Any, metadata: Any) -> None:
    shown, kept = SAFE.admit_bundle(bundle, metadata)
    assert shown
    json.dumps([shown, kept], allow_nan=False, ensure_ascii=False).encode()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ["nh3", "csv", "html", "json", "markdown_it", "hashlib", "dataclasses", "asyncio"]
    code = (
        "import sys; before = set(sys.modules); import sandbox_kernel.outputs; "
        f"print([name for name in {heavy} if name in set(sys.modules) - before])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
