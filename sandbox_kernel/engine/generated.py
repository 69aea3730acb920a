"""Which files the runs of a session made, and what becomes of them when it closes.

A run's are what is new or changed in the workspace when it has ended, hidden files and
Python's caches left out.

Rule 1: names and sizes are the guest's word, and it may not answer: every question to it
has a deadline.
Rule 2: what went with its sandbox is not there, whatever has that name now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.engine.files import write_new
from sandbox_kernel.engine.places import Place
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.errors import FileTooLarge, SandboxKernelError
from sandbox_kernel.limits import format_size
from sandbox_kernel.session import FileEntry, Outcome, State

# Names that are remembered.
MAX_GENERATED = 10_000
# A listing takes milliseconds and a full workspace seconds; a supervisor that says nothing
# must not hold a program for ever.
LISTING_TIMEOUT_S = 30.0
TAKING_TIMEOUT_S = 120.0
_TOO_SLOW = f"The sandbox did not give it within {TAKING_TIMEOUT_S:g} s."

Listing = Mapping[str, FileEntry]


class Kept(NamedTuple):
    """What became of a generated file at `close`: where it is, or why it is not there."""

    name: str
    path: Path | None
    reason: str


class Generated:
    """Of one session.

    Args:
        place: where its runs happen.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._listing: Listing | None = None  # of a workspace that stays; None: look
        self._names: dict[str, str] = {}  # and in which sandbox

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def forget_listing(self) -> None:
        """Somebody else than a run that ended as it should changed the workspace."""
        self._listing = None

    async def before(self, seat: Seat, *, has_inputs: bool) -> Listing | None:
        """The workspace as a run finds it; None when nobody knows."""
        if self._place.carried is None:
            if self._listing is None or has_inputs:
                self._listing = await _listed(seat)
            return self._listing
        # It began empty, but for what was put there.
        if not has_inputs and self._place.carried.is_empty:
            return {}
        return await _listed(seat)

    async def after(
        self, seat: Seat, outcome: Outcome, before: Listing | None
    ) -> tuple[list[FileEntry], dict[str, str]]:
        """What a run made or changed; and what of it is lost, and why."""
        carried = self._place.carried
        is_shared = carried is not None and carried.is_shared
        if outcome.receipt is None or before is None:  # the sandbox is gone, and its files are
            self._listing = None
            return [], {}
        # What is removed or hidden is not counted there.
        if outcome.receipt.files == 0 and not is_shared:
            return [], {}
        self._listing = None  # whoever is cancelled here leaves no old one behind
        now = await _listed(seat)
        self._listing = now if carried is None else None
        if now is None:
            return [], {}
        changed = [entry for entry in now.values() if entry != before.get(entry.name)]
        made = [entry for entry in changed if _is_shown(entry.name)]
        lost: dict[str, str] = {}
        if carried is not None:
            gone = [name for name in before if name not in now]
            lost = await _taken(carried, seat, changed if is_shared else made, gone)
        where = seat.sandbox_id if carried is None else ""
        for entry in made[: MAX_GENERATED - len(self._names)]:
            self._names[entry.name] = where
        return made, lost

    async def keep(self, directory: Path) -> list[Kept]:
        """Write them below `directory`, which is there; all together what a workspace holds."""
        kept: list[Kept] = []
        names = self.names  # a run that ends meanwhile adds to them
        room = most = self._most_bytes()
        try:
            async with asyncio.timeout(TAKING_TIMEOUT_S):
                for name in names:
                    one, size = await self._keep_one(directory, name, room, most)
                    kept.append(one)
                    room -= size
        except TimeoutError:
            kept += [Kept(name, None, _TOO_SLOW) for name in names[len(kept) :]]
        return kept

    async def _keep_one(self, directory: Path, name: str, room: int, most: int) -> tuple[Kept, int]:
        if not self._is_there(self._names[name]):
            return Kept(name, None, "Its sandbox is gone, and the file with it."), 0
        try:
            content = await self._place.store().read(name, limit_bytes=room)
            path = await asyncio.to_thread(write_new, directory, name, content)
        except FileTooLarge:
            # Files with holes: the workspace holds more of them than a disk does.
            reason = f"With the files before it, it is over {format_size(most)} (workspace)."
            return Kept(name, None, reason), 0
        except SandboxKernelError as error:
            return Kept(name, None, str(error)), 0
        return Kept(name, path, ""), len(content)

    def _most_bytes(self) -> int:
        carried = self._place.carried
        limits = self._place.seats[0].spec.limits if carried is None else carried.limits
        return limits.workspace_bytes

    def _is_there(self, sandbox_id: str) -> bool:
        if self._place.carried is not None:
            return True
        seat = self._place.seats[0]
        return seat.state is not State.DEAD and seat.sandbox_id == sandbox_id


def _is_shown(name: str) -> bool:
    """As the supervisor counts."""
    return not any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))


async def _listed(seat: Seat) -> Listing | None:
    try:
        async with asyncio.timeout(LISTING_TIMEOUT_S):
            return {entry.name: entry for entry in await seat.files.list()}
    except (SandboxKernelError, TimeoutError):
        return None  # it went away, and the run says so


async def _taken(
    carried: Carried, seat: Seat, entries: list[FileEntry], gone: list[str]
) -> dict[str, str]:
    try:
        async with asyncio.timeout(TAKING_TIMEOUT_S):
            await carried.forget(seat.files, gone)
            return await carried.take(seat.files, entries)
    except TimeoutError:
        return {entry.name: _TOO_SLOW for entry in entries}
