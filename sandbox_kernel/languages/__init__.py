"""Languages by name: how a guest runs one, and what Jupyter calls it.

A new language is one module here that makes a `Language`, and a row in `_LANGUAGES`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sandbox_kernel.errors import SettingsError


class Language(NamedTuple):
    """How to run one language, and how front ends show it.

    `runner` is the argv of its runner inside the guest: `{python}` stands for the
    guest's Python 3 and `{guest}` for the directory of the supervisor.
    """

    name: str
    display_name: str
    file_extension: str
    mimetype: str
    codemirror_mode: str | dict[str, Any]
    pygments_lexer: str
    runner: tuple[str, ...]


PYTHON = Language(
    name="python",
    display_name="Python",
    file_extension=".py",
    mimetype="text/x-python",
    codemirror_mode={"name": "ipython", "version": 3},
    pygments_lexer="ipython3",
    runner=("{python}", "{guest}/runners/python/__main__.py"),
)

_LANGUAGES = {PYTHON.name: PYTHON}


def names() -> list[str]:
    """The names that `get` takes."""
    return list(_LANGUAGES)


def get(name: str) -> Language:
    """The language called `name`.

    Raises:
        SettingsError: there is no such language.
    """
    if name not in _LANGUAGES:
        raise SettingsError(f"There is no language {name!r}; there are {', '.join(_LANGUAGES)}.")
    return _LANGUAGES[name]
