"""The stock widgets of ipywidgets: which model has which view. Data only.

A model with another's view is an attack: a text box's value shown by `HTMLView` is markup.
A test compares this with the installed ipywidgets.
"""

from __future__ import annotations

BASE = "@jupyter-widgets/base"
CONTROLS = "@jupyter-widgets/controls"
OUTPUT = "@jupyter-widgets/output"

# Models named XModel whose view, from the same module, is XView.
_PLAIN = (
    "Accordion Audio Box Button Checkbox ColorPicker ColorsInput Combobox ControllerAxis "
    "ControllerButton Controller DatePicker Datetime Dropdown FileUpload FloatLogSlider "
    "FloatRangeSlider FloatSlider FloatText FloatsInput GridBox HBox HTMLMath HTML Image "
    "IntRangeSlider IntSlider IntText IntsInput Label Password Play RadioButtons SelectMultiple "
    "Select SelectionRangeSlider SelectionSlider Stack Tab TagsInput Text Textarea Time "
    "ToggleButton ToggleButtons VBox Valid Video"
).split()
STYLE_MODELS = frozenset(
    f"{name}StyleModel"
    for name in (
        "Button Checkbox Description HTMLMath HTML Label Progress Slider Text ToggleButton "
        "ToggleButtons"
    ).split()
)
LINK_MODELS = frozenset({"LinkModel", "DirectionalLinkModel"})

# (module, model) -> (module of the view, view); None: it has none.
VIEWS: dict[tuple[str, str], tuple[str, str | None]] = {
    **{(CONTROLS, f"{name}Model"): (CONTROLS, f"{name}View") for name in _PLAIN},
    **{(CONTROLS, name): (BASE, "StyleView") for name in STYLE_MODELS},
    **{(CONTROLS, name): (CONTROLS, None) for name in LINK_MODELS},
    (CONTROLS, "BoundedFloatTextModel"): (CONTROLS, "FloatTextView"),
    (CONTROLS, "BoundedIntTextModel"): (CONTROLS, "IntTextView"),
    (CONTROLS, "FloatProgressModel"): (CONTROLS, "ProgressView"),
    (CONTROLS, "IntProgressModel"): (CONTROLS, "ProgressView"),
    (CONTROLS, "NaiveDatetimeModel"): (CONTROLS, "DatetimeView"),
    (BASE, "LayoutModel"): (BASE, "LayoutView"),
    (OUTPUT, "OutputModel"): (OUTPUT, "OutputView"),
}

HTML_MODELS = frozenset({"HTMLModel", "HTMLMathModel"})
MEDIA_MODELS = frozenset({"ImageModel", "AudioModel", "VideoModel"})
CSS_MODELS = STYLE_MODELS | {"LayoutModel"}
# Their value is put into a form field as it is, never parsed.
RAW_TEXT_MODELS = frozenset(
    {"TextModel", "TextareaModel", "PasswordModel", "ComboboxModel", "TagsInputModel"}
)
# A link copies between widgets in the browser, past every check here: so only between those
# whose values are never parsed as html or loaded, and only what changes while in use.
UNLINKABLE_MODELS = (
    HTML_MODELS | MEDIA_MODELS | CSS_MODELS | LINK_MODELS | {"OutputModel", "LabelModel"}
)
LINKABLE_TRAITS = frozenset(
    {"value", "index", "min", "max", "step", "disabled", "selected_index", "playing"}
)
