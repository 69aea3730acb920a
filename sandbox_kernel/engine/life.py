"""The life of an engine's session: who uses it, what is known of it, and its end.

What it is for, the verbs, is `session`. What ends sessions that nobody uses is `lifetimes`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sandbox_kernel import languages
from sandbox_kernel.engine.choices import Choices
from sandbox_kernel.engine.files import SessionFiles, made_directory
from sandbox_kernel.engine.generated import Generated, Kept
from sandbox_kernel.engine.packages import Packages
from sandbox_kernel.engine.places import Place
from sandbox_kernel.engine.results import SessionInfo
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.errors import SessionClosed
from sandbox_kernel.session import State

if TYPE_CHECKING:
    from sandbox_kernel.engine.attached import NotebookPackages
    from sandbox_kernel.session.ports import Forward


class Life:
    """From `Engine.create_session` to `close`. An async context that closes it.

    Args:
        id: unguessable.
        backend: its name.
        choices: what was decided.
        place: where runs happen.
        packages: its dependencies.
        labels: the caller's own.
        on_close: called once with its id, when it is closed.
    """

    def __init__(
        self,
        id: str,
        backend: str,
        choices: Choices,
        place: Place,
        packages: Packages | NotebookPackages,
        *,
        labels: Mapping[str, str],
        idle_timeout_s: float | None,
        lifetime_s: float | None,
        on_close: Callable[[str], None],
    ) -> None:
        self.id = id
        self.labels = dict(labels)
        self.idle_timeout_s = idle_timeout_s
        self.lifetime_s = lifetime_s
        self.created = self.last_used = datetime.now(UTC)
        # Wall clocks are set; what is too old is not for them to say.
        self._created_s = self._used_s = time.monotonic()
        self.files = SessionFiles(
            self._store,
            choices.spec.limits.workspace_bytes,
            used=self._note_use,
            touched=self._touched,
        )
        self._backend = backend
        self._choices = choices
        self._place = place
        self._packages = packages
        self._on_close = on_close
        self._runs = 0
        self._boundary = ""
        self._active = 0
        self._generated = Generated(place)
        self._forwards: list[Forward] = []
        self._closed: asyncio.Future[list[Kept]] | None = None
        self._closed_for = ""

    # -- its end ---------------------------------------------------------------

    async def close(
        self, *, keep_generated: str | Path | None = None, reason: str = ""
    ) -> list[Kept]:
        """Destroy its sandboxes. Safe to call twice.

        Args:
            keep_generated: a directory for the files that its runs made, and nothing else.
                None that is there is replaced, and none that the host would run by itself
                is written.
            reason: said to whoever uses it afterwards.

        Returns:
            what became of each generated file; [] without a directory.

        Raises:
            FileRefused: that directory cannot be made; the session is still open.
        """
        directory = None if keep_generated is None else Path(keep_generated)
        if directory is not None and self._closed is None:
            await asyncio.to_thread(made_directory, directory)
        return await asyncio.shield(self.begin_to_close(directory, reason=reason))

    def begin_to_close(
        self, directory: Path | None = None, *, reason: str = ""
    ) -> asyncio.Future[list[Kept]]:
        """As `close`, which waits for it: from now on nobody uses it any more."""
        if self._closed is None:
            self._closed_for = reason
            self._closed = asyncio.ensure_future(self._close(directory))
        return self._closed

    async def _close(self, directory: Path | None) -> list[Kept]:
        try:
            return await self._generated.keep(directory) if directory is not None else []
        finally:
            try:
                await self._place.close()
            finally:
                self._packages.close()
                self._on_close(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- knowing ---------------------------------------------------------------

    @property
    def language(self) -> str:
        return self._choices.spec.language

    @property
    def timeout_s(self) -> float | None:
        """Wall seconds of a run that names none; None: no limit."""
        return self._choices.timeout_s

    @property
    def is_busy(self) -> bool:
        return self._active > 0

    @property
    def is_closed(self) -> bool:
        return self._closed is not None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._created_s

    @property
    def idle_s(self) -> float:
        """For how long nobody has used it; 0 while somebody does, if by a port only."""
        if self._active or any(forward.is_open for forward in self._forwards):
            self._note_use()
        return time.monotonic() - self._used_s

    def info(self) -> SessionInfo:
        """What is known of it, without asking the sandbox."""
        choices, seats = self._choices, self._place.seats
        image = choices.spec.image
        if image is None and self._backend == "docker":
            image = languages.get(self.language).image
        return SessionInfo(
            id=self.id,
            language=self.language,
            backend=self._backend,
            boundary=self._seen_boundary(seats),
            image=image,
            strategy=choices.strategy.value,
            workspace=choices.workspace.value,
            labels=dict(self.labels),
            created=self.created,
            last_used=self.last_used,
            runs=self._runs,
            generated=self._generated.names,
            dependencies_checksum=self._packages.checksum(),
            sandboxes=self._place.records.all(),
            state=self._state(seats).value,
        )

    def _seen_boundary(self, seats: list[Seat]) -> str:
        """That of a sandbox that is there, or was."""
        now = next((seat.boundary for seat in seats), "")
        self._boundary = now or self._boundary
        return self._boundary

    def _state(self, seats: list[Seat]) -> State:
        if self.is_closed:
            return State.CLOSED
        if self._active:
            return State.BUSY
        return seats[0].state if seats else State.IDLE

    # -- who uses it -----------------------------------------------------------

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[None]:
        self._require_open()
        self._active += 1
        self._note_use()
        try:
            yield
        finally:
            self._active -= 1
            self._note_use()

    def _require_open(self) -> None:
        if self._closed is not None:
            why = f" {self._closed_for}" if self._closed_for else ""
            raise SessionClosed(f"The session is closed.{why} Create another one.")

    def _note_use(self) -> None:
        self.last_used = datetime.now(UTC)
        self._used_s = time.monotonic()

    def _store(self) -> Any:
        self._require_open()
        return self._place.store()

    def _touched(self) -> None:
        self._generated.forget_listing()
