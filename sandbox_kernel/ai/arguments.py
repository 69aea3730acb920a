"""What a model may send to the code execution tool, and how it is told that it erred.

Rule 1: whatever comes (a text that is no JSON, deep nesting, half characters, megabytes),
`read` gives checked `Arguments` or raises `InvalidCall` with a sentence for the model.
Rule 2: the schema is one that strict modes take: every field required, what may be left out
nullable, no field that it does not name, no keyword beyond types and enumerations. `read` is
kinder: what is null may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandbox_kernel import languages
from sandbox_kernel.ai.extras import missing
from sandbox_kernel.outputs.streams import clean_name

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
except ImportError as error:
    raise missing("The code execution tool", "ai", error) from None

# A model's answer is at most some 500,000 characters; what is longer was not written by one.
MAX_CODE = 500_000
MAX_FILES = 50
MAX_FILE_CHARS = 1_000_000
MAX_STDIN = 100_000
MAX_DEPENDENCIES = 50
MAX_NAME = 200
# What `Limits` take.
MAX_TIMEOUT_S = 30 * 86400.0
# All fields at their limits, escaped.
MAX_CALL = 6 * 1024 * 1024
_MAX_PARTS = 100  # more than any list's limit
_MAX_TOLD = 5


class InvalidCall(ValueError):
    """`str(error)` is a sentence for the model, with nothing in it that it did not send."""


class TextFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="Relative to the working directory.")
    text: str


class Arguments(BaseModel):
    """One call, checked for its form. `language` is a name that the registry knows."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    language: str = Field(description="What the code is written in.")
    code: str = Field(description="The program, or the next piece of it.")
    dependencies: list[str] | None = Field(
        None, description="Packages that the code needs and that are installed first."
    )
    files: list[TextFile] | None = Field(
        None, description="Files to write into the working directory first."
    )
    timeout_s: float | None = Field(None, description="Seconds after which the code is stopped.")
    stdin: str | None = Field(None, description="Lines that answer the program's input prompts.")

    @field_validator("files", mode="before")
    @classmethod
    def _from_mapping(cls, value: object) -> object:
        """{name: text} as well, which schemas of strict modes cannot describe."""
        if isinstance(value, Mapping):
            return [{"name": name, "text": text} for name, text in value.items()]
        return value


OPTIONAL = ("dependencies", "files", "timeout_s", "stdin")


def read(
    raw: object,
    *,
    known: Sequence[str],
    default_language: str,
    max_timeout_s: float | None,
    without: Iterable[str] = (),
) -> Arguments:
    """
    Args:
        raw: a dict, or the JSON text of an object.
        known: the languages that can run.
        max_timeout_s: the most that may be asked for; None: `MAX_TIMEOUT_S`.
        without: optional fields that this tool does not have.

    Raises:
        InvalidCall: says what is wrong, and what would be right.
    """
    given = dict(_object(raw))
    _check_shape(given)
    if given.get("language") is None:
        given["language"] = default_language
    for name in without:
        if given.get(name) is not None:
            raise InvalidCall(f"{name} is not offered here. Leave it out.")
    try:
        found = Arguments.model_validate(given)
    except ValidationError as error:
        raise InvalidCall(_told(error)) from None
    _check_sizes(found)
    _check_texts(found)
    language = languages.resolve(found.language)
    if language is None or language not in known:
        raise InvalidCall(
            f"language is {shown(found.language)}, which cannot run here. "
            f"Choose one of {', '.join(known)}."
        )
    _check_timeout(found.timeout_s, max_timeout_s)
    return found.model_copy(update={"language": language})


def shown(value: object) -> str:
    """What a model sent, short and on one line."""
    return repr(clean_name(str(value), 80))


def _object(raw: object) -> Mapping[str, Any]:
    if isinstance(raw, str | bytes):
        if len(raw) > MAX_CALL:
            raise InvalidCall(
                f"The arguments are {len(raw):,} characters; at most {MAX_CALL:,} are taken. "
                "Send less."
            )
        try:
            raw = json.loads(raw)
        # Besides malformed text: bytes that are no UTF-8, numbers of 5,000 digits, deep nesting.
        except (ValueError, RecursionError):
            raise InvalidCall(
                "The arguments are no JSON. Send one JSON object with language and code."
            ) from None
    if not isinstance(raw, Mapping) or not all(isinstance(name, str) for name in raw):
        raise InvalidCall("The arguments are no JSON object. Send one with language and code.")
    return raw


def _check_shape(given: Mapping[str, Any]) -> None:
    """Not so many parts that to list what is wrong with each takes seconds."""
    values = list(given.values())
    parts = [part for value in values if isinstance(value, list) for part in value[:_MAX_PARTS]]
    if any(
        isinstance(value, list | Mapping) and len(value) > _MAX_PARTS
        for value in [given, *values, *parts]
    ):
        raise InvalidCall(f"The arguments have over {_MAX_PARTS:,} parts. Send less at once.")


def _told(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"{_place(problem['loc'])}: {_REASONS.get(problem['type'], problem['msg'])}"
        for problem in problems[:_MAX_TOLD]
    ]
    if len(problems) > _MAX_TOLD:
        told.append(f"and {len(problems) - _MAX_TOLD:,} problems more")
    return f"The arguments do not fit: {'; '.join(told)}. Correct them and call again."


_REASONS = {
    "extra_forbidden": "there is no such argument",
    "missing": "it is missing",
    "string_type": "it is no text",
    "string_unicode": "it has half characters (lone surrogates)",
    "list_type": "it is no list",
    "float_type": "it is no number",
    "finite_number": "it is no finite number",
}


def _place(location: Sequence[str | int]) -> str:
    return clean_name(".".join(map(str, location)), 80) or "a name"


def _check_sizes(found: Arguments) -> None:
    _check_size("code", len(found.code), MAX_CODE, "characters")
    _check_size("stdin", len(found.stdin or ""), MAX_STDIN, "characters")
    _check_size("dependencies", len(found.dependencies or ()), MAX_DEPENDENCIES, "packages")
    _check_size("files", len(found.files or ()), MAX_FILES, "files")
    total = sum(len(file.text) for file in found.files or ())
    _check_size("files", total, MAX_FILE_CHARS, "characters together")
    for name in [*(found.dependencies or ()), *(file.name for file in found.files or ())]:
        _check_size(f"the name {shown(name)}", len(name), MAX_NAME, "characters")


def _check_size(name: str, size: int, limit: int, unit: str) -> None:
    if size > limit:
        raise InvalidCall(
            f"{name} has {size:,} {unit}; at most {limit:,} are taken. Send less at once, or "
            "let the code make it."
        )


def _check_texts(found: Arguments) -> None:
    """No half characters, which cannot be sent; no name that leaves the workspace."""
    texts = {"code": found.code, "stdin": found.stdin or ""}
    texts.update({f"dependencies {name!r}": name for name in found.dependencies or ()})
    for file in found.files or ():
        texts[f"the name {shown(file.name)}"] = file.name
        texts[f"the file {shown(file.name)}"] = file.text
        parts = file.name.split("/")
        if "\0" in file.name or any(part in ("", ".", "..") for part in parts):
            raise InvalidCall(
                f"The file {shown(file.name)} cannot be written: give names relative to the "
                "working directory, such as data/in.csv."
            )
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidCall(
                f"{clean_name(name)} has half characters (lone surrogates). Send whole ones."
            ) from None


def _check_timeout(timeout_s: float | None, limit: float | None) -> None:
    if timeout_s is None:
        return
    if timeout_s < 0.1:
        raise InvalidCall(f"timeout_s is {timeout_s:g}. Give 0.1 seconds or more, or null.")
    limit = MAX_TIMEOUT_S if limit is None else limit
    if timeout_s > limit:
        raise InvalidCall(
            f"timeout_s is {timeout_s:g}; code may run {limit:g} seconds here. Do less in one call."
        )


# --- the schema -----------------------------------------------------------------------


def json_schema(known: Sequence[str], without: Iterable[str] = ()) -> dict[str, Any]:
    """The arguments as JSON schema, for models."""
    made = Arguments.model_json_schema()
    properties = {
        name: _strict(value, made.get("$defs", {}))
        for name, value in made["properties"].items()
        if name not in set(without)
    }
    properties["language"]["enum"] = list(known)
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _strict(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """References resolved, titles and defaults gone, nothing optional."""
    if "$ref" in schema:
        return _strict(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kept: dict[str, Any] = {
        name: schema[name] for name in ("type", "description") if name in schema
    }
    if "anyOf" in schema:
        kept["anyOf"] = [_strict(item, definitions) for item in schema["anyOf"]]
    if "items" in schema:
        kept["items"] = _strict(schema["items"], definitions)
    if "properties" in schema:
        parts = schema["properties"].items()
        kept["properties"] = {name: _strict(part, definitions) for name, part in parts}
        kept["required"] = list(kept["properties"])
        kept["additionalProperties"] = False
        kept.pop("description", None)
    return kept
