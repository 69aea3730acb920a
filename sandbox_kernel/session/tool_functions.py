"""One function of the host's as a tool: its signature, its arguments checked, its result as JSON.

Rule 1: JSON in, JSON out. `bytes` are base64 text in both directions; NaN is null.
Rule 2: what the guest is shown of a function is its name, its parameters and its docstring.
A default that could hold a secret or a path is shown as "...".

Pure but for calling pydantic, which is imported when the first tool is made.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from sandbox_kernel.errors import SettingsError, ToolError

MAX_DOC_LETTERS = 4_000
MAX_PROBLEMS = 5
MAX_PROBLEM_LETTERS = 300
# A call's arguments are looked at in the host's event loop, and listing what is wrong with each
# of a hundred thousand takes seconds.
_MAX_LISTED = 100
# For *args and **kwargs, which are checked one by one.
MAX_VARIADIC = 1_000
_SHORT_DEFAULT = 80
# Beside the tools there is the error; and JavaScript would wait for what has a `then`.
_RESERVED = frozenset({"ToolError", "then", "constructor"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


class Tool:
    """A function that a session may offer.

    Args:
        name: what cells call it.
        function: sync or async; its hints are what arguments are checked against.

    Raises:
        SettingsError: it cannot be a tool; the message says what to change.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        check_name(name)
        if not callable(function):
            raise SettingsError(f"The tool {name} is no function but {type(function).__name__}.")
        self.name = name
        self.function = function
        self._signature = _signature(name, function)
        hints = _hints(name, function)
        parameters = self._signature.parameters
        self._hints = {each: hints.get(each, Any) for each in parameters}
        self._returns = hints.get("return", Any)
        self._checks = {each: _adapter(name, each, hint) for each, hint in self._hints.items()}

    def bind(
        self, positional: list[Any], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function wants them.

        Raises:
            ToolError: they don't fit; the message says which and why, for who called.
        """
        try:
            bound = self._signature.bind(*positional, **named)
        except TypeError as error:
            raise ToolError(f"{self.name}: {error}. It is {self.signature}.") from None
        problems: list[str] = []
        for each, value in bound.arguments.items():
            bound.arguments[each] = self._checked(each, value, problems)
        if problems:
            shown = "; ".join(problems[:MAX_PROBLEMS])
            raise ToolError(f"{self.name}: {shown}. It is {self.signature}.")
        return bound.args, bound.kwargs

    def _checked(self, parameter: str, value: Any, problems: list[str]) -> Any:
        kind = self._signature.parameters[parameter].kind
        is_variadic = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if is_variadic and len(value) > MAX_VARIADIC:
            problems.append(f"{parameter}: over {MAX_VARIADIC:,} values")
            return value
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple(self._check(parameter, item, problems) for item in value)
        if kind is inspect.Parameter.VAR_KEYWORD:
            return {key: self._check(parameter, item, problems) for key, item in value.items()}
        return self._check(parameter, value, problems)

    def _check(self, parameter: str, value: Any, problems: list[str]) -> Any:
        from pydantic import ValidationError

        try:
            # As JSON: so base64 becomes bytes, and a list the tuple or set that is wanted.
            return self._checks[parameter].validate_json(json.dumps(value))
        except ValidationError as error:
            if (count := error.error_count()) > _MAX_LISTED:
                problems.append(f"{parameter}: {count:,} values in it do not fit")
                return None
            for told in error.errors(include_url=False, include_context=False, include_input=False):
                place = ".".join(str(step) for step in (parameter, *told["loc"]))
                problems.append(f"{place}: {told['msg']}"[:MAX_PROBLEM_LETTERS])
        except (ValueError, RecursionError):
            problems.append(f"{parameter}: it cannot be read")
        return None

    def dump(self, result: Any) -> bytes:
        """What the function returned, as JSON.

        Raises:
            ToolError: it has no such form.
        """
        from pydantic_core import PydanticSerializationError, to_json

        try:
            return to_json(result, bytes_mode="base64", inf_nan_mode="null")
        except (PydanticSerializationError, UnicodeError, RecursionError):
            raise ToolError(
                f"{self.name} ran, but what it returned has no form in JSON. Its owner has to "
                "make it return texts, numbers, lists, dictionaries, dataclasses or models."
            ) from None

    @property
    def signature(self) -> str:
        """As a reader would write it: `search(query: str, limit: int = 3) -> list[str]`."""
        parameters = [
            parameter.replace(annotation=_Text(self._shown_hint(each)))
            if self._hints[each] is not Any
            else parameter.replace(annotation=inspect.Parameter.empty)
            for each, parameter in self._signature.parameters.items()
        ]
        shown = [
            parameter.replace(default=_shown_default(parameter.default))
            if parameter.default is not inspect.Parameter.empty
            else parameter
            for parameter in parameters
        ]
        returns: Any = inspect.Signature.empty
        if self._returns is not Any:
            returns = _Text(shown_hint(self._returns))
        return f"{self.name}{inspect.Signature(shown, return_annotation=returns)}"

    def describe(self) -> dict[str, Any]:
        """What a sandbox is told of it."""
        return {
            "name": self.name,
            "signature": self.signature,
            "doc": (inspect.getdoc(_inner(self.function)) or "")[:MAX_DOC_LETTERS],
            "returns": shown_hint(self._returns),
            "parameters": [
                self._describe(each, parameter)
                for each, parameter in self._signature.parameters.items()
            ],
        }

    def _describe(self, name: str, parameter: inspect.Parameter) -> dict[str, Any]:
        told = {"name": name, "kind": parameter.kind.name, "hint": self._shown_hint(name)}
        if parameter.default is not inspect.Parameter.empty:
            told["default"] = repr(_shown_default(parameter.default))
        return told

    def _shown_hint(self, parameter: str) -> str:
        return shown_hint(self._hints[parameter])


def check_name(name: Any) -> None:
    """Raises `SettingsError` for what cannot be the name of a function in every language."""
    import keyword

    is_name = isinstance(name, str) and _NAME.fullmatch(name) is not None
    if is_name and not keyword.iskeyword(name) and name not in _RESERVED:
        return
    raise SettingsError(
        f"A tool cannot be called {str(name)[:80]!r}. Give it a name of up to 64 ASCII letters, "
        "digits and underscores that begins with a letter: tools={'name': function}."
    )


def shown_hint(hint: Any) -> str:
    """A type hint for a reader, without the modules of the host's that its classes are in."""
    if hint is Any:
        return "Any"
    if hint is None or hint is types.NoneType:
        return "None"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return shown_hint(arguments[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(each) for each in arguments)}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(shown_hint(each) for each in arguments)
    if origin is not None and arguments:
        inner = ", ".join("..." if each is ... else shown_hint(each) for each in arguments)
        return f"{_name_of(origin)}[{inner}]"
    return _name_of(hint)


def _name_of(hint: Any) -> str:
    name = getattr(hint, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else "Any"


class _Text:
    """What `inspect` shows as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown_default(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    is_short = isinstance(value, str) and len(value) <= _SHORT_DEFAULT and value.isprintable()
    return _Text("...") if not is_short or "/" in value or "\\" in value else value


def _inner(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise SettingsError(
            f"The tool {name} has no signature that can be read. Wrap it in a function."
        ) from None
    if not isinstance(function, functools.partial):
        return signature
    # What its owner has filled in is nobody else's to see or to change.
    left = [each for each in signature.parameters.values() if each.name not in function.keywords]
    return signature.replace(parameters=left)


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    inner = _inner(function)
    annotated = inner if inspect.isroutine(inner) else getattr(inner, "__call__", inner)  # noqa: B004
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise SettingsError(f"The type hints of the tool {name} cannot be read: {error}.") from None


def _adapter(name: str, parameter: str, hint: Any) -> Any:
    try:
        from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    except ImportError:
        raise SettingsError(
            "Host tools need pydantic, which checks their arguments. "
            "Install it with: pip install 'sandbox-kernel[ai]'"
        ) from None
    try:
        try:
            return TypeAdapter(hint, config=ConfigDict(val_json_bytes="base64"))
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            return TypeAdapter(hint)  # a model or dataclass, which has its own
    except PydanticUserError as error:
        raise SettingsError(
            f"The tool {name} wants {parameter} to be {shown_hint(hint)}, which cannot be checked. "
            "Use texts, numbers, lists, dictionaries, dataclasses or pydantic's models."
        ) from error
