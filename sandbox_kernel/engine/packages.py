"""Dependencies of one session: what its owner declared, and what single runs ask for.

Rule: light: a session that asks for none imports nothing of theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sandbox_kernel import languages
from sandbox_kernel.engine.choices import Choices, list_of
from sandbox_kernel.engine.hearing import check_callback
from sandbox_kernel.engine.results import DependencyReport

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend, Layer, SandboxSpec
    from sandbox_kernel.dependencies.manager import Dependencies
    from sandbox_kernel.dependencies.requirements import Requirement
    from sandbox_kernel.engine.seat import Seat

OnOutput = Callable[[str], Any]


class Packages:
    """What one session has.

    Args:
        backend: whose layers.
        choices: the spec without packages, and who may ask for which.
    """

    def __init__(self, backend: Backend, choices: Choices) -> None:
        self._backend = backend
        self._choices = choices
        self._made: Dependencies | None = None

    async def declared(self, on_output: OnOutput | None) -> SandboxSpec:
        """The spec of the session's sandboxes, once what was declared is there.

        Raises:
            BackendUnavailable, DependencyFailed: it could not be had.
        """
        wanted = self._choices.policy.declared
        if not wanted:
            return self._choices.spec
        made = self._dependencies()
        ensured = await made.ensure(wanted, on_output=on_output or _ignore)
        made.note_attached(ensured.layers)
        return made.applied(self._choices.spec)

    async def provide(
        self,
        seat: Seat,
        texts: Iterable[str],
        on_output: OnOutput | None,
        *,
        language: str = "",
        is_kept: bool,
    ) -> DependencyReport:
        """Let the sandbox of `seat` have what `texts` name.

        Args:
            language: of the run, "" for the session's own; names without a prefix are its.
            is_kept: whether it stays for the next run; what is attached to it does, too.

        Raises:
            BackendUnavailable, DependencyFailed: it could not be had.
            DependencyRefused: it may not be asked for, or is no package.
        """
        check_callback(on_output)
        wanted = self._admitted(list_of(texts), language)
        if not wanted:
            return self._report([], "")
        printed: list[str] = []

        def hear(text: str) -> None:
            printed.append(text)
            (on_output or _ignore)(text)

        made = self._dependencies()
        ensured = await made.ensure(wanted, on_output=hear)
        # A fresh sandbox has what was declared, and nothing of an earlier run's.
        attaching = made if is_kept else copy.copy(made)
        await attaching.attach(seat, ensured.layers)
        return self._report(ensured.layers, "".join(printed), attaching.attached)

    def checksum(self) -> str:
        """Of what every run finds."""
        return _checksum(self._made.attached if self._made is not None else [])

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def _report(
        self, layers: Sequence[Layer], printed: str, attached: Sequence[Layer] | None = None
    ) -> DependencyReport:
        packages = tuple(package for layer in layers for package in layer.packages)
        checksum = self.checksum() if attached is None else _checksum(attached)
        return DependencyReport(packages, checksum, printed)

    def _admitted(self, texts: list[str], language: str) -> list[Requirement]:
        if not texts:
            return []
        from sandbox_kernel.dependencies.requirements import parse_all

        own = self._choices.policy.ecosystem
        wanted = parse_all(texts, languages.get(language).ecosystem or own if language else own)
        self._choices.policy.admit(wanted, asker="This run")
        return wanted

    def _dependencies(self) -> Dependencies:
        if self._made is None:
            from sandbox_kernel.dependencies.manager import Dependencies

            policy, size = self._choices.policy, self._choices.cache_bytes
            self._made = Dependencies(self._backend, self._choices.spec, policy, max_bytes=size)
        return self._made


def _checksum(layers: Sequence[Layer]) -> str:
    """Of what was asked for and what came of it; "" for nothing."""
    from hashlib import sha256

    if not layers:
        return ""
    lines = sorted(
        f"{layer.ecosystem} {' '.join(layer.requirements)}: {layer.packages}" for layer in layers
    )
    return sha256("\n".join(lines).encode()).hexdigest()


def _ignore(_text: str) -> None:
    pass
