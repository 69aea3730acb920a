"""Layers in the making, and those that have to be removed yet.

    <cache>/sandbox-kernel/dependencies/building/
        <name>/layer    is filled by its builder
        <name>/place    in which store something of this name may be: the intent
        <name>.lock     held by who makes it

Rule 1: a lock is there before its directory, so that one whose lock is free has lost its
        maker.
Rule 2: an intent is written before anything is put into a store, and before a record is
        forgotten; it goes when the layer is recorded or gone. So whatever is killed in
        between, `sweep` finds what it left.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from sandbox_kernel.backends.base import LayerStore
from sandbox_kernel.dependencies import cache, sealing
from sandbox_kernel.dependencies.records import NAME
from sandbox_kernel.dependencies.shared_files import is_same, names_in, open_locked, unlink
from sandbox_kernel.errors import SandboxKernelError


class Building(NamedTuple):
    """A layer in the making: `directory` is to be filled."""

    name: str
    path: str
    directory: str
    lock: int


class Unfinished:
    """Of one backend.

    Args:
        backend: its name.
        layers: where it keeps layers.
    """

    def __init__(self, backend: str, layers: LayerStore) -> None:
        self._backend = backend
        self._layers = layers
        self._parent = os.path.join(cache.root(), "building")

    def begin(self) -> Building:
        """A fresh, empty directory. The parent is there.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            name = os.urandom(16).hex()
            path = self._path(name)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.mkdir(path, 0o700)
            if is_same(lock, f"{path}.lock"):
                directory = os.path.join(path, "layer")
                os.mkdir(directory, 0o700)
                return Building(name, path, directory, lock)
            os.rmdir(path)
            os.close(lock)

    def end(self, building: Building) -> None:
        """Leave nothing of it but what is recorded."""
        # With an intent there: it was put where guests see it, and is not recorded.
        if _intent(building.path) is None or self.drop(building.name):
            _delete(building.path)
            unlink(f"{building.path}.lock")
        os.close(building.lock)

    def note_intent(self, name: str, place: str) -> None:
        """Leave word that something of this name may be in the store `place`."""
        os.makedirs(self._path(name), mode=0o700, exist_ok=True)
        with open(os.path.join(self._path(name), "place"), "w", encoding="utf-8") as file:
            json.dump([self._backend, place], file)

    def note_recorded(self, name: str) -> None:
        """It is no longer for us to remove."""
        unlink(os.path.join(self._path(name), "place"))

    def drop(self, name: str) -> bool:
        """Remove a layer that no record names; False: not now, its intent remains."""
        try:
            self._layers.drop(name)
        except SandboxKernelError:
            return False
        _delete(self._path(name))
        return True

    def sweep(self, place: str, known: set[str]) -> Iterator[str]:
        """Remove what dead builders left; the name of each.

        Args:
            place: of the store as it is now.
            known: names of layers that are recorded: of these a builder left its notes only.
        """
        for name in names_in(self._parent, "", NAME):
            path = self._path(name)
            lock = open_locked(f"{path}.lock", fcntl.LOCK_EX)
            if lock is None and os.path.exists(f"{path}.lock"):
                continue  # it lives
            intent = _intent(path)
            is_ours = intent is None or intent == [self._backend, place]
            is_layer = intent is not None and name not in known
            if is_ours and (not is_layer or self.drop(name)):
                _delete(path)
                unlink(f"{path}.lock")
                yield name
            if lock is not None:
                os.close(lock)

    def _path(self, name: str) -> str:
        return os.path.join(self._parent, name)


def _intent(path: str) -> Any:
    try:
        with open(os.path.join(path, "place"), "rb") as file:
            return json.loads(file.read(65536))
    except (OSError, ValueError, RecursionError):
        return None


def _delete(path: str) -> None:
    with suppress(OSError):
        sealing.delete(path)
