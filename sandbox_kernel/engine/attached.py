"""The session of a live notebook, as an engine holds it: its owner decided on everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sandbox_kernel import events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.engine.choices import Choices, Strategy, choose, list_of
from sandbox_kernel.engine.hearing import check_callback
from sandbox_kernel.engine.packages import OnOutput
from sandbox_kernel.engine.results import DependencyReport
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.settings import Settings

if TYPE_CHECKING:
    from sandbox_kernel.sharing.client import SharedSeat


class NotebookPackages:
    """In place of `Packages`: the notebook's kernel installs them, by its own policy."""

    def __init__(self, seat: SharedSeat) -> None:
        self._seat = seat

    async def provide(
        self,
        seat: Seat,
        texts: Iterable[str],
        on_output: OnOutput | None,
        *,
        language: str = "",
        is_kept: bool,
    ) -> DependencyReport:
        """As `Packages.provide`; it lists all that the notebook has."""
        check_callback(on_output)
        wanted = list_of(texts)
        if not wanted:
            return DependencyReport()
        printed: list[str] = []

        def hear(event: events.Event) -> None:
            if isinstance(event, events.DisplayShown | events.DisplayUpdated):
                text = str(event.bundle.get("text/plain", ""))
                printed[:] = [text]  # the installer's display is replaced as it grows
                if on_output is not None:
                    on_output(text + "\n")

        found = await self._seat.install(wanted, on_event=hear)
        return DependencyReport(packages=tuple(found), stdout="".join(printed))

    def checksum(self) -> str:
        """The kernel's own affair."""
        return ""

    def close(self) -> None:
        pass


def choices_for(settings: Settings, spec: SandboxSpec) -> Choices:
    """What was decided, in an engine's words."""
    choices = choose(
        settings,
        spec.language,
        strategy=Strategy.PER_SESSION,
        workspace=None,
        limits=spec.limits,
        image=None,
        python=None,
        runtime=None,
        mounts=None,
        environment=None,
        outputs=None,
        dependencies=(),
        dependency_policy=None,
        allowed_dependencies=(),
        preload=(),
        allow_forward=False,
    )
    return choices._replace(spec=spec)
