"""From requirements to layers that a session can use: found, or built once.

One `Dependencies` belongs to one session's owner. What it found or built stays on this
machine until `close`, and whoever asks for the same meanwhile gets the same layer.

Rule: `find` needs neither asyncio nor the builder: a kernel calls it before its guest runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sandbox_kernel import backends
from sandbox_kernel.backends.base import Backend, Layer, SandboxSpec
from sandbox_kernel.dependencies import indexes, keys, store
from sandbox_kernel.dependencies.layers import attached_environment, describe, with_layers
from sandbox_kernel.dependencies.policy import Policy
from sandbox_kernel.dependencies.records import Package
from sandbox_kernel.dependencies.requirements import Requirement
from sandbox_kernel.errors import DependencyFailed, SandboxKernelError

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox_kernel.dependencies.unfinished import Building
    from sandbox_kernel.settings import Settings

T = TypeVar("T")


class Attachable(Protocol):
    """A `SandboxSession`, which is not imported here."""

    spec: SandboxSpec

    async def attach(self, layers: list[dict[str, str]], environment: dict[str, str]) -> None: ...


class Ensured(NamedTuple):
    """What somebody asked for, there now."""

    layers: list[Layer]
    built: frozenset[str]  # names of those that were not there before

    @property
    def text(self) -> str:
        """One line for a reader."""
        from sandbox_kernel.limits import format_size

        packages = [package for layer in self.layers for package in layer.packages]
        if not packages:
            asked = ", ".join(text for layer in self.layers for text in layer.requirements)
            return f"{asked}: the sandbox had all of it before."
        size = format_size(sum(layer.size_bytes for layer in self.layers))
        names = ", ".join(f"{name} {version}" for name, version in packages[:20])
        more = f" and {len(packages) - 20} more" if len(packages) > 20 else ""
        count = f"{len(packages)} package{'s' if len(packages) > 1 else ''}, {size}"
        if self.built:
            return f"Installed {names}{more} ({count})"
        were = "were" if len(packages) > 1 else "was"
        return f"{names}{more} ({count}) {were} there already"


class Dependencies:
    """Packages for sessions with one backend and spec.

    Args:
        backend, spec: what the sessions run in.
        policy: what cells may ask for.
        max_bytes: of all layers together, beyond which the longest unused go.
    """

    def __init__(
        self,
        backend: Backend,
        spec: SandboxSpec,
        policy: Policy,
        *,
        max_bytes: int = store.MAX_BYTES,
    ) -> None:
        self.policy = policy
        self.attached: list[Layer] = []  # newest first; whoever attaches notes it here
        self._backend = backend
        self._spec = spec
        self._max_bytes = max_bytes
        self._layers = backend.layer_store()
        self._store = store.Store(backend.name, self._layers) if self._layers else None

    @classmethod
    def from_settings(cls, backend: Backend, spec: SandboxSpec, settings: Settings) -> Dependencies:
        """
        Raises:
            SettingsError: the declared packages, or those allowed, are none.
        """
        policy = Policy.from_settings(settings)
        return cls(backend, spec, policy, max_bytes=settings.dependency_cache_bytes)

    # -- finding ---------------------------------------------------------------

    def find(self, requirements: Iterable[Requirement]) -> list[Layer] | None:
        """The layers for `requirements` if all are there already; blocks for milliseconds.

        Raises:
            BackendUnavailable, DependencyFailed: the backend has no layers, or none now.
        """
        found = [self._find(*group) for group in _by_ecosystem(requirements)]
        return None if None in found else [layer for layer in found if layer is not None]

    def _find(self, ecosystem: str, wanted: list[Requirement]) -> Layer | None:
        return self._required_store().find(self._key(ecosystem, wanted)[0])

    def _key(self, ecosystem: str, wanted: list[Requirement]) -> tuple[str, dict[str, str]]:
        built_for = dict(self._required_store().layers.built_for(self._spec, ecosystem))
        index = indexes.identity(
            ecosystem,
            prefix=built_for.get("prefix", ""),
            is_host_shown=backends.shows_host(self._backend.name),
        )
        return keys.key(ecosystem, wanted, built_for, index), built_for

    def _required_store(self) -> store.Store:
        if self._store is None:
            raise DependencyFailed(
                f"The backend {self._backend.name} has no place for packages. Choose another "
                "backend, or one whose environment has them."
            )
        return self._store

    # -- building --------------------------------------------------------------

    async def ensure(
        self, requirements: Iterable[Requirement], *, on_output: Callable[[str], None]
    ) -> Ensured:
        """Find or build a layer an ecosystem. Cancelling it leaves nothing half-built.

        Args:
            on_output: hears what the installers print, as it comes; not cleaned for anything.

        Raises:
            BackendUnavailable, DependencyFailed: with the installer's reason.
        """
        layers, built = [], set()
        for ecosystem, wanted in _by_ecosystem(requirements):
            layer = await _in_thread(partial(self._find, ecosystem, wanted))
            if layer is None:
                layer = await self._build(ecosystem, wanted, on_output)
                built.add(layer.name)
            layers.append(layer)
        return Ensured(layers, frozenset(built))

    async def _build(
        self, ecosystem: str, wanted: list[Requirement], on_output: Callable[[str], None]
    ) -> Layer:
        from contextlib import suppress
        from pathlib import Path

        from sandbox_kernel.dependencies.builder import build

        where = self._required_store()
        key, built_for = await _in_thread(partial(self._key, ecosystem, wanted))
        with where.building() as building:
            record = await build(
                self._backend,
                self._spec,
                ecosystem,
                wanted,
                Path(building.directory),
                on_output=on_output,
            )
            add = partial(self._add, building, key, built_for, wanted, _packages(record))
            layer = await _in_thread(add)
        with suppress(SandboxKernelError):
            await _in_thread(lambda: where.collect(max_bytes=self._max_bytes))
        return layer

    def keep(self, wanted: list[Requirement], fill: Callable[[Path], tuple[Package, ...]]) -> Layer:
        """A layer for `wanted`, of one ecosystem, whose directory `fill` fills: no installer.

        For `bench`, which measures how long it takes to find one.
        """
        from pathlib import Path

        where = self._required_store()
        key, built_for = self._key(wanted[0].ecosystem, wanted)
        with where.building() as building:
            packages = fill(Path(building.directory))
            return self._add(building, key, built_for, wanted, packages)

    def _add(
        self,
        building: Building,
        key: str,
        built_for: dict[str, str],
        wanted: list[Requirement],
        packages: tuple[Package, ...],
    ) -> Layer:
        return self._required_store().add(
            building,
            key,
            self._spec,
            ecosystem=wanted[0].ecosystem,
            requirements=tuple(item.text for item in wanted),
            packages=packages,
            built_for=built_for,
        )

    # -- using -----------------------------------------------------------------

    def applied(self, spec: SandboxSpec) -> SandboxSpec:
        """`spec`, which has no layers yet, for a sandbox with all that is attached."""
        return with_layers(spec, self.attached)

    def note_attached(self, layers: Sequence[Layer]) -> None:
        """Remember that the session has these, the newest of all."""
        names = {layer.name for layer in layers}
        self.attached = [*layers, *(old for old in self.attached if old.name not in names)]

    async def attach(self, session: Attachable, layers: Sequence[Layer]) -> None:
        """Let a running session use `layers`; its variables stay.

        Raises:
            RequestRefused, SandboxDied: as `SandboxSession.attach`.
        """
        known = {layer.name for layer in self.attached}
        fresh = [layer for layer in layers if layer.name not in known]
        if not fresh:
            return
        where = self._required_store().layers
        path = await _in_thread(partial(where.program_path, self._spec))
        own = self._spec.environment
        variables = attached_environment([*fresh, *self.attached], own, path)
        await session.attach(describe(fresh), variables)
        self.note_attached(fresh)
        # For the sandbox that takes the place of this one, should it die.
        session.spec = self.applied(self._spec)

    def close(self) -> None:
        """Let the layers go when somebody needs the room. Safe to call twice."""
        if self._store is not None:
            self._store.close()


def _by_ecosystem(requirements: Iterable[Requirement]) -> list[tuple[str, list[Requirement]]]:
    ordered = sorted(set(requirements))
    return [(name, list(group)) for name, group in groupby(ordered, lambda item: item.ecosystem)]


def _packages(record: Any) -> tuple[Package, ...]:
    """What the builder says that it installed."""
    return tuple(Package(item.name, item.version, item.hash) for item in record.resolved)


async def _in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread, and when cancelled wait for its end: it may not be left alone."""
    import asyncio

    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
