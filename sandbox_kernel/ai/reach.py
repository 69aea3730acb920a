"""Which languages a tool offers, and which of them share a sandbox.

On a backend that shows this host's programs, one sandbox runs every language that is
installed here. With images, a sandbox has the languages of its image: a tool that makes its
own sessions makes one for each language, unless its owner named one image for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sandbox_kernel import backends, languages
from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.availability import Survey
    from sandbox_kernel.engine import Engine, Session
    from sandbox_kernel.languages import Language
    from sandbox_kernel.settings import Settings

# Python once more, behind the bridge; a choice that only puzzles a model.
_UNOFFERED = ("ipykernel",)


def check_given(session: object, engine: object) -> None:
    """
    Raises:
        SettingsError: one is neither None nor the asynchronous engine's.
    """
    from sandbox_kernel.engine import Engine, Session

    if session is not None and not isinstance(session, Session):
        raise SettingsError(
            f"The session is a {_type(session)}; give one that `await Engine.create_session` made."
        )
    if engine is not None and not isinstance(engine, Engine):
        raise SettingsError(
            f"The engine is a {_type(engine)}; give a sandbox_kernel.Engine, or leave it out."
        )


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"


class Reach:
    """
    Args:
        language: the tool's own, always offered.
        wanted: what its owner named; None: whatever can run.
        session: the one that it was given.
        engine: that makes its sessions; None: one with the settings that are found.
        image: the owner's, for all languages.
    """

    def __init__(
        self,
        language: str,
        wanted: Sequence[str] | None,
        session: Session | None,
        engine: Engine | None,
        image: str | None,
    ) -> None:
        self._language = language
        self._wanted = wanted
        self._session = session
        self._engine = engine
        self._image = image
        self._looked: dict[str, tuple[Language, bool]] = {}
        self._survey: Survey | None = None
        self._found_settings: Settings | None = None

    def names(self) -> list[str]:
        """The languages that a call may name now, the tool's own first."""
        if self._wanted is not None:
            offered = self._wanted
        elif self._session is not None and not self._shows_host():
            offered = [self._session.language]  # nobody knows what else is in its image
        else:
            offered = [name for name in languages.names() if self._can_run(name)]
        return list(dict.fromkeys([self._language, *offered]))

    def home(self, language: str) -> str:
        """The language whose session runs `language`."""
        return language if self.is_apart else self._language

    @property
    def is_apart(self) -> bool:
        """Whether each language has a sandbox of its own."""
        return self._session is None and not self._shows_host() and self._shared_image() is None

    # -- parts

    def _can_run(self, name: str) -> bool:
        if name in _UNOFFERED:
            return False
        try:
            language = languages.get(name)
        except SettingsError:  # its package is broken; doctor says so
            return False
        known = self._looked.get(name)
        if known is None or known[0] is not language:
            known = self._looked[name] = (language, self._look(name))
        return known[1]

    def _look(self, name: str) -> bool:
        from sandbox_kernel.availability import MISSING, READY

        settings = self._settings()._replace(backend=self._backend(), image=self._image)
        state = self._surveyed().at(name, settings).state
        # Of ours, what is certain; of what the program registered, what is not ruled out.
        is_ours = find_spec(f"{languages.__name__}.{name}") is not None
        return state == READY if is_ours else state != MISSING

    def _surveyed(self) -> Survey:
        if self._survey is None:
            from sandbox_kernel.availability import Survey

            self._survey = Survey()
        return self._survey

    def _shows_host(self) -> bool:
        return backends.shows_host(self._backend())

    def _backend(self) -> str:
        if self._session is not None:
            return self._session.info().backend
        return self._engine.backend.name if self._engine is not None else self._settings().backend

    def _shared_image(self) -> str | None:
        return self._image or self._settings().image

    def _settings(self) -> Settings:
        if self._found_settings is None:
            from sandbox_kernel.settings import Settings

            found = self._engine.settings if self._engine is not None else Settings.load({})
            self._found_settings = found
        return self._found_settings
