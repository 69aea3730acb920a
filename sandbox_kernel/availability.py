"""Which languages can run here, with what, and what to do about those that cannot.

Nothing is started inside a sandbox and no image is pulled: files are looked at, and an engine
is asked for the images that it has. `install` and `doctor` say what is found.

Rule 1: MISSING is said only of what is certain. An engine that does not answer, or an image
that anybody may still pull, is UNKNOWN, and no reason to refuse a kernelspec.
Rule 2: every reason is a sentence, and has a remedy.

To add a language that needs more than a program: a function in `_NEEDS`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel import backends, languages
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.languages import Language
from sandbox_kernel.settings import Settings

if TYPE_CHECKING:
    from sandbox_kernel.backends.bubblewrap.environment import Environment

READY, UNKNOWN, MISSING = "ready", "unknown", "missing"
# The first Node.js that strips types without a flag.
_STRIPPING_NODE = (22, 13)
_VERSION_TIMEOUT_S = 30
_OUR_IMAGES = "sandbox-kernel/"
_MAKE = "Make it with: sandbox-kernel setup docker"
_PULL = "Pull it with: sandbox-kernel setup docker"


class Availability(NamedTuple):
    """What is known of one language and the settings it would run with."""

    language: str
    display_name: str
    state: str  # READY, UNKNOWN or MISSING
    found: str  # what runs it: the path of a program, or an image
    reason: str = ""  # a sentence, unless it is READY
    remedy: str = ""


def survey(settings: Settings) -> list[Availability]:
    """Every language, on the backend and with the environment of `settings`."""
    look = Survey()
    return [look.at(name, settings) for name in languages.names()]


def find_problem(name: str, settings: Settings | None = None) -> str:
    """Why a language cannot run, with the remedy; "" where it can.

    Args:
        settings: None for the backend that shows this host's programs.
    """
    settings = settings or Settings.load({"backend": "bubblewrap"})
    found = Survey().at(name, settings)
    return "" if found.state == READY else f"{found.reason} {found.remedy}".strip()


class Survey:
    """Looks; what it has asked an engine once, it remembers."""

    def __init__(self) -> None:
        self._images: dict[str, bool] = {}
        self._engine: Any = None
        self._problem = ""

    def at(self, name: str, settings: Settings) -> Availability:
        """One language with `settings`, whatever language those name."""
        try:
            language = languages.get(name)
        except SettingsError as error:
            return Availability(name, name, MISSING, "", str(error), "")
        look = self._on_host if backends.shows_host(settings.backend) else self._in_image
        return look(language, settings)

    # --- backends that show this host's programs ----------------------------------

    def _on_host(self, language: Language, settings: Settings) -> Availability:
        from sandbox_kernel.backends.bubblewrap import environment

        try:
            seen = environment.discover(settings.python)
        except SettingsError as error:
            return _missing(language, str(error), "Name another interpreter with --python.")
        if language.runner:
            return _ready(language, seen.executable)
        program, reason = _find_program(language.programs, _search_path(settings, seen), seen)
        remedy = language.remedy or f"Install {language.programs[0]} on this machine."
        if not program:
            return _missing(language, reason, remedy)
        need = _NEEDS.get(language.name)
        problem = need(program, seen) if need else None
        return _missing(language, problem, remedy) if problem else _ready(language, program)

    # --- backends with images -----------------------------------------------------

    def _in_image(self, language: Language, settings: Settings) -> Availability:
        image = settings.image or language.image
        try:
            is_there = self._has_image(image)
        except BackendUnavailable as error:
            return _unknown(language, image, str(error), "")
        if is_there:
            return _ready(language, f"the image {image}")
        reason = f"There is no image {image} on the engine."
        if image.startswith(_OUR_IMAGES):
            return _missing(language, reason, f"{_MAKE} --language {_maker(image, language)}")
        return _unknown(language, image, reason, f"{_PULL} --image {image}")

    def _has_image(self, name: str) -> bool:
        """
        Raises:
            BackendUnavailable: the engine does not tell.
        """
        if name not in self._images:
            self._images[name] = self._ask(name)
        return self._images[name]

    def _ask(self, name: str) -> bool:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        from sandbox_kernel.backends.docker import building, engine

        if self._problem:  # an engine that hangs is waited for once
            raise BackendUnavailable(self._problem)
        try:
            if self._engine is None:
                self._engine = engine.connect(engine.PING_TIMEOUT_S)
            return building.image_id(self._engine, name) is not None
        except BackendUnavailable as error:
            self._problem = str(error)
            raise
        except (DockerException, RequestException, OSError) as error:
            found = engine.unavailable(error)
            self._problem = str(found)
            raise found from None


def _ready(language: Language, found: str) -> Availability:
    return Availability(language.name, language.display_name, READY, found)


def _unknown(language: Language, found: str, reason: str, remedy: str) -> Availability:
    return Availability(language.name, language.display_name, UNKNOWN, found, reason, remedy)


def _missing(language: Language, reason: str, remedy: str) -> Availability:
    return Availability(language.name, language.display_name, MISSING, "", reason, remedy)


def _maker(image: str, language: Language) -> str:
    """What `setup docker --language` has to be told to make an image of ours."""
    is_its_own = image.partition(":")[0] == language.image
    return language.name if is_its_own else "polyglot"


# --- programs of this host ------------------------------------------------------------


def _search_path(settings: Settings, seen: Environment) -> list[str]:
    from sandbox_kernel.backends.bubblewrap import plan

    given = settings.environment.get("PATH")
    return given.split(":") if given else plan.search_path(seen)


def _find_program(
    names: Iterable[str], directories: list[str], seen: Environment
) -> tuple[str, str]:
    """The path of the first that a guest finds; or "" and the reason."""
    from sandbox_kernel.backends.bubblewrap import plan

    hidden = ""
    for name in names:
        for directory in directories:
            path = os.path.join(directory, name)
            if not os.access(path, os.X_OK) or not os.path.isfile(path):
                continue
            if plan.is_shown(path, seen):
                return path, ""
            hidden = hidden or path
    if hidden:
        target = os.path.realpath(hidden)
        return "", f"{hidden} leads to {target}, which a sandbox does not see."
    return "", f"There is no {' and no '.join(names)} in {':'.join(directories)}."


# --- what a language needs besides a program ------------------------------------------


def _irkernel(program: str, seen: Environment) -> str | None:
    """IRkernel is an R package: looked for where R's libraries are, without starting R."""
    real = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    homes = (real, f"{real}/lib/R", f"{real}/lib64/R", f"{seen.prefix}/lib/R")
    usual = ("/usr/local/lib/R", "/usr/lib/R", "/usr/lib64/R", "/usr/share/R")
    libraries = [
        f"{home}/{name}" for home in (*homes, *usual) for name in ("site-library", "library")
    ]
    if any(os.path.isfile(f"{library}/IRkernel/DESCRIPTION") for library in libraries):
        return None
    return f"R is there ({program}), but its package IRkernel, which runs the cells, is not."


def _type_stripper(program: str, seen: Environment) -> str | None:
    """A Node.js that strips types by itself, or the package `typescript` beside it."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    places = ("/usr/share/nodejs", "/usr/lib/node_modules", "/usr/local/lib/node_modules")
    for place in (*places, f"{prefix}/lib/node_modules", f"{seen.prefix}/lib/node_modules"):
        if os.path.isfile(f"{place}/typescript/package.json"):
            return None
    version = _node_version(program)
    if version >= _STRIPPING_NODE:
        return None
    shown = ".".join(map(str, version)) or "of an unknown version"
    return (
        f"Node.js {shown} ({program}) does not know TypeScript, and there is no package typescript."
    )


def _ipykernel(program: str, seen: Environment) -> str | None:
    """A package of the guest's Python, which may be another than ours."""
    library = "python{}.{}".format(*seen.version.split("."))
    places = [seen.user_site] if seen.user_site else []
    for prefix in (seen.prefix, seen.base_prefix):
        places += [f"{prefix}/lib/{library}/site-packages", f"{prefix}/lib/python3/dist-packages"]
    if any(os.path.isfile(f"{place}/ipykernel/__init__.py") for place in places):
        return None
    return f"The sandbox's Python, {seen.executable}, has no package ipykernel."


def _node_version(program: str) -> tuple[int, ...]:
    """Asked of the host's own program; () when it does not say."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_VERSION_TIMEOUT_S,
            text=True,
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    numbers = done.stdout.strip().removeprefix("v").split(".")[:2]
    return tuple(map(int, numbers)) if all(part.isdigit() for part in numbers) else ()


# By name of the language: what is wrong with a program that was found, or None.
_NEEDS: dict[str, Callable[[str, Environment], str | None]] = {
    "ipykernel": _ipykernel,
    "r": _irkernel,
    "typescript": _type_stripper,
}
