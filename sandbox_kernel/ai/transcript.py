"""What was asked, run and answered, as a notebook that runs again.

Prompts and answers are markdown cells, code that ran is code cells with what it showed, code
of another language is a `%%language` cell, and files that were given are written by a cell of
their own. A cell that failed is tagged, so that running all goes on behind it.

Rule 1: the notebook is opened in a browser. Outputs come through the session's output policy;
        words of a model become markdown only where that can neither load nor run anything.
Rule 2: code means in the notebook what it meant in the session: a line that would be for
        the host there (`%sandbox`, `%%ask`) stays inside.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.outputs import markdown
from sandbox_kernel.outputs.streams import clean_name, clean_text

if TYPE_CHECKING:
    from sandbox_kernel.engine import Display, Result

Json = dict[str, Any]

# A file that the notebook carries; larger ones would make it unwieldy.
MAX_CARRIED_BYTES = 1024**2
# What a cell calls a language, where that is not its name.
_WORDS = {languages.SHELL: "sh"}


class Transcript:
    """Grows turn by turn; `save` writes it as a notebook at any time.

    Args:
        language: of the session, whose kernel the notebook names.
    """

    def __init__(self, language: str = "python") -> None:
        self._language = languages.get(languages.resolve(language) or language)
        self._cells: list[Json] = []
        self._runs = 0

    # --- what happened ----------------------------------------------------------------

    def asked(self, prompt: str) -> None:
        self._say(f"**Prompt**\n\n{_quotable(prompt)}")

    def answered(self, text: str) -> None:
        if text:
            self._say(_quotable(text))

    def gave(self, files: Mapping[str, bytes | str]) -> None:
        """The caller wrote `files` into the workspace."""
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            if len(data) > MAX_CARRIED_BYTES:
                self._say(f"The file {_code_span(name)} was there, too large to be kept here.")
            else:
                self._add_code(_writing(name, data), "python", [], is_ok=True)

    def ran(self, code: str, result: Result, language: str | None = None) -> None:
        self._runs += 1
        outputs = list(_outputs(result, self._runs))
        name = languages.resolve(language or "") or language or self._language.name
        self._add_code(code, name, outputs, is_ok=result.ok)

    # --- the notebook -----------------------------------------------------------------

    def notebook(self) -> Json:
        """nbformat 4.5, for the kernel `sandbox-<language>`."""
        name = self._language.name
        return {
            "cells": [dict(cell) for cell in self._cells],
            "metadata": {
                "kernelspec": {
                    "name": f"sandbox-{name}",
                    "display_name": f"{self._language.display_name} (sandbox)",
                    "language": self._language.jupyter_name,
                },
                "language_info": {"name": self._language.jupyter_name},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }

    def save(self, path: str | PathLike[str], *, allow_overwrite: bool = False) -> Path:
        """Write the notebook to a path of the caller's choosing; `.ipynb` is added.

        Raises:
            FileRefused: the file exists, or there is no such directory.
        """
        from sandbox_kernel.errors import FileRefused
        from sandbox_kernel.exchange import Exchange

        target = Path(os.path.abspath(os.path.expanduser(path)))
        if target.suffix != ".ipynb":
            target = target.with_name(f"{target.name}.ipynb")
        if not target.parent.is_dir():
            raise FileRefused(f"There is no directory {str(target.parent)!r}. Make it first.")
        content = json.dumps(self.notebook(), indent=1).encode()
        with closing(Exchange(str(target.parent))) as exchange:
            exchange.write(target.name, content, allow_overwrite=allow_overwrite)
        return target

    def _say(self, text: str) -> None:
        self._add({"cell_type": "markdown", "metadata": {}, "source": text})

    def _add_code(self, code: str, language: str, outputs: list[Json], *, is_ok: bool) -> None:
        is_own = language == self._language.name
        word = _WORDS.get(language, language)
        source = code if is_own and not _starts_with_magic(code) else f"%%{word}\n{code}"
        self._add(
            {
                "cell_type": "code",
                "execution_count": self._runs or None,
                "metadata": {} if is_ok else {"tags": ["raises-exception"]},
                "outputs": outputs,
                "source": source,
            }
        )

    def _add(self, cell: Json) -> None:
        self._cells.append({"id": f"cell-{len(self._cells) + 1}", **cell})


# --- words ------------------------------------------------------------------------------


def _quotable(text: str) -> str:
    """`text` as markdown if that is harmless, else as the characters that it is."""
    text = clean_text(text)
    if markdown.is_harmless(text):
        return text
    # A block that is indented has no end that its text could write.
    return "\n".join(f"    {line}" for line in text.splitlines())


def _code_span(name: str) -> str:
    return f"`{clean_name(name).replace('`', '')}`"


def _starts_with_magic(code: str) -> bool:
    # The kernel parts lines at \n; a front end that opens the notebook makes one of \r as well.
    return any(
        _first_line(text).startswith("%")
        for text in (code, code.replace("\r\n", "\n").replace("\r", "\n"))
    )


def _first_line(code: str) -> str:
    """The first that is neither blank nor a comment."""
    lines = (line.strip() for line in code.split("\n"))
    return next((line for line in lines if line and not line.startswith("#")), "")


def _writing(name: str, data: bytes) -> str:
    """Python that writes a file, for a sandbox: the name stays a string there."""
    text = base64.b64encode(data).decode()
    return (
        "import base64, pathlib\n"
        f"_file = pathlib.Path({name!r})\n"
        "_file.parent.mkdir(parents=True, exist_ok=True)\n"
        f"_ = _file.write_bytes(base64.b64decode({text!r}))"
    )


# --- what a run showed ------------------------------------------------------------------


def _outputs(result: Result, count: int) -> Iterable[Json]:
    """As nbformat has them. Streams come first: a result no longer knows what came between."""
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            yield {"output_type": "stream", "name": name, "text": text}
    for display in _latest(result.displays):
        yield _display(display, count)
    if result.error is not None:
        yield {
            "output_type": "error",
            "ename": result.error.name,
            "evalue": result.error.value,
            "traceback": list(result.error.traceback),
        }


def _latest(displays: list[Display]) -> list[Display]:
    """Each display as it was last: an update takes the place of what it replaces."""
    found: dict[str, Display] = {}
    for number, display in enumerate(displays):
        key = display.display_id or f"\0{number}"
        if not display.is_update:
            found[key] = display
        elif key in found:
            found[key] = display._replace(is_result=found[key].is_result)
    return list(found.values())


def _display(display: Display, count: int) -> Json:
    shown = {"data": display.bundle, "metadata": display.metadata}
    if display.is_result:
        return {"output_type": "execute_result", "execution_count": count, **shown}
    return {"output_type": "display_data", **shown}
