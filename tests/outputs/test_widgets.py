"""Widgets: the stock ones pass with their html cleaned; what names modules or urls doesn't."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.outputs import CommGate, OutputPolicy, widget_models, widgets
from tests.outputs.test_policy import JSON_LIKE, PNG_TEXT

SAFE, TRUSTED = OutputPolicy("safe"), OutputPolicy("trusted")
CONTROLS = widget_models.CONTROLS


def state_of(model: str, module: str = CONTROLS, **state: Any) -> dict[str, Any]:
    view_module, view = widget_models.VIEWS[module, model]
    return {
        "_model_module": module,
        "_model_module_version": "2.0.0",
        "_model_name": model,
        "_view_module": view_module,
        "_view_module_version": "2.0.0",
        "_view_name": view,
    } | state


def open_widget(gate: CommGate, comm_id: str, state: dict[str, Any], **more: Any) -> Any:
    data = {"state": state, "buffer_paths": []} | more
    return gate.outgoing("open", comm_id, "jupyter.widget", data, {"version": "2.1.0"})


def opened(model: str, **state: Any) -> dict[str, Any]:
    result = open_widget(CommGate(SAFE), "id", state_of(model, **state))
    assert result is not None
    return dict(result[0]["state"])


def update(gate: CommGate, comm_id: str, state: Any, **more: Any) -> Any:
    data = {"method": "update", "state": state, "buffer_paths": []} | more
    return gate.outgoing("msg", comm_id, "", data, {})


def test_a_slider_passes_as_it_is() -> None:
    state = state_of("IntSliderModel", value=3, min=0, max=9, description="n", layout="IPY_MODEL_x")
    passed = open_widget(CommGate(SAFE), "id", state)
    assert passed == ({"state": state, "buffer_paths": []}, {"version": "2.1.0"})


def test_the_table_of_models_is_that_of_the_installed_ipywidgets() -> None:
    pytest.importorskip("ipywidgets")
    from ipywidgets.widgets.widget import _registry

    known = set(widget_models.VIEWS.items())
    for (module, _v, model, view_module, _w, view), _class in _registry.items():
        if model != "DOMWidgetModel":  # abstract
            assert ((module, model), (view_module, view)) in known
    assert len(known) == len(
        {key[:3:2] for key, _class in _registry.items()} - {(CONTROLS, "DOMWidgetModel")}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"_model_module": "https://evil.example/x.js"},
        {"_view_module": "https://evil.example/x.js"},
        {"_model_module": "jupyter-matplotlib"},
        {"_model_name": "EvilModel"},
        {"_view_name": "HTMLView"},
        {"_view_name": "constructor"},
        {"_model_module": widget_models.BASE},
        {"_model_module": ["x"]},
        {"_model_name": None},
    ],
)
def test_models_and_views_that_are_not_stock_pairs_are_dropped(changes: dict[str, Any]) -> None:
    gate = CommGate(SAFE)
    assert open_widget(gate, "id", state_of("TextModel") | changes) is None
    assert update(gate, "id", {"value": "x"}) is None
    assert not gate.knows("id")


def test_other_targets_and_their_modules_are_dropped() -> None:
    gate = CommGate(SAFE)
    for target in ("evil", "", "jupyter.widget.version"):
        data = {"state": state_of("TextModel"), "target_module": "https://evil.example/x.js"}
        assert gate.outgoing("open", "id", target, data, {}) is None
    passed = open_widget(
        gate, "id", state_of("TextModel"), target_module="https://evil.example/x.js"
    )
    assert "evil" not in str(passed)


@pytest.mark.parametrize("model", ["HTMLModel", "HTMLMathModel"])
def test_html_of_widgets_is_cleaned_at_opening_and_in_updates(model: str) -> None:
    gate = CommGate(SAFE)
    passed = open_widget(gate, "id", state_of(model, value="<b>x</b><a href='javascript:1'>y</a>"))
    assert "<b>x</b>" in passed[0]["state"]["value"]
    assert "javascript" not in passed[0]["state"]["value"]
    for method in ("update", "echo_update"):
        data = {"method": method, "state": {"value": "<img src=x onerror=alert(1)>"}}
        content, _metadata = gate.outgoing("msg", "id", "", data, {})
        assert content["state"]["value"].startswith('<div style="height')
    assert update(gate, "id", {"value": 7})[0]["state"]["value"] == ""


def test_what_says_which_class_it_is_cannot_be_updated() -> None:
    gate = CommGate(SAFE)
    open_widget(gate, "id", state_of("TextModel", value="<b>"))
    state = {
        "_model_name": "HTMLModel",
        "_view_name": "HTMLView",
        "_view_module": "x",
        "value": "<b>",
    }
    assert update(gate, "id", state)[0]["state"] == {"value": "<b>"}


def test_a_text_box_keeps_its_text_and_labels_cannot_begin_a_tag() -> None:
    assert opened("TextareaModel", value="<b>code</b>")["value"] == "<b>code</b>"
    shown = opened(
        "DropdownModel",
        description="<img src=x onerror=alert(1)>",
        description_allow_html=True,
        tooltip="a < b",
        _options_labels=["<none>", r"$\href{x}{y}$", "\x1b[2Jplain"],
    )
    assert "<img" not in shown["description"]
    assert shown["description"].replace("\u2060", "") == "<img src=x onerror=alert(1)>"
    assert shown["description_allow_html"] is False
    assert shown["tooltip"] == "a < b"
    assert shown["_options_labels"] == ["<\u2060none>", "$\\\u2060href{x}{y}$", "plain"]


@pytest.mark.parametrize(
    "value", ["url(https://evil.example)", "1px; background: url(x)", "-9px", "u\\72l(x)"]
)
def test_styles_and_layouts_cannot_fetch_or_cover(value: str) -> None:
    for model, module in (("LayoutModel", widget_models.BASE), ("ButtonStyleModel", CONTROLS)):
        passed = open_widget(
            CommGate(SAFE), "id", state_of(model, module, width=value, margin="1px 2em")
        )
        assert passed[0]["state"]["width"] is None
        assert passed[0]["state"]["margin"] == "1px 2em"


def test_layouts_of_grids_pass() -> None:
    grid = {
        "grid_template_areas": '"a b" "c d"',
        "grid_template_columns": "repeat(2, minmax(10px, 1fr))",
    }
    passed = open_widget(CommGate(SAFE), "id", state_of("LayoutModel", widget_models.BASE, **grid))
    assert grid.items() <= passed[0]["state"].items()


def test_media_are_never_addresses() -> None:
    for model in sorted(widget_models.MEDIA_MODELS):
        assert opened(model, format="url")["format"] == "png"
        assert opened(model, format="webm")["format"] == "webm"


def test_binary_parts_go_where_pictures_have_them_or_the_message_is_dropped() -> None:
    image = state_of("ImageModel", format="png")
    assert open_widget(CommGate(SAFE), "id", image, buffer_paths=[["value"]]) is not None
    for path in (["__proto__", "x"], ["format"], ["value", 0], "value", [], [["value"]]):
        assert open_widget(CommGate(SAFE), "id", image, buffer_paths=[path]) is None
    text = state_of("TextModel")
    assert open_widget(CommGate(SAFE), "id", text, buffer_paths=[["value"]]) is None
    upload = state_of("FileUploadModel")
    assert open_widget(CommGate(SAFE), "id", upload, buffer_paths=[["value", 0, "content"]])


def test_prototypes_are_no_keys() -> None:
    state = {"__proto__": {"x": 1}, "index": {"constructor": 1, "a": {"prototype": 2}}}
    shown = opened("DropdownModel", **state)
    assert "__proto__" not in shown
    assert shown["index"] == {"a": {}}


def test_classes_and_icons_are_only_known_ones() -> None:
    shown = opened("ButtonModel", _dom_classes=["jp-Cell", "widget-interact"], icon='x"><b')
    assert shown["_dom_classes"] == ["widget-interact"]
    assert shown["icon"] == ""
    assert opened("ButtonModel", icon="check fa-spin")["icon"] == "check fa-spin"


def link(gate: CommGate, source: list[Any], target: list[Any]) -> Any:
    return open_widget(gate, "link", state_of("DirectionalLinkModel", source=source, target=target))


def test_links_copy_only_between_values_that_are_never_html() -> None:
    gate = CommGate(SAFE)
    for comm_id, model in [
        ("slider", "IntSliderModel"),
        ("text", "TextModel"),
        ("html", "HTMLModel"),
    ]:
        open_widget(gate, comm_id, state_of(model))
    assert link(gate, ["IPY_MODEL_text", "value"], ["IPY_MODEL_html", "value"]) is None
    assert link(gate, ["IPY_MODEL_text", "value"], ["IPY_MODEL_later", "value"]) is None
    assert (
        link(gate, ["IPY_MODEL_text", "value"], ["IPY_MODEL_slider", "description_allow_html"])
        is None
    )
    assert link(gate, ["IPY_MODEL_slider", "value"], ["IPY_MODEL_text", "value"]) is not None
    assert update(gate, "link", {"target": ["IPY_MODEL_html", "value"]}) is None


def test_an_open_comm_cannot_be_opened_as_another_model() -> None:
    gate = CommGate(SAFE)
    assert open_widget(gate, "id", state_of("TextModel")) is not None
    assert open_widget(gate, "id", state_of("HTMLModel", value="<b>")) is None
    assert gate.outgoing("close", "id", "", {"x": 1}, {"y": 2}) == ({}, {})
    assert open_widget(gate, "id", state_of("HTMLModel", value="<b>")) is not None


def test_outputs_within_a_widget_pass_the_policy_too() -> None:
    outputs = [
        {
            "output_type": "display_data",
            "data": {"text/html": "<b onclick=x>y</b>"},
            "metadata": {"isolated": True},
        },
        {"output_type": "execute_result", "data": {"image/png": PNG_TEXT}, "execution_count": 3},
        {"output_type": "stream", "name": "stderr", "text": "a\x1b]0;t\x07b"},
        {
            "output_type": "error",
            "ename": "E\x1b[2J",
            "evalue": "v",
            "traceback": ["\x1b[31mx\x1b[2J"],
        },
        {"output_type": "evil"},
        None,
    ]
    gate = CommGate(SAFE)
    passed = open_widget(gate, "id", state_of("OutputModel", widget_models.OUTPUT, outputs=outputs))
    html, picture, stream, error = passed[0]["state"]["outputs"]
    assert "sandbox=" in html["data"]["text/html"]
    assert html["metadata"] == {}
    assert picture["data"] == {"image/png": PNG_TEXT}
    assert stream == {"output_type": "stream", "name": "stderr", "text": "ab"}
    assert error == {
        "output_type": "error",
        "ename": "E",
        "evalue": "v",
        "traceback": ["\x1b[31mx"],
    }


def test_custom_messages_only_move_the_focus() -> None:
    gate = CommGate(SAFE)
    open_widget(gate, "id", state_of("TextModel"))
    for content, passes in [({"do": "focus"}, True), ({"do": "eval"}, False), (None, False)]:
        passed = gate.outgoing("msg", "id", "", {"method": "custom", "content": content}, {})
        assert (passed is not None) is passes


def test_a_reloaded_page_gets_the_states_of_widgets_that_passed() -> None:
    gate = CommGate(SAFE)
    open_widget(gate, "a", state_of("HTMLModel"))
    open_widget(gate, "pic", state_of("ImageModel"))
    html = {
        "model_name": "HTMLModel",
        "model_module": CONTROLS,
        "state": state_of("HTMLModel", value="<svg onload=x>"),
    }
    states = {
        "a": html,
        "unknown": html,
        "pic": {
            "model_name": "ImageModel",
            "model_module": "evil",
            "state": state_of("ImageModel"),
        },
    }
    data = {
        "method": "update_states",
        "states": states,
        "buffer_paths": [["pic", "state", "value"]],
    }
    content, _metadata = gate.outgoing("msg", "control", "", data, {}) or ({}, {})
    assert set(content["states"]) == {"a", "pic"}
    assert content["states"]["pic"]["model_module"] == CONTROLS
    assert "onload" not in content["states"]["a"]["state"]["value"].split("srcdoc")[0]
    assert content["buffer_paths"] == [["pic", "state", "value"]]
    data["buffer_paths"] = [["a", "state", "value"]]
    assert gate.outgoing("msg", "control", "", data, {}) is None


def test_the_gate_learns_a_bounded_number_of_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "_MAX_MODELS", 3)
    gate = CommGate(SAFE)
    passed = [open_widget(gate, f"id{n}", state_of("TextModel")) is not None for n in range(5)]
    assert passed == [True, True, True, False, False]


def test_real_widgets_pass_whole() -> None:
    ipywidgets = pytest.importorskip("ipywidgets")
    gate = CommGate(SAFE)
    box = ipywidgets.VBox([ipywidgets.IntSlider(3, description="n"), ipywidgets.HTML("<b>x</b>")])
    for model in [box, *box.children, box.layout, box.children[0].style, box.children[1].layout]:
        state = json.loads(json.dumps(model.get_state()))
        passed = open_widget(gate, model.model_id, state)
        assert passed is not None
        changed = {key for key in state if passed[0]["state"].get(key) != state[key]}
        assert changed <= {"description_allow_html"}


def test_trusted_passes_everything() -> None:
    data = {"state": {"_model_module": "https://example.org/x.js"}, "target_module": "y"}
    assert CommGate(TRUSTED).outgoing("open", "id", "evil", data, {"a": 1}) == (data, {"a": 1})


@given(
    st.sampled_from(["open", "msg", "close", "evil"]),
    st.sampled_from(["jupyter.widget", "x"]),
    JSON_LIKE,
    JSON_LIKE,
    st.sampled_from(sorted({model for _module, model in widget_models.VIEWS})),
)
def test_no_message_makes_the_gate_raise(
    action: str, target: str, data: Any, more: Any, model: str
) -> None:
    gate = CommGate(SAFE)
    module = next(key[0] for key in widget_models.VIEWS if key[1] == model)
    open_widget(
        gate, "id", state_of(model, module) | (more if isinstance(more, dict) else {"value": more})
    )
    state = {"state": data, "method": "update", "buffer_paths": more}
    for content in (
        data,
        state,
        {"method": "update_states", "states": {"id": data}, "buffer_paths": more},
    ):
        passed = gate.outgoing(action, "id", target, content, more)
        json.dumps(passed, allow_nan=False, ensure_ascii=False).encode()
