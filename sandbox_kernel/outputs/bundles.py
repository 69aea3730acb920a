"""MIME bundles of the policy `safe`: a table of types, and what each becomes. Pure.

Rule 1: a type without a row in `_RULES` is dropped. That holds for application/javascript
and PDF, and for Plotly's and Vega's JSON: their renderers take urls and html from it. The
html that Plotly and Altair send along is framed instead.
Rule 2: what is dropped leaves a line in `text/plain`, so a bundle is never empty.

A rule takes the value and returns what to add to the bundle; it raises `Unshowable` with the
reason when there is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sandbox_kernel.outputs.streams import clean_name, clean_text
from sandbox_kernel.outputs.values import Unshowable, copy_json

Json = dict[str, Any]

# A result with more alternatives of itself than this has no reader.
_MAX_TYPES = 32
# A browser takes seconds to lay out a line of this size; files are for more.
_MAX_TEXT = 2 * 1024**2
_MAX_SIDE_PX = 10_000
# Not bounds of safety, as the frame has one; of what Python's own encoder survives.
_TRUSTED_DEPTH = 200
_TRUSTED_NODES = 5_000_000
_TRUSTED_CHARACTERS = 2**26


def admit(bundle: Any, metadata: Any) -> tuple[Json, Json]:
    """`OutputPolicy.admit_bundle` for `safe`."""
    source = bundle if isinstance(bundle, dict) else {}
    shown: Json = {}
    notes: list[str] = []
    for mime_type, value in list(source.items())[:_MAX_TYPES]:
        try:
            _add(shown, _admit_value(mime_type, value))
        except Unshowable as reason:
            notes.append(f"[{clean_name(str(mime_type), 80)} was not shown: {reason}]")
    if len(source) > _MAX_TYPES:
        notes.append(f"[{len(source) - _MAX_TYPES} more types were not shown]")
    if notes or not shown:
        shown["text/plain"] = "\n".join([*filter(None, [shown.get("text/plain")]), *notes])
    return shown, _admit_metadata(metadata, shown)


def _add(shown: Json, more: Json) -> None:
    """Html made of SVG or markdown only fills a gap; the guest's own html takes its place."""
    for mime_type, value in more.items():
        is_own = mime_type not in shown or not isinstance(value, _Converted)
        if is_own:
            shown[mime_type] = value


class _Converted(str):
    """Html that stands in for another type."""


def _admit_value(mime_type: object, value: Any) -> Json:
    rule = _RULES.get(mime_type) if isinstance(mime_type, str) else None
    if rule is None:
        raise Unshowable('the output policy is "safe"')
    return rule(value)


def _text_of(value: Any) -> str:
    """A bundle's text; nbformat also has it as a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise Unshowable("it is not text")
    return value


def _admit_plain(value: Any) -> Json:
    text = _text_of(value)
    if len(text) > _MAX_TEXT:
        left = len(text) - _MAX_TEXT
        text = f"{text[:_MAX_TEXT]}\n[{left} more characters were not shown]"
    return {"text/plain": clean_text(text)}


def _admit_html(value: Any) -> Json:
    from sandbox_kernel.outputs.html import admit_html

    return {"text/html": admit_html(_text_of(value))}


def _admit_markdown(value: Any) -> Json:
    from sandbox_kernel.outputs import html, markdown

    text = clean_text(_text_of(value))
    if markdown.is_harmless(text):
        return {"text/markdown": text}
    try:
        return {"text/html": _Converted(html.clean_html(markdown.to_html(text)))}
    except (Unshowable, RecursionError):
        raise Unshowable("it is too deeply nested to be cleaned") from None


# After `<` a letter would begin a tag where a client takes LaTeX for html; TeX ignores a space.
_TAG_START = re.compile(r"<(?=[A-Za-z/!?])")


def _admit_latex(value: Any) -> Json:
    from sandbox_kernel.outputs import latex

    text = clean_text(_text_of(value))
    if len(text) > _MAX_TEXT or not latex.is_harmless(text):
        raise Unshowable("its LaTeX has links, styles or definitions")
    return {"text/latex": _TAG_START.sub("< ", text)}


def _admit_raster(mime_type: str) -> Callable[[Any], Json]:
    def admit_value(value: Any) -> Json:
        from sandbox_kernel.outputs.images import admit_raster

        return {mime_type: admit_raster(mime_type, value)}

    return admit_value


def _admit_svg(value: Any) -> Json:
    from sandbox_kernel.outputs.images import admit_svg

    return {"text/html": _Converted(admit_svg(value))}


def _admit_json(value: Any) -> Json:
    return {"application/json": copy_json(value)}


_MODEL_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def _admit_widget_view(value: Any) -> Json:
    model_id = value.get("model_id") if isinstance(value, dict) else None
    if not isinstance(model_id, str) or _MODEL_ID.fullmatch(model_id) is None:
        raise Unshowable("it names no widget")
    return {_WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": model_id}}


_RULES: dict[str, Callable[[Any], Json]] = {
    "text/plain": _admit_plain,
    "text/html": _admit_html,
    "text/markdown": _admit_markdown,
    "text/latex": _admit_latex,
    "image/png": _admit_raster("image/png"),
    "image/jpeg": _admit_raster("image/jpeg"),
    "image/gif": _admit_raster("image/gif"),
    "image/webp": _admit_raster("image/webp"),
    "image/svg+xml": _admit_svg,
    "application/json": _admit_json,
    _WIDGET_VIEW: _admit_widget_view,
}


def _admit_metadata(metadata: Any, shown: Json) -> Json:
    """Only what a renderer needs. `isolated` and `trusted` would undo the policy."""
    if not isinstance(metadata, dict):
        return {}
    kept: Json = {}
    for mime_type in shown:
        inner = metadata.get(mime_type)
        if mime_type.startswith("image/") and isinstance(inner, dict):
            kept |= _nonempty(mime_type, _admit_picture_metadata(inner))
        elif mime_type == "application/json" and isinstance(inner, dict):
            is_expanded = inner.get("expanded")
            kept |= _nonempty(mime_type, {"expanded": True} if is_expanded is True else {})
    if metadata.get("needs_background") in ("light", "dark"):
        kept["needs_background"] = metadata["needs_background"]
    return kept


def _nonempty(key: str, value: Json) -> Json:
    return {key: value} if value else {}


def _admit_picture_metadata(metadata: Json) -> Json:
    kept: Json = {}
    for key in ("width", "height"):
        number = metadata.get(key)
        if isinstance(number, int | float) and 0 < number <= _MAX_SIDE_PX and number is not True:
            kept[key] = number
    if metadata.get("unconfined") is True:
        kept["unconfined"] = True
    if metadata.get("needs_background") in ("light", "dark"):
        kept["needs_background"] = metadata["needs_background"]
    return kept


def admit_trusted(bundle: Any, metadata: Any) -> tuple[Json, Json]:
    """`OutputPolicy.admit_bundle` for `trusted`: all that JSON can hold."""
    shown = copy_trusted(bundle)
    described = copy_trusted(metadata)
    if not isinstance(shown, dict):
        shown = {"text/plain": "[an output was not shown: it cannot be written as JSON]"}
    return shown, described if isinstance(described, dict) else {}


def copy_trusted(value: Any) -> Any:
    """A copy of `value` that JSON can hold, or None."""
    try:
        return copy_json(
            value,
            max_depth=_TRUSTED_DEPTH,
            max_nodes=_TRUSTED_NODES,
            max_characters=_TRUSTED_CHARACTERS,
        )
    except Unshowable:
        return None


def pictures(bundle: Any) -> Iterator[bytes]:
    """The files that the pictures of a guest's bundle would be."""
    from sandbox_kernel.outputs.images import RASTER_TYPES, decode_base64

    for mime_type, value in bundle.items() if isinstance(bundle, dict) else ():
        try:
            if mime_type in RASTER_TYPES:
                yield decode_base64(value)
            elif mime_type == "image/svg+xml":
                yield _text_of(value).encode("utf-8", "replace")
        except Unshowable:
            continue
