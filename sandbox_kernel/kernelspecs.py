"""Kernelspecs of ours: what Jupyter reads to start this kernel.

A kernelspec is a directory with `kernel.json` and logos, in one of Jupyter's data
directories. Ours are those whose argv runs `sandbox_kernel.kernel`.

Rule 1: argv[0] is an absolute path: Jupyter replaces `python` by the server's own.
Rule 2: only ours are ever replaced or removed, unless the caller says `allow_foreign`.
Rule 3: settings are checked when they are installed, not when a notebook opens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_kernel import backends, languages
from sandbox_kernel.dependencies.policy import Policy
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.settings import REPEATABLE, Settings

KERNEL_MODULE = "sandbox_kernel.kernel"
# Jupyter Server lists and starts kernels by these names; it folds them to lower case.
_LEGAL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Kernelspec(NamedTuple):
    """One installed kernelspec."""

    name: str
    directory: Path
    content: dict[str, Any]  # of kernel.json

    @property
    def argv(self) -> list[str]:
        return [str(item) for item in self.content.get("argv", [])]

    @property
    def display_name(self) -> str:
        return str(self.content.get("display_name", self.name))

    @property
    def is_ours(self) -> bool:
        return KERNEL_MODULE in self.argv

    @property
    def options(self) -> dict[str, str]:
        """Its settings, by name: what follows `--` in its argv."""
        found: dict[str, str] = {}
        for item in self.argv:
            name, is_option, text = item.partition("=")
            if is_option and name.startswith("--"):
                name = name[2:].replace("-", "_")
                found[name] = f"{found[name]}\n{text}" if name in found else text
        return found


# --- finding --------------------------------------------------------------------------


def kernel_directories() -> list[Path]:
    """Where Jupyter looks for kernelspecs, strongest first."""
    from jupyter_core.paths import jupyter_path

    return [Path(item) for item in jupyter_path("kernels")]


def installed() -> list[Kernelspec]:
    """Every kernelspec that Jupyter would find here; of equal names the one in force."""
    found: dict[str, Kernelspec] = {}
    for parent in kernel_directories():
        for directory in sorted(parent.iterdir()) if parent.is_dir() else []:
            spec = read(directory)
            if spec is not None:
                found.setdefault(spec.name, spec)
    return list(found.values())


def find(name: str) -> Kernelspec | None:
    """The kernelspec that Jupyter would start for `name`."""
    return next((spec for spec in installed() if spec.name == name.lower()), None)


def read(directory: Path) -> Kernelspec | None:
    """None when `directory` holds no kernelspec that can be read."""
    try:
        content = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("argv", []), list):
        return None
    return Kernelspec(directory.name.lower(), directory, content)


# --- installing -----------------------------------------------------------------------


def default_prefix() -> str | None:
    """`sys.prefix` inside a virtual environment, else None for the user's directory."""
    is_conda = os.environ.get("CONDA_PREFIX") == sys.prefix
    return sys.prefix if is_conda or sys.prefix != sys.base_prefix else None


def directory_for(prefix: str | None) -> Path:
    """The kernels directory under `prefix`; None: the user's own."""
    if prefix is not None:
        return Path(prefix).absolute() / "share" / "jupyter" / "kernels"
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "kernels"


def install(
    options: Mapping[str, str],
    *,
    name: str | None = None,
    display_name: str | None = None,
    prefix: str | None = None,
    allow_foreign: bool = False,
) -> Kernelspec:
    """Write a kernelspec; one of ours with the same name is replaced.

    Args:
        options: settings by name, written into its argv.
        prefix: as for `directory_for`.
        allow_foreign: replace a kernelspec that isn't ours.

    Raises:
        SettingsError: a setting or the name cannot be used.
    """
    settings = Settings.load(options)
    Policy.from_settings(settings)
    language = languages.get(settings.language)
    usual = _usual_name(settings)
    name = _legal(name or usual)
    directory = directory_for(prefix) / name
    _require_replaceable(directory, allow_foreign)
    shown = display_name or _display_name(name, language, is_usual=name == usual)
    content = _content(options, language, shown)
    _write(directory, content, logos(language.name))
    return Kernelspec(name, directory, content)


def _legal(name: str) -> str:
    if not _LEGAL_NAME.fullmatch(name):
        raise SettingsError(
            f"A kernel cannot be called {name!r}: names are lower case letters, digits, "
            "dots, dashes and underscores, and begin with a letter or a digit."
        )
    return name


def _usual_name(settings: Settings) -> str:
    """`sandbox-python`, or `sandbox-python-docker`: both may be there side by side."""
    backend = "" if backends.shows_host(settings.backend) else f"-{settings.backend}"
    return f"sandbox-{settings.language}{backend}"


def _display_name(name: str, language: languages.Language, *, is_usual: bool) -> str:
    """`Python (sandbox)`, `Python (sandbox, docker)`, or with a name of the owner's choice."""
    backend = name.removeprefix(f"sandbox-{language.name}").replace("-", ", ")
    return f"{language.display_name} ({f'sandbox{backend}' if is_usual else name})"


def _require_replaceable(directory: Path, allow_foreign: bool) -> None:
    if not os.path.lexists(directory) or allow_foreign:
        return
    spec = read(directory)
    if spec is None or not spec.is_ours:
        raise SettingsError(
            f"{directory} exists and isn't a kernelspec of this package. "
            "Choose another --name, or give --force to replace it."
        )


def _content(
    options: Mapping[str, str], language: languages.Language, display_name: str
) -> dict[str, Any]:
    arguments = [
        f"--{name.replace('_', '-')}={text}"
        for name, joined in options.items()
        for text in (joined.splitlines() if name in REPEATABLE else [joined])
    ]
    return {
        "argv": [sys.executable, "-P", "-m", KERNEL_MODULE, "-f", "{connection_file}", *arguments],
        "display_name": display_name,
        "language": language.jupyter_name,
        "interrupt_mode": "message",
        "metadata": {"supported_encryption": ["curve"]},
    }


def logos(language: str) -> list[Path]:
    """The pictures of the kernelspec that came with this package; [] when it has none."""
    packaged = f"sandbox-{language}"
    checkout = Path(__file__).parent.parent / "kernelspecs"
    wheel = Path(__file__).parent / "_kernelspecs"
    for parent in (checkout, wheel, *kernel_directories()):
        found = sorted((parent / packaged).glob("logo-*"))
        if found:
            return found
    return []


def _write(directory: Path, content: dict[str, Any], pictures: list[Path]) -> None:
    # The new one is complete before the old one goes: Jupyter may be reading it.
    fresh = directory.with_name(f".{directory.name}-{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        for picture in pictures:
            shutil.copyfile(picture, fresh / picture.name)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (fresh / "kernel.json").write_text(text, encoding="utf-8")
        _delete(directory)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


# --- removing -------------------------------------------------------------------------


def remove(name: str) -> Kernelspec:
    """Remove the kernelspec that Jupyter would start for `name`.

    Raises:
        SettingsError: there is none, or it isn't ours.
    """
    spec = find(name)
    if spec is None:
        ours = ", ".join(item.name for item in installed() if item.is_ours) or "none"
        raise SettingsError(f"There is no kernel {name!r}; installed by this package: {ours}.")
    if not spec.is_ours:
        raise SettingsError(
            f"{spec.directory} isn't a kernelspec of this package. "
            f"Remove it with: jupyter kernelspec remove {spec.name}"
        )
    _delete(spec.directory)
    return spec


def _delete(directory: Path) -> None:
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)
