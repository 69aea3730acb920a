"""`display` and its kin, for guests without IPython: an object's rich forms, and showing them.

Source: IPython's documentation, "Integrating your objects with IPython".
"""

import sys
from typing import Any, Dict, Optional, Tuple, Union

from .base_shell import Json, Output

METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}


def format_object(value: Any) -> Tuple[Json, Json]:
    """(data, metadata) by MIME type, `text/plain` always among them."""
    data: Json = {"text/plain": describe(value)}
    metadata: Json = {}
    if isinstance(value, type):
        return data, metadata  # a class's methods describe its instances
    for mime, name in METHODS.items():
        _add(data, metadata, mime, _call(value, name))
    bundle = _call(value, "_repr_mimebundle_", include=None, exclude=None)
    if isinstance(bundle, tuple) and len(bundle) == 2:
        bundle, more = bundle
        metadata.update(more or {})
    if isinstance(bundle, dict):
        data.update(bundle)
    if is_figure(value):
        from .figures import to_png

        data["image/png"] = to_png(value)
    return data, metadata


def describe(value: Any) -> str:
    """`repr`, with containers laid out over several lines when they are long."""
    text = repr(value)
    if len(text) > 80 and isinstance(value, (dict, list, tuple, set, frozenset)):
        from pprint import pformat

        return pformat(value, compact=True)
    return text


def is_figure(value: Any) -> bool:
    """Whether `value` is one of matplotlib's figures."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def _call(value: Any, name: str, **options: Any) -> Any:
    # Objects that answer to every name (mocks, remote proxies) have no rich forms.
    if getattr(value, "_ipython_canary_method_should_not_exist_", None) is not None:
        return None
    method = getattr(value, name, None)
    try:
        return method(**options) if callable(method) else None
    except NotImplementedError:
        return None
    except Exception:
        import traceback

        traceback.print_exc()
        return None


def _add(data: Json, metadata: Json, mime: str, made: Any) -> None:
    if isinstance(made, tuple) and len(made) == 2:
        made, metadata[mime] = made
    if made is not None:
        data[mime] = made


class DisplayHandle:
    """What `display(..., display_id=…)` returns: `update` shows something else there."""

    def __init__(self, displayer: "Displayer", display_id: str) -> None:
        self._displayer = displayer
        self.display_id = display_id

    def display(self, value: Any, **options: Any) -> None:
        """Show `value` once more, under the same id."""
        self._displayer.display(value, display_id=self.display_id, **options)

    def update(self, value: Any, **options: Any) -> None:
        """Show `value` in place of what has this id."""
        self._displayer.update_display(value, display_id=self.display_id, **options)

    def __repr__(self) -> str:
        return "<DisplayHandle display_id=%s>" % self.display_id


class Displayer:
    """The functions that a notebook has as builtins."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._ids = 0

    def display(
        self,
        *values: Any,
        raw: bool = False,
        metadata: Optional[Json] = None,
        transient: Optional[Json] = None,
        display_id: Union[str, bool, None] = None,
        update: bool = False,
        clear: bool = False,
        **_options: Any,
    ) -> Optional[DisplayHandle]:
        """Show `values` in their richest forms.

        Args:
            raw: the values are dicts of MIME types already.
            display_id: a name for `update_display`; True makes one up.
            clear: remove the cell's other output first.
        """
        if display_id is True or (update and display_id is None):
            self._ids += 1
            display_id = "display-%d-%d" % (id(self), self._ids)
        all_transient: Dict[str, Any] = dict(transient or {})
        if display_id:
            all_transient["display_id"] = display_id
        if clear:
            self._output.clear(True)
        for value in values:
            data, made = (value, {}) if raw else format_object(value)
            self._output.show(data, {**made, **(metadata or {})}, all_transient, update)
        return DisplayHandle(self, str(display_id)) if display_id else None

    def update_display(self, value: Any, *, display_id: str, **options: Any) -> None:
        """Show `value` in place of what was displayed with `display_id`."""
        self.display(value, display_id=display_id, update=True, **options)

    def clear_output(self, wait: bool = False) -> None:
        """Remove what this cell has shown, at once or when it shows something new."""
        self._output.clear(wait)
