"""Languages by name: how a guest runs one, and what Jupyter calls it.

A new language of ours is one module here that makes `LANGUAGE`, and a row in `_ALIASES`.
Anybody else's is one `Language`: given to `register`, or announced to every process by an
entry point of the group `sandbox_kernel.languages`, whose name is the language's and whose
value is where the object is:

    [project.entry-points."sandbox_kernel.languages"]
    cobol = "my_package:COBOL"
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.languages.base import Language
from sandbox_kernel.languages.python import LANGUAGE as PYTHON

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["PYTHON", "SHELL", "Language", "get", "named", "names", "register", "resolve"]

# What runs shell commands in every session (see `shell`); not among `names`.
SHELL = "sh -c"

ENTRY_POINTS = "sandbox_kernel.languages"

# Ours, and what else a `%%` cell may call them. Each is a module beside this one, imported
# when somebody asks for it; a test compares these aliases with the modules' own.
_ALIASES: dict[str, tuple[str, ...]] = {
    "python": ("py", "python3"),
    "bash": ("sh", "shell"),
    "javascript": ("js", "node"),
    "typescript": ("ts",),
    "r": ("R",),
    "ruby": ("rb",),
    "perl": ("pl",),
    "php": (),
    "lua": (),
    "sql": (),
    "deno": (),
    "ipykernel": (),
}
_LEGAL_NAME = re.compile(r"[a-z][a-z0-9_+-]{0,39}")
_registered: dict[str, Language] = {}


def register(language: Language) -> None:
    """Make `language` known to this process, in place of any other of its name.

    Kernels are processes of their own: for them, announce it by an entry point.

    Raises:
        SettingsError: its name is no name, or it says nothing of how to run it.
    """
    if not _LEGAL_NAME.fullmatch(language.name):
        raise SettingsError(
            f"A language cannot be called {language.name!r}: names are lower case letters, "
            "digits, '_', '+' and '-', and begin with a letter."
        )
    if not language.command or "{file}" not in " ".join(language.command):
        raise SettingsError(
            f"The language {language.name!r} has the command {language.command!r}; give it "
            'one that runs a file of code, such as ("ruby", "{file}").'
        )
    _registered[language.name] = language


def names() -> list[str]:
    """The names that `get` takes: ours first, then what was added."""
    added = [*_registered, *_announced()]
    return list(dict.fromkeys([*_ALIASES, *added]))


def get(name: str) -> Language:
    """The language called `name`.

    Raises:
        SettingsError: there is no such language, or what announces it cannot be loaded.
    """
    if name in _registered:
        return _registered[name]
    if name in _ALIASES:
        return _import(name)
    if name == SHELL:
        return _import("shell")
    announced = _announced().get(name)
    if announced is None:
        raise _unknown(name)
    register(_load(announced))
    return _registered[name]


def resolve(word: str) -> str | None:
    """The name of the language that `word` (a name or an alias) means, if any."""
    if word in _ALIASES or word in _registered or word == SHELL:
        return word
    for name, aliases in _ALIASES.items():
        if word in aliases:
            return name
    for language in _registered.values():
        if word in language.aliases:
            return language.name
    return word if word in _announced() else None


def named(word: str) -> str:
    """As `resolve`, for a word that must mean one.

    Raises:
        SettingsError: there is no such language.
    """
    name = resolve(word)
    if name is None:
        raise _unknown(word)
    return name


def _unknown(word: str) -> SettingsError:
    return SettingsError(f"There is no language {word!r}; there are {', '.join(names())}.")


def _import(name: str) -> Language:
    import importlib

    language: Language = importlib.import_module(f"{__name__}.{name}").LANGUAGE
    return language


@lru_cache(maxsize=1)
def _announced() -> dict[str, EntryPoint]:
    """Entry points by name. Looked up late, and once: reading what is installed takes 20 ms."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load(point: EntryPoint) -> Language:
    try:
        found = point.load()
    except Exception as error:  # a stranger's module, at the top of what we know of it
        raise SettingsError(
            f"The language {point.name!r} cannot be loaded from {point.value!r}: {error}. "
            "Repair or uninstall the package that announces it."
        ) from error
    if not isinstance(found, Language) or found.name != point.name:
        raise SettingsError(
            f"{point.value!r} is announced as the language {point.name!r} and is none of that "
            "name. Repair or uninstall the package that announces it."
        )
    return found
