"""Which layers there are on this machine, who uses them, and which may go.

    <cache>/sandbox-kernel/dependencies/
        records/<key>.json   one file a layer: its name, what is in it; its time of change is
                             when it was last used, and who uses it holds a lock on it
        building/            what is being made, or has to be removed yet: see `unfinished`
        layers/<name>/       the layers of backends that run on this machine

No list of everything that two processes could spoil for each other: a file appears whole or
not at all, and a lock goes with the process that held it, however that ended.

Rule 1: who has a layer's name can look into it, so names are random, and neither records nor
        names are ever where a guest can see them.
Rule 2: a layer is recorded when it is complete, and forgotten before it is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sandbox_kernel.backends.base import Layer, LayerStore, SandboxSpec
from sandbox_kernel.dependencies import cache, records
from sandbox_kernel.dependencies.records import Package, Record
from sandbox_kernel.dependencies.sealing import seal
from sandbox_kernel.dependencies.shared_files import is_same, names_in, open_locked, unlink
from sandbox_kernel.dependencies.unfinished import Building, Unfinished
from sandbox_kernel.errors import DependencyFailed
from sandbox_kernel.limits import GIB

MAX_BYTES = 10 * GIB
MAX_AGE_S = 90 * 86400.0
_KEY = re.compile(r"[0-9a-f]{64}")


class Store:
    """The layers of one backend. What `find` and `add` give is held until `close`.

    Args:
        backend: its name.
        layers: where it keeps them.
    """

    def __init__(self, backend: str, layers: LayerStore) -> None:
        self.backend = backend
        self.layers = layers
        self._root = cache.root()
        self._unfinished = Unfinished(backend, layers)
        self._holds: dict[str, int] = {}

    # -- using -----------------------------------------------------------------

    def find(self, key: str) -> Layer | None:
        """The layer under `key`, which nobody removes from now until `close`.

        Raises:
            BackendUnavailable: the store cannot be reached.
        """
        cache.require_trust()
        descriptor = open_locked(self._record_path(key), fcntl.LOCK_SH)
        if descriptor is None:
            return None
        record = records.read(descriptor)
        if record is None or not self._is_there(record):
            self._forget(key, descriptor)
            return None
        os.utime(descriptor)
        self._hold(record.name, descriptor)
        return self._layer(record)

    def close(self) -> None:
        """Hold nothing any longer. Safe to call twice."""
        while self._holds:
            os.close(self._holds.popitem()[1])

    def _hold(self, name: str, descriptor: int) -> None:
        if name in self._holds:
            os.close(descriptor)
        else:
            self._holds[name] = descriptor

    def _is_there(self, record: Record) -> bool:
        return (
            record.backend == self.backend
            and record.place == self.layers.place()
            and self.layers.has(record.name)
        )

    def _forget(self, key: str, descriptor: int | None) -> None:
        """Remove a record of what is not there, unless another took its place meanwhile."""
        if descriptor is not None:
            path = self._record_path(key)
            if is_same(descriptor, path):
                unlink(path)
            os.close(descriptor)

    def _layer(self, record: Record) -> Layer:
        return Layer(
            record.name,
            record.ecosystem,
            self.layers.guest_path(record.name),
            record.requirements,
            tuple((item.name, item.version) for item in record.packages),
            record.size_bytes,
        )

    # -- making ----------------------------------------------------------------

    @contextmanager
    def building(self) -> Iterator[Building]:
        """A fresh, empty directory; whatever happens, nothing of it stays but what `add` took.

        Raises:
            DependencyFailed: the cache cannot be written to.
        """
        try:
            made = self._begin()
        except OSError as error:
            raise DependencyFailed(
                f"Packages are kept in {self._root}, which cannot be written to "
                f"({error.strerror}). Make it writable, or set XDG_CACHE_HOME."
            ) from None
        try:
            yield made
        finally:
            self._unfinished.end(made)

    def _begin(self) -> Building:
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        for part in ("records", "building"):
            os.makedirs(os.path.join(self._root, part), mode=0o700, exist_ok=True)
        cache.require_trust()
        return self._unfinished.begin()

    def add(
        self,
        building: Building,
        key: str,
        spec: SandboxSpec,
        *,
        ecosystem: str,
        requirements: tuple[str, ...],
        packages: tuple[Package, ...],
        built_for: Mapping[str, str],
    ) -> Layer:
        """Make what was built the layer under `key`, held until `close`.

        Where another process was quicker, the layer is theirs.

        Raises:
            BackendUnavailable, DependencyFailed: it could not be put where guests see it.
        """
        size_bytes, files = seal(building.directory)
        place = self.layers.place()
        record = Record(
            building.name, self.backend, place, ecosystem, requirements, packages,
            size_bytes, files, time.time(), dict(built_for),
        )  # fmt: skip
        self._unfinished.note_intent(building.name, place)
        self.layers.put(building.directory, building.name, spec)
        descriptor = self._publish(building, key, record)
        while descriptor is None:
            theirs = self.find(key)
            if theirs is not None:
                return theirs
            time.sleep(0.02)  # one that is just being removed
            descriptor = self._publish(building, key, record)
        self._unfinished.note_recorded(building.name)
        self._hold(record.name, descriptor)
        return self._layer(record)

    def _publish(self, building: Building, key: str, record: Record) -> int | None:
        """Let others find it. A locked descriptor of the record, or None: theirs is there."""
        draft = os.path.join(building.path, "record.json")
        with open(draft, "w", encoding="utf-8") as file:
            file.write(record.to_json())
        descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # before anybody can see it
        try:
            os.link(draft, self._record_path(key))
        except FileExistsError:
            os.close(descriptor)
            return None
        return descriptor

    # -- removing --------------------------------------------------------------

    def collect(self, *, max_bytes: int = MAX_BYTES, max_age_s: float = MAX_AGE_S) -> list[str]:
        """Remove what nobody finished or used for long, then the longest unused until the rest
        is within `max_bytes`; never what is in use. A line for each thing removed.

        Raises:
            BackendUnavailable: the store cannot be reached.
        """
        if not os.path.isdir(self._root):
            return []
        cache.require_trust()
        place = self.layers.place()
        found = sorted(self._records(place), key=lambda item: item[1])
        known = {record.name for _, _, record in found}
        removed = [f"unfinished layer {name[:8]}…" for name in self._unfinished.sweep(place, known)]
        total = sum(record.size_bytes for _, _, record in found)
        now = time.time()
        for key, used_s, record in found:
            is_old = now - used_s > max_age_s
            if (is_old or total > max_bytes) and self._remove(key, record, place):
                total -= record.size_bytes
                days = max(0, int((now - used_s) / 86400))
                why = f"unused for {days} days" if is_old else "the longest unused of too many"
                removed.append(f"{record.title}, {why}")
        return removed

    def remove_all(self) -> list[str]:
        """As `collect`, with room for nothing."""
        return self.collect(max_bytes=0, max_age_s=0)

    def _records(self, place: str) -> Iterator[tuple[str, float, Record]]:
        """Key, time of the last use and record of each layer that is there."""
        for key in names_in(os.path.join(self._root, "records"), ".json", _KEY):
            path = self._record_path(key)
            try:
                with open(path, "rb") as file:
                    record, used_s = records.read(file.fileno()), os.fstat(file.fileno()).st_mtime
            except OSError:
                continue
            if record is None:
                self._forget(key, open_locked(path, fcntl.LOCK_SH))
            elif record.backend == self.backend:
                if record.place == place:
                    yield key, used_s, record
                elif _is_replaced(record.place, place) or time.time() - used_s > MAX_AGE_S:
                    self._forget(key, open_locked(path, fcntl.LOCK_EX))

    def _remove(self, key: str, record: Record, place: str) -> bool:
        """False: it is in use, or cannot be removed now."""
        path = self._record_path(key)
        descriptor = open_locked(path, fcntl.LOCK_EX)
        if descriptor is None:
            return False
        try:
            self._unfinished.note_intent(record.name, place)
            unlink(path)
            return self._unfinished.drop(record.name)
        finally:
            os.close(descriptor)

    def _record_path(self, key: str) -> str:
        return os.path.join(self._root, "records", f"{key}.json")


def _is_replaced(old: str, new: str) -> bool:
    """Whether the one store took the place of the other: the part before `/` is whose it is."""
    return old.partition("/")[0] == new.partition("/")[0]
