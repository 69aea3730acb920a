"""`OutputPolicy`: the one object that decides what of a guest's output is shown. Pure.

`safe` is the default. `trusted` passes everything that JSON can hold, for those who would
have run the code unsandboxed anyway; script in an output then has the page's rights.

Everything a rule needs is imported when the rule is needed: see the package's header.
"""

from __future__ import annotations

from typing import Any

from sandbox_kernel.errors import SettingsError

Json = dict[str, Any]

NAMES = ("safe", "trusted")

# IPython's own tracebacks of a recursion are 50 lines; a generated one has no end.
_MAX_TRACEBACK_LINES = 1_000
_MAX_TRACEBACK_CHARACTERS = 256 * 1024
_MAX_PAGER = 1024**2
_MAX_PAYLOADS = 20


class OutputPolicy:
    """What may be shown. `name` is "safe" or "trusted".

    Raises:
        SettingsError: another name.
    """

    __slots__ = ("is_trusted", "name")

    def __init__(self, name: str = "safe") -> None:
        if name not in NAMES:
            raise SettingsError(f"The output policy is {name!r}; it can be {' or '.join(NAMES)}.")
        self.name = name
        self.is_trusted = name == "trusted"

    def admit_bundle(self, bundle: Any, metadata: Any) -> tuple[Json, Json]:
        """Data and metadata of a display, an update or a result. Never empty, never raises.

        What is left out leaves a line in `text/plain`.
        """
        from sandbox_kernel.outputs import bundles

        if self.is_trusted:
            return bundles.admit_trusted(bundle, metadata)
        return bundles.admit(bundle, metadata)

    def admit_file(self, name: str, size: int, content: bytes, is_whole: bool) -> tuple[Json, Json]:
        """Data and metadata that show a generated file. The same under both policies.

        Args:
            name: the guest's; shown, never opened.
            size: of the whole file, in bytes.
            content: the file, or its first bytes unless `is_whole`.
        """
        from sandbox_kernel.outputs import previews

        return previews.describe_file(name, size, content, is_whole)

    def admit_traceback(self, lines: Any) -> list[str]:
        """A traceback's lines: colours stay; past the bound a line says what is left out."""
        from sandbox_kernel.outputs.streams import clean_text

        texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        if self.is_trusted:
            from sandbox_kernel.outputs.values import replace_surrogates

            return [replace_surrogates(line) for line in texts]
        return [clean_text(line) for line in _shorten(texts)]

    def admit_payload(self, payload: Any) -> list[Json]:
        """An execute_reply's payload: only a text pager. Others write into the notebook."""
        items = payload[:_MAX_PAYLOADS] if isinstance(payload, list) else []
        if self.is_trusted:
            from sandbox_kernel.outputs.bundles import copy_trusted

            return [copied for item in items if isinstance(copied := copy_trusted(item), dict)]
        return [page for item in items if (page := _admit_page(item)) is not None]


def _shorten(lines: list[str]) -> list[str]:
    """Head and tail of a traceback: the error's own line is its last."""
    half_lines = _MAX_TRACEBACK_LINES // 2
    half_characters = _MAX_TRACEBACK_CHARACTERS // 2
    if len(lines) > _MAX_TRACEBACK_LINES:
        omitted = len(lines) - 2 * half_lines
        lines = [*lines[:half_lines], f"[{omitted} parts are not shown]", *lines[-half_lines:]]
    text = "\n".join(lines)
    if len(text) <= _MAX_TRACEBACK_CHARACTERS:
        return lines
    omitted = len(text) - 2 * half_characters
    return [
        text[:half_characters],
        f"\x1b[0m[{omitted} characters of the traceback are not shown]",
        text[-half_characters:],
    ]


def _admit_page(item: Any) -> Json | None:
    from sandbox_kernel.outputs.streams import clean_text

    if not isinstance(item, dict) or item.get("source") != "page":
        return None
    data = item.get("data")
    text = data.get("text/plain") if isinstance(data, dict) else None
    if not isinstance(text, str):
        return None
    start = item.get("start")
    is_line = isinstance(start, int) and not isinstance(start, bool) and 0 <= start < 2**31
    page = {"text/plain": clean_text(text[:_MAX_PAGER])}
    return {"source": "page", "data": page, "start": start if is_line else 0}


def content_digest(content: bytes) -> str:
    """What `picture_digest` would hold for the same picture."""
    from hashlib import sha256

    return sha256(content).hexdigest()


def picture_digest(bundle: Any) -> set[str]:
    """Digests of the pictures in a guest's bundle as it came, before the policy.

    A file with the same digest was shown already.
    """
    from sandbox_kernel.outputs.bundles import pictures

    return {content_digest(content) for content in pictures(bundle)}
