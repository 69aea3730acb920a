"""Languages by name: how a guest runs one, and what Jupyter calls it.

A new language is one module here that makes `LANGUAGE`, and its name in `_NAMES`.
"""

from __future__ import annotations

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.languages.base import Language
from sandbox_kernel.languages.python import LANGUAGE as PYTHON

__all__ = ["PYTHON", "Language", "get", "names"]

# Each is a module beside this one, imported when somebody asks for it.
_NAMES = ("python", "bash", "javascript", "lua", "perl", "php", "r", "ruby")


def names() -> list[str]:
    """The names that `get` takes."""
    return list(_NAMES)


def get(name: str) -> Language:
    """The language called `name`.

    Raises:
        SettingsError: there is no such language.
    """
    if name not in _NAMES:
        raise SettingsError(f"There is no language {name!r}; there are {', '.join(_NAMES)}.")
    import importlib

    language: Language = importlib.import_module(f"{__name__}.{name}").LANGUAGE
    return language
