"""The kernel's command line. Pure, no I/O.

A kernelspec writes it, and clients add to it: `jupyter run` and the console append
arguments of their own, VS Code rewrites some. So there are three kinds:

Rule 1: the connection file, in any of the spellings that launchers use.
Rule 2: `--name value` and `--name=value` are settings; `Settings.load` judges them, and
        a name it doesn't know is refused, since an ignored `--netwrok` is a lie.
Rule 3: what other programs add is ignored: `--Class.trait=…`, Jupyter's own flags,
        positionals, single-letter flags.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox_kernel.settings import REPEATABLE

# Flags and aliases of jupyter_client's and ipykernel's applications.
_JUPYTER_FLAGS = frozenset(
    "debug quiet verbose init show-config show-config-json generate-config no-secure secure "
    "existing confirm-exit no-confirm-exit no-stdout no-stderr trio pylab matplotlib "
    "no-matplotlib autoindent no-autoindent allow-root y".split()
)
_JUPYTER_ALIASES = frozenset(
    "log-level config ip transport hb shell iopub stdin control ident user keyfile profile "
    "kernel kernel-name kernel_name ssh cache-size colors gui ext".split()
)
_CONNECTION_FILE = ("f", "connection-file", "connection_file")


class Arguments(NamedTuple):
    """What the command line says."""

    connection_file: str | None
    options: dict[str, str]  # name without dashes -> text, for `Settings.load`
    missing: str  # the first option that has no value, or ""


def parse(words: list[str]) -> Arguments:
    """Sort `words`, which is argv without the program, into the three kinds."""
    connection_file: str | None = None
    options: dict[str, str] = {}
    missing = ""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name, value, has_value = _split(word)
        if not name or _is_foreign(word, name):
            continue
        if name in _JUPYTER_FLAGS:
            continue
        if not has_value and position < len(words) and not words[position].startswith("-"):
            value, has_value = words[position], True
            position += 1
        if name in _CONNECTION_FILE:
            connection_file = value if has_value else connection_file
        elif name not in _JUPYTER_ALIASES:
            missing = missing or ("" if has_value else name)
            _keep(options, name, value)
    return Arguments(connection_file, options, missing)


def _split(word: str) -> tuple[str, str, bool]:
    """`--name=value` as name, value, whether there was one; no name for a positional."""
    stripped = word.lstrip("-")
    if stripped == word:
        return "", "", False
    name, equals, value = stripped.partition("=")
    return name, value, bool(equals)


def _is_foreign(word: str, name: str) -> bool:
    if name == "f":
        return False
    # `-x` and `-xyz` are never ours; a dot makes it a traitlets setting (`--Class.trait`).
    return not word.startswith("--") or "." in name


def _keep(options: dict[str, str], name: str, value: str) -> None:
    """The last one wins, but several `--env`, `--mount` and the like are one text."""
    if name.replace("-", "_") in REPEATABLE and name in options:
        value = f"{options[name]}\n{value}"
    options[name] = value
