"""Any Jupyter kernel as a language: from its kernelspec to what the bridge starts.

What a kernelspec does not say (how code is highlighted, how a file of it is run) is taken
from the language of ours that Jupyter calls the same, if there is one.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from sandbox_kernel import languages
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.languages.base import Language

_MAX_NAME = 40


def from_kernelspec(source: str | os.PathLike[str] | dict[str, Any], name: str = "") -> Language:
    """The language that a kernelspec describes; `languages.register` makes it known.

    Args:
        source: a directory with a `kernel.json`, or the content of one. What its argv names
            has to be in the guest: in the image, or for backends that show the host, there.
        name: of the language; by default the directory's, or made of the display name.

    Raises:
        SettingsError: it cannot be read, or names no command.
    """
    spec, directory = (source, "") if isinstance(source, dict) else _read(os.fspath(source))
    argv = spec.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv):
        raise SettingsError(
            "The kernelspec names no command: its argv has to be a list of words, with "
            "{connection_file} among them."
        )
    if not any("{connection_file}" in item for item in argv):
        raise SettingsError(f"The kernelspec's argv {argv!r} has no {{connection_file}}.")
    argv = [item.replace("{resource_dir}", directory) for item in argv]
    if argv[0] in ("python", "python3"):  # whichever Python reads the kernelspec, says Jupyter
        argv[0] = "{python}"
    shown = str(spec.get("display_name") or name or os.path.basename(directory) or argv[0])
    options = _options(spec)
    return _describe(_legal(name or os.path.basename(directory) or shown), shown, spec)._replace(
        native_kernel=(*options, *argv)
    )


def named(kernelspec: str, kernel_language: str = "", name: str = "") -> Language:
    """The language of a kernelspec that only the guest has: the bridge looks it up there.

    Args:
        kernelspec: its name, such as "ir".
        kernel_language: what the kernelspec calls its language, such as "R".
        name: of the language; by default the kernelspec's.
    """
    spec = {"language": kernel_language}
    shown = f"{kernel_language or kernelspec} ({kernelspec})"
    language = _describe(_legal(name or kernelspec), shown, spec)
    return language._replace(
        native_kernel=(f"--kernelspec={kernelspec}",),
        remedy=f"Choose an image that has the Jupyter kernel {kernelspec}, with --image.",
    )


def _read(directory: str) -> tuple[dict[str, Any], str]:
    directory = os.path.abspath(directory)
    path = os.path.join(directory, "kernel.json")
    try:
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"The kernelspec {path} cannot be read: {error}.") from None
    if not isinstance(spec, dict):
        raise SettingsError(f"The kernelspec {path} is no JSON object.")
    return spec, directory


def _options(spec: dict[str, Any]) -> list[str]:
    options = []
    if spec.get("interrupt_mode") == "message":
        options.append("--interrupt=message")
    environment = spec.get("env")
    if isinstance(environment, dict):
        options += [f"--env={key}={value}" for key, value in environment.items()]
    return options


def _describe(name: str, shown: str, spec: dict[str, Any]) -> Language:
    """All but how it is started."""
    called = str(spec.get("language") or name)
    twin = _twin(called)
    common: dict[str, Any] = {
        "name": name,
        "display_name": shown,
        "kernel_language": called,
        "remedy": "",
        "aliases": (),
        "interpreter": (),
        "runner": (),
    }
    if twin is not None:
        return twin._replace(**common)
    return Language(
        **common,
        file_extension=".txt",
        mimetype="text/plain",
        codemirror_mode="",
        pygments_lexer="text",
        image="",
        command=(called.lower(), "{file}"),
    )


def _twin(called: str) -> Language | None:
    """The language of ours that Jupyter calls so."""
    wanted = languages.resolve(called) or languages.resolve(called.lower())
    return languages.get(wanted) if wanted is not None else None


def _legal(text: str) -> str:
    """A name that `register` takes."""
    plain = re.sub(r"[^a-z0-9_+-]+", "-", text.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"kernel-{plain}")[:_MAX_NAME].rstrip("-")
