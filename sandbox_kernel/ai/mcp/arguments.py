"""What a client may send to each tool, checked before anything is done with it. Pure.

Descriptions are for the model that chooses a tool and its arguments.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# More than any program that a model writes; a book is 1 MB.
MAX_CODE_CHARS = 2_000_000
# One request of 16 MiB is the most that the HTTP server takes; base64 adds a third.
MAX_FILE_CHARS = 15 * 1024**2
MAX_TIMEOUT_S = 86_400.0

_SESSION = "An id from create_session or list_sessions. Without it: your default session."

SessionId = Annotated[str | None, Field(max_length=128, description=_SESSION)]
Code = Annotated[str, Field(max_length=MAX_CODE_CHARS)]
FileName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="Relative to the working directory of the code, with / between parts.",
    ),
]
Seconds = Annotated[
    float | None,
    Field(
        gt=0,
        le=MAX_TIMEOUT_S,
        allow_inf_nan=False,
        description="Wall seconds after which it is stopped; 60 unless the server says otherwise.",
    ),
]


class Arguments(BaseModel):
    """Unknown names are refused: a misspelt one would do something else than was meant."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RunCode(Arguments):
    code: Annotated[Code, Field(description="The program. Variables live until the session ends.")]
    language: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Such as python, javascript, bash, r, sql. Default: the session's. "
            "Each language has variables of its own; all share the files.",
        ),
    ] = None
    session: SessionId = None
    timeout_s: Seconds = None
    dependencies: Annotated[
        list[Annotated[str, Field(max_length=300)]],
        Field(max_length=50, description="Packages to install first, such as pandas or six==1.17."),
    ] = []
    files: Annotated[
        dict[str, Annotated[str, Field(max_length=MAX_FILE_CHARS)]],
        Field(max_length=100, description="Text files to write first: name to content."),
    ] = {}
    stdin: Annotated[
        str | None,
        Field(max_length=MAX_CODE_CHARS, description="Lines that answer input(), in order."),
    ] = None


class RunCommand(Arguments):
    command: Annotated[Code, Field(description="One line or a script, for a shell of its own.")]
    session: SessionId = None
    timeout_s: Seconds = None


class OfSession(Arguments):
    session: SessionId = None


class ReadFile(Arguments):
    name: FileName
    session: SessionId = None
    offset: Annotated[int, Field(ge=0, description="The first byte that is wanted.")] = 0
    limit: Annotated[
        int | None,
        Field(ge=1, le=1024**2, description="Bytes at most; less when it is more than fits."),
    ] = None


class WriteFile(Arguments):
    name: FileName
    content: Annotated[str, Field(max_length=MAX_FILE_CHARS, description="The whole file.")]
    encoding: Annotated[
        Literal["text", "base64"], Field(description="base64 for what is no text.")
    ] = "text"
    session: SessionId = None

    def data(self) -> bytes:
        """
        Raises:
            BadArguments: it is not base64.
        """
        if self.encoding == "text":
            return self.content.encode()
        try:
            return base64.b64decode(self.content, validate=True)
        except binascii.Error as error:
            raise BadArguments(f"The argument content is not base64: {error}.") from None


class RemoveFile(Arguments):
    name: FileName
    session: SessionId = None


class CreateSession(Arguments):
    language: Annotated[
        str | None, Field(max_length=64, description="Such as python, javascript, bash.")
    ] = None
    labels: Annotated[
        dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=200)]],
        Field(max_length=20, description="Words of your own to tell sessions apart."),
    ] = {}


class CloseSession(Arguments):
    session: Annotated[str, Field(max_length=128, description="The id of the session to destroy.")]


class Nothing(Arguments):
    """For tools that take none."""


class AttachNotebook(Arguments):
    id: Annotated[
        str,
        Field(min_length=1, max_length=128, description="The id that the notebook's user gave."),
    ]


class BadArguments(Exception):
    """What a client sent is not what the tool takes. The message says what to change."""


T = TypeVar("T", bound=Arguments)

_SHOWN_ERRORS = 5


def checked(model: type[T], values: Mapping[str, Any] | None) -> T:
    """
    Raises:
        BadArguments: with a sentence for each of the first mistakes.
    """
    try:
        return model.model_validate(dict(values or {}))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = [_sentence(model, item) for item in found[:_SHOWN_ERRORS]]
        if len(found) > _SHOWN_ERRORS:
            told.append(f"There are {len(found) - _SHOWN_ERRORS} more mistakes.")
        raise BadArguments(" ".join(told)) from None


def _sentence(model: type[Arguments], error: Any) -> str:
    # The names of files and labels are the client's: cut, so that no answer is as long as them.
    where = ".".join(str(part)[:60] for part in error["loc"]) or "arguments"
    known = ", ".join(model.model_fields) or "none"
    match error["type"]:
        case "extra_forbidden":
            return f"There is no argument {where!r}; there are: {known}."
        case "missing":
            return f"The argument {where!r} is missing."
    return f"The argument {where!r} is refused: {error['msg']}."


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Its JSON Schema, without the titles that pydantic makes of names."""
    schema = model.model_json_schema()
    _drop_titles(schema)
    schema.setdefault("properties", {})
    schema.pop("description", None)
    return schema


def _drop_titles(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)
