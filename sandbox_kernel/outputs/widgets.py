"""Comms of a guest's: stock ipywidgets pass, with what they would parse as html cleaned. Pure.

A widget is a remote control of the page: its model names a module to load and a class to
build, its state goes into `innerHTML`, CSS and urls. So:

Rule 1: only target `jupyter.widget`, and models and views of `widget_models`, in their pairs.
`target_module`, which a page would load, is dropped.
Rule 2: the gate remembers each comm's model, as updates don't name it. What it doesn't know it
drops, and past `_MAX_MODELS` it learns no more.
Rule 3: state is copied key by key: html cleaned, CSS checked by value, other text kept from
beginning a tag, binary only where a picture or film has it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox_kernel.outputs.values import Unshowable, copy_json

if TYPE_CHECKING:
    from sandbox_kernel.outputs.policy import OutputPolicy

Json = dict[str, Any]

# A slider is three models; a dashboard of a thousand controls passes.
_MAX_MODELS = 20_000
_MAX_OUTPUTS = 1_000
_MAX_BUFFERS = 64

# Not compiled here: the kernel imports this at start, and most notebooks have no widget.
_COMM_ID = r"[\w-]{1,64}"
_VERSION = r"[\w.^~<>=* -]{1,32}"
_ICON = r"[\w -]{0,64}"
_FORMAT = r"(?!url$)[a-z0-9.+-]{1,24}"
_TAG_START = r"<(?=[A-Za-z/!?])"
_FORBIDDEN_KEYS = frozenset({"__proto__", "constructor", "prototype"})
_IDENTITY_KEYS = frozenset(
    "_model_module _model_module_version _model_name _view_module _view_module_version "
    "_view_name".split()
)


class CommGate:
    """Decides on each comm message that leaves one guest. One object a session."""

    def __init__(self, policy: OutputPolicy) -> None:
        self._policy = policy
        self._models: dict[str, str] = {}  # comm id -> name of its model

    def outgoing(
        self, action: str, comm_id: str, target_name: str, data: Any, metadata: Any
    ) -> tuple[Json, Json] | None:
        """Data and metadata that a browser may get, or None: drop the message.

        `action` is "open", "msg" or "close". Buffers go along unchanged; their number and
        places were checked.
        """
        if self._policy.is_trusted:
            from sandbox_kernel.outputs.bundles import copy_trusted

            return _as_object(copy_trusted(data)), _as_object(copy_trusted(metadata))
        if not isinstance(comm_id, str) or re.fullmatch(_COMM_ID, comm_id, re.ASCII) is None:
            return None
        if action == "close":
            self._models.pop(comm_id, None)
            return {}, {}
        try:
            content = self._admit(action, comm_id, target_name, _as_object(data))
        except (Unshowable, RecursionError):
            return None
        return content, _admit_metadata(metadata)

    def knows(self, comm_id: str) -> bool:
        """Whether a widget of that id passed, so that a view of it can appear."""
        return self._policy.is_trusted or comm_id in self._models

    def _admit(self, action: str, comm_id: str, target_name: str, data: Json) -> Json:
        """Raises `Unshowable` for a message to drop."""
        if action == "open" and target_name == "jupyter.widget":
            return self._admit_open(comm_id, data)
        if action == "msg":
            return self._admit_message(comm_id, data)
        raise Unshowable("no such comm is let through")

    def _admit_open(self, comm_id: str, data: Json) -> Json:
        if comm_id in self._models:
            raise Unshowable("it is open already")
        state = _as_object(data.get("state"))
        model, identity = _identify(state)
        admitted = self._admit_state(model, state)
        self._remember(comm_id, model)
        return {"state": identity | admitted, "buffer_paths": _admit_paths(model, data)}

    def _remember(self, comm_id: str, model: str) -> None:
        if len(self._models) >= _MAX_MODELS:
            raise Unshowable("there are too many widgets")
        self._models[comm_id] = model

    def _admit_message(self, comm_id: str, data: Json) -> Json:
        method = data.get("method")
        if method == "update_states":  # an answer on the page's own control comm
            return self._admit_states(data)
        model = self._models.get(comm_id)
        if model is None:
            raise Unshowable("its widget did not pass")
        if method in ("update", "echo_update"):
            state = self._admit_state(model, _as_object(data.get("state")))
            return {"method": method, "state": state, "buffer_paths": _admit_paths(model, data)}
        content = data.get("content")
        if method == "custom" and content in ({"do": "focus"}, {"do": "blur"}):
            return {"method": "custom", "content": content}
        raise Unshowable("no such message is let through")

    def _admit_states(self, data: Json) -> Json:
        """All widgets' states, which a reloaded page asks for. Binary parts need all to pass."""
        states: Json = {}
        for model_id, entry in _as_object(data.get("states")).items():
            try:
                states[model_id] = self._admit_entry(model_id, _as_object(entry))
            except Unshowable:
                continue
        paths = _list_of(data.get("buffer_paths"), _MAX_BUFFERS * 16)
        for path in paths:
            is_path = isinstance(path, list) and len(path) >= 3 and path[1] == "state"
            model = self._models.get(path[0]) if is_path and isinstance(path[0], str) else None
            if model is None or not _is_binary_path(model, path[2:]):
                raise Unshowable("binary parts go where none belong")
        return {"method": "update_states", "states": states, "buffer_paths": paths}

    def _admit_entry(self, model_id: str, entry: Json) -> Json:
        model = self._models.get(model_id)
        state = _as_object(entry.get("state"))
        if model is None or entry.get("model_name") != model:
            raise Unshowable("its widget did not pass")
        _model, identity = _identify(state)
        if _model != model:
            raise Unshowable("it changes its model")
        return {
            "model_name": model,
            "model_module": identity["_model_module"],
            "model_module_version": identity["_model_module_version"],
            "state": identity | self._admit_state(model, state),
        }

    def _admit_state(self, model: str, state: Json) -> Json:
        """The state without what names modules and classes: that is `_identify`'s."""
        from sandbox_kernel.outputs import widget_models

        if model in widget_models.LINK_MODELS and not self._is_harmless_link(state):
            raise Unshowable("it links what is shown as html")
        admitted: Json = {}
        for key, value in state.items():
            if not isinstance(key, str) or key in _FORBIDDEN_KEYS or key in _IDENTITY_KEYS:
                continue
            admitted[key] = _admit_trait(self._policy, model, key, value)
        return admitted

    def _is_harmless_link(self, state: Json) -> bool:
        from sandbox_kernel.outputs.widget_models import LINKABLE_TRAITS, UNLINKABLE_MODELS

        for key in ("source", "target"):
            end = state.get(key)
            if end is None and key not in state:
                continue
            if not isinstance(end, list | tuple) or len(end) != 2 or end[1] not in LINKABLE_TRAITS:
                return False
            model_id = end[0].removeprefix("IPY_MODEL_") if isinstance(end[0], str) else ""
            if self._models.get(model_id, "OutputModel") in UNLINKABLE_MODELS:
                return False
        return True


def _as_object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list_of(value: Any, limit: int) -> list[Any]:
    items = value if isinstance(value, list | tuple) else []
    if len(items) > limit:
        raise Unshowable("it has too many parts")
    return list(items)


def _admit_metadata(metadata: Any) -> Json:
    version = _as_object(metadata).get("version")
    is_version = isinstance(version, str) and re.fullmatch(_VERSION, version, re.ASCII) is not None
    return {"version": version} if is_version else {}


def _identify(state: Json) -> tuple[str, Json]:
    """The model's name, and the keys that name modules and classes as they may be.

    Raises:
        Unshowable: it is no stock widget, or has not its own view.
    """
    from sandbox_kernel.outputs.widget_models import VIEWS

    module, model = state.get("_model_module"), state.get("_model_name")
    view = (
        VIEWS.get((module, model)) if isinstance(module, str) and isinstance(model, str) else None
    )
    if view is None or state.get("_view_name") not in (None, view[1]):
        raise Unshowable("it is none of the stock widgets")
    if state.get("_view_module") not in (None, view[0]):
        raise Unshowable("its view is of another module")
    identity = {
        "_model_module": module,
        "_model_name": model,
        "_model_module_version": _admit_version(state.get("_model_module_version")),
        "_view_module": state.get("_view_module"),
        "_view_name": state.get("_view_name"),
        "_view_module_version": _admit_version(state.get("_view_module_version")),
    }
    return str(model), identity


def _admit_version(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(_VERSION, value, re.ASCII) else "*"


def _admit_paths(model: str, data: Json) -> list[Any]:
    """Where the message's buffers go. All or nothing, as dropping one would shift the others."""
    paths = _list_of(data.get("buffer_paths"), _MAX_BUFFERS)
    if not all(_is_binary_path(model, path) for path in paths):
        raise Unshowable("binary parts go where none belong")
    return paths


def _is_binary_path(model: str, path: Any) -> bool:
    from sandbox_kernel.outputs.widget_models import MEDIA_MODELS

    if not isinstance(path, list | tuple):
        return False
    if model == "FileUploadModel":
        return len(path) == 3 and path[::2] == ["value", "content"] and isinstance(path[1], int)
    return model in MEDIA_MODELS and list(path) == ["value"]


def _admit_trait(policy: OutputPolicy, model: str, key: str, value: Any) -> Any:
    from sandbox_kernel.outputs import widget_models

    if key == "value" and model in widget_models.HTML_MODELS:
        return _admit_html(value)
    if key == "outputs":
        return _admit_outputs(policy, value) if model == "OutputModel" else None
    if key == "description_allow_html":
        return False
    if key == "_dom_classes":
        return [name for name in _list_of(value, 100) if name == "widget-interact"]
    if key == "format" and model in widget_models.MEDIA_MODELS:
        # "url" would make the value an address to load.
        return value if isinstance(value, str) and re.fullmatch(_FORMAT, value, re.ASCII) else "png"
    if key in ("icon", "icons"):
        return _map_text(copy_json(value), _admit_icon)
    if model in widget_models.CSS_MODELS:
        return _map_text(copy_json(value), _admit_css)
    if model in widget_models.RAW_TEXT_MODELS and key in ("value", "options"):
        return copy_json(value)
    return _map_text(copy_json(value), _admit_text)


def _admit_html(value: Any) -> str:
    from sandbox_kernel.outputs.html import admit_html

    try:
        return admit_html(value) if isinstance(value, str) else ""
    except Unshowable as reason:
        return f"[html was not shown: {reason}]"


def _admit_text(text: str) -> str:
    """`text` that is the same to a reader, and no markup or macro wherever it is put."""
    from sandbox_kernel.outputs import latex
    from sandbox_kernel.outputs.streams import clean_text

    return latex.disarm(re.sub(_TAG_START, "<\u2060", clean_text(text)))


def _admit_icon(text: str) -> str:
    return text if re.fullmatch(_ICON, text, re.ASCII) else ""


def _admit_css(text: str) -> str | None:
    from sandbox_kernel.outputs.styles import is_harmless_value

    return text if is_harmless_value(text) else None


def _map_text(value: Any, admit: Any) -> Any:
    """`value` with `admit` done to each text in it. It was copied, so its depth is bounded."""
    if isinstance(value, str):
        return admit(value)
    if isinstance(value, list):
        return [_map_text(item, admit) for item in value]
    if isinstance(value, dict):
        return {
            key: _map_text(item, admit) for key, item in value.items() if key not in _FORBIDDEN_KEYS
        }
    return value


def _admit_outputs(policy: OutputPolicy, value: Any) -> list[Json]:
    """What an Output widget holds: outputs as in a notebook file."""
    return [
        admitted
        for item in _list_of(value, _MAX_OUTPUTS)
        if (admitted := _admit_output(policy, _as_object(item))) is not None
    ]


def _admit_output(policy: OutputPolicy, output: Json) -> Json | None:
    from sandbox_kernel.outputs.streams import clean_text

    kind = output.get("output_type")
    if kind == "stream":
        text = output.get("text")
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {
            "output_type": kind,
            "name": name,
            "text": clean_text(text if isinstance(text, str) else ""),
        }
    if kind in ("display_data", "execute_result"):
        data, metadata = policy.admit_bundle(output.get("data"), output.get("metadata"))
        return {"output_type": "display_data", "data": data, "metadata": metadata}
    if kind == "error":
        names = {key: clean_text(str(output.get(key, ""))) for key in ("ename", "evalue")}
        return {
            "output_type": kind,
            **names,
            "traceback": policy.admit_traceback(output.get("traceback")),
        }
    return None
