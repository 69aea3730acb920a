"""Who may ask for which packages. Pure.

The owner of a kernel decides by settings: `dependencies` says who may ask at all, and
`allow_dependency` for what. A cell and a notebook's metadata are not the owner: what they
ask for needs `any`, and a name that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sandbox_kernel.dependencies.requirements import (
    ECOSYSTEMS,
    Requirement,
    canonical_name,
    parse,
    parse_all,
)
from sandbox_kernel.errors import DependencyRefused, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.settings import Settings

MODES = ("any", "declared", "none")


class Policy(NamedTuple):
    """What the owner decided.

    Args:
        mode: "any", "declared" (what the owner names) or "none".
        ecosystem: of names without a prefix.
        allowed: `(ecosystem, name)` that cells may ask for; empty: all.
        declared: what the owner names; there before the first cell.
    """

    mode: str = "any"
    ecosystem: str = "pip"
    allowed: frozenset[tuple[str, str]] = frozenset()
    declared: tuple[Requirement, ...] = ()

    @classmethod
    def make(
        cls, mode: str, ecosystem: str, *, allowed: Iterable[str], declared: Iterable[str]
    ) -> Policy:
        """From the settings' texts.

        Raises:
            SettingsError: they contradict each other, or a name is none.
        """
        try:
            names = frozenset(_allowed(text, ecosystem) for text in allowed)
            wanted = tuple(parse_all(declared, ecosystem))
        except DependencyRefused as error:
            raise SettingsError(str(error)) from None
        if wanted and mode == "none":
            raise SettingsError(
                f"The setting dependency asks for {wanted[0].title}, and the setting dependencies "
                "is none. Leave one of them out, or write dependencies=declared."
            )
        return cls(mode, ecosystem, names, wanted)

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """
        Raises:
            SettingsError: as `make`.
        """
        from sandbox_kernel import languages

        return cls.make(
            settings.dependencies,
            languages.get(settings.language).ecosystem,
            allowed=settings.allowed_dependencies,
            declared=settings.declared_dependencies,
        )

    def admit(self, requirements: Iterable[Requirement], *, asker: str = "A cell") -> None:
        """Let a cell or a notebook (`asker`) have `requirements`.

        Raises:
            DependencyRefused: the owner did not allow one of them.
        """
        for requirement in requirements:
            if self.mode == "none":
                raise DependencyRefused(
                    f"{asker} asks for {requirement.title}, and this kernel installs no packages: "
                    "its owner set dependencies to none."
                )
            if requirement in self.declared:
                continue
            if self.mode == "declared":
                raise DependencyRefused(
                    f"{asker} asks for {requirement.title}, and this kernel installs only what "
                    f"its owner declared ({self._shown_declared()}). Ask them to install a kernel "
                    f"with --dependency={requirement.title} or --dependencies=any."
                )
            if self.allowed and (requirement.ecosystem, requirement.name) not in self.allowed:
                raise DependencyRefused(
                    f"{asker} asks for {requirement.title}, which is not among the packages that "
                    f"this kernel's owner allows ({self._shown_allowed()}). Ask them to install a "
                    "kernel with --allow-dependency="
                    f"{self._written(requirement.ecosystem, requirement.name)}."
                )

    def _shown_declared(self) -> str:
        return _shortened([item.title for item in self.declared]) or "nothing"

    def _shown_allowed(self) -> str:
        return _shortened(sorted(self._written(*allowed) for allowed in self.allowed))

    def _written(self, ecosystem: str, name: str) -> str:
        """As the owner writes it: with a prefix where it is not the language's own."""
        return name if ecosystem == (self.ecosystem or "pip") else f"{ecosystem}:{name}"


def _allowed(text: str, default: str) -> tuple[str, str]:
    ecosystem, colon, name = text.partition(":")
    if not colon or ecosystem not in ECOSYSTEMS:
        ecosystem, name = default or "pip", text
    requirement = parse(ecosystem, name)
    if requirement.version_spec or requirement.extras:
        raise DependencyRefused(
            f"{text!r} has a version or extras; allow_dependency takes names only, such as "
            f"{requirement.name}."
        )
    return ecosystem, canonical_name(ecosystem, requirement.name)


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
