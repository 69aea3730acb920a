"""What is done in a sandbox before it is handed out, so that the first run is a quick one.

Rule 1: only code of this file runs, or of the owner's `warm_code`: never a user's.
Rule 2: a user finds no trace but modules that are imported already: no variable, no number
of a cell, no history. (Stored and shown are cells that are not silent.)
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from sandbox_kernel import languages
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.errors import SandboxDied, SettingsError
from sandbox_kernel.events import CellFailed
from sandbox_kernel.session import SandboxSession

PYTHON = "python"
# Twice what the slowest common libraries (torch, tensorflow) need on a busy machine.
TIMEOUT_S = 60.0
MAX_PRELOADED = 100
_TOLD_CHARACTERS = 500


class Warming:
    """How the sandboxes of one pool are warmed up.

    Args:
        spec: of all of them.
        preload: names of modules to import (Python only).
        code: besides; in the language of `spec`, without effect on a user's.

    Raises:
        SettingsError: there is no such module's name, or no such thing in that language.
    """

    def __init__(self, spec: SandboxSpec, preload: Iterable[str] = (), code: str = "") -> None:
        self.preload = tuple(dict.fromkeys(preload))
        _require_modules(self.preload, spec.language)
        self._language = languages.get(spec.language)
        self._code = code

    @property
    def is_wanted(self) -> bool:
        """Whether it does what somebody asked for, and not only saves time."""
        return bool(self.preload or self._code)

    async def warm_up(self, session: SandboxSession) -> None:
        """
        Raises:
            SandboxDied: the sandbox went away, or its runner cannot run anything.
            SettingsError: a module cannot be imported, or `code` fails.
        """
        info = await session.start()
        if self.preload and info.get("implementation") == "command":
            raise SettingsError(
                f"preload names {self.preload[0]!r}, but in this image every cell of Python is a "
                "process of its own. Leave it out, or use an image with Python 3.8 or newer."
            )
        for code in self._steps():
            await self._run(session, code)
        # The question that the pool asks before it hands a sandbox out: also slow once.
        await session.is_complete("")

    def _steps(self) -> list[str]:
        steps = [self._code] if self._code else []
        if self._language.name == PYTHON:
            return [_import_all(self.preload), *steps]
        # An empty cell makes an interpreter load what cells need; a command would only run.
        return [*([""] if self._language.interpreter else []), *steps]

    async def _run(self, session: SandboxSession, code: str) -> None:
        outcome = await session.execute(
            code,
            on_event=_ignore,
            silent=True,
            store_history=False,
            timeout_s=TIMEOUT_S,
            is_warm_up=True,
        )
        if outcome.error is not None:
            raise self._failure(outcome.error)

    def _failure(self, error: CellFailed) -> SandboxDied | SettingsError:
        told = f"{error.name}: {error.value}"[:_TOLD_CHARACTERS]
        if not self.is_wanted:
            return SandboxDied(f"A fresh sandbox runs nothing. {told}")
        what = f"preload ({', '.join(self.preload)})" if self.preload else "The warm-up code"
        return SettingsError(
            f"{what} failed in a fresh sandbox: {told} Correct the names, or declare the packages "
            "in dependencies."
        )


def _require_modules(names: tuple[str, ...], language: str) -> None:
    if names and language != PYTHON:
        title = languages.get(language).display_name
        raise SettingsError(
            f"preload names {names[0]!r}, but only modules of Python can be imported "
            f"beforehand, and this is {title}. Leave it out."
        )
    if len(names) > MAX_PRELOADED:
        raise SettingsError(f"preload names {len(names)} modules; {MAX_PRELOADED} are the most.")
    for name in names:
        parts = name.split(".")
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
            raise SettingsError(
                f"preload names {name!r}, which is no name of a module, as 'numpy' and "
                "'matplotlib.pyplot' are. Correct it."
            )


def _import_all(names: tuple[str, ...]) -> str:
    """An expression: a statement would leave a variable. The second half forgets its source."""
    return (
        f"[*map(__import__, {list(names)!r})], (lambda kept: [kept.pop(name) for name in "
        "list(kept) if name.startswith('<ipython-input-')])(__import__('linecache').cache)"
    )


def _ignore(_event: object) -> None:
    pass
