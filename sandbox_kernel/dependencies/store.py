"""Which layers there are on this machine, who uses them, and which may go.

    <cache>/sandbox-kernel/dependencies/
        records/<key>.json   one file a layer: its name, what is in it; its time of change is
                             when it was last used, and who uses it holds a lock on it
        building/<name>/     a layer that is being made, or has to be removed yet
        building/<name>.lock held by who makes it
        layers/<name>/       the layers of backends that run on this machine

No list of everything that two processes could spoil for each other: a file appears whole or
not at all, and a lock goes with the process that held it, however that ended.

Rule 1: who has a layer's name can look into it, so names are random, and neither records nor
        names are ever where a guest can see them.
Rule 2: a layer is recorded when it is complete, and forgotten before it is removed.
Rule 3: a record is only believed if it looks like one of ours; else it is none.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from sandbox_kernel.backends.base import Layer, LayerStore, SandboxSpec
from sandbox_kernel.dependencies.sealing import delete, seal
from sandbox_kernel.errors import DependencyFailed, SandboxKernelError
from sandbox_kernel.limits import GIB, format_size

MAX_BYTES = 10 * GIB
MAX_AGE_S = 90 * 86400.0
FORMAT = 1
_MAX_RECORD_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"[0-9a-f]{64}")


def root() -> str:
    """Where all of it is; the directory may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "sandbox-kernel", "dependencies")


def problem() -> str:
    """Why other users of this machine could change what is kept there, in a sentence, or "".

    What is ours and too open is closed. The cache itself may be root's, or open to all where
    nobody can rename what is another's.
    """
    where, us = root(), os.geteuid()
    cache = os.path.dirname(os.path.dirname(where))
    try:
        found = os.stat(cache)
    except OSError:
        return ""  # who makes it says why that cannot be
    is_open = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if is_open or found.st_uid not in (us, 0):
        return _distrusted(cache)
    parts = (os.path.join(where, part) for part in ("records", "building", "layers"))
    for path in (os.path.dirname(where), where, *parts):
        try:
            own, found = os.lstat(path), os.stat(path)
            if (own.st_uid, found.st_uid) != (us, us):
                return _distrusted(path)
            if found.st_mode & 0o022:
                os.chmod(path, stat.S_IMODE(found.st_mode) & ~0o022)
        except OSError:
            continue
    return ""


def _distrusted(path: str) -> str:
    return (
        f"Packages are kept below {path}, which another user of this machine can change. Set "
        "XDG_CACHE_HOME to a directory of your own."
    )


def _require_trust() -> None:
    if told := problem():
        raise DependencyFailed(told)


class Package(NamedTuple):
    """One package in a layer."""

    name: str
    version: str
    sha256: str = ""  # of the archive that it came from, where the index gave one file


class Record(NamedTuple):
    """What is known of one layer."""

    name: str
    backend: str
    place: str
    ecosystem: str
    requirements: tuple[str, ...]
    packages: tuple[Package, ...]
    size_bytes: int
    files: int
    created_s: float
    built_for: Mapping[str, str]

    def to_json(self) -> str:
        content = {**self._asdict(), "packages": [item._asdict() for item in self.packages]}
        return json.dumps({"format": FORMAT, **content, "built_for": dict(self.built_for)})

    @classmethod
    def from_json(cls, text: bytes) -> Record | None:
        """None when it is no record of this format."""
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                return None
            packages = tuple(Package(**item) for item in content.pop("packages"))
            requirements = tuple(map(str, content.pop("requirements")))
            made = cls(packages=packages, requirements=requirements, **content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        is_sound = (
            isinstance(made.name, str)
            and _NAME.fullmatch(made.name)
            and all(isinstance(made[i], str) for i in (1, 2, 3))
            and isinstance(made.size_bytes, int)
        )
        return made if is_sound else None

    @property
    def title(self) -> str:
        """For a reader."""
        names = ", ".join(self.requirements[:5]) + (", …" if len(self.requirements) > 5 else "")
        return f"layer of {self.ecosystem} packages {names} ({format_size(self.size_bytes)})"


class Building(NamedTuple):
    """A layer in the making: `directory` is to be filled."""

    name: str
    path: str
    directory: str
    lock: int


class Store:
    """The layers of one backend. What `find` and `add` give is held until `close`.

    Args:
        backend: its name.
        layers: where it keeps them.
    """

    def __init__(self, backend: str, layers: LayerStore) -> None:
        self.backend = backend
        self.layers = layers
        self._root = root()
        self._holds: dict[str, int] = {}

    # -- using -----------------------------------------------------------------

    def find(self, key: str) -> Layer | None:
        """The layer under `key`, which nobody removes from now until `close`.

        Raises:
            BackendUnavailable: the store cannot be reached.
        """
        _require_trust()
        descriptor = _open_locked(self._record_path(key), fcntl.LOCK_SH)
        if descriptor is None:
            return None
        record = _read(descriptor)
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
            if _is_same(descriptor, path):
                _unlink(path)
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
            # With an intent there: it was put where guests see it, and is not recorded.
            if _read_intent(made.path) is None or self._drop(made.name):
                _delete(made.path)
                _unlink(f"{made.path}.lock")
            os.close(made.lock)

    def _begin(self) -> Building:
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        for part in ("records", "building"):
            os.makedirs(os.path.join(self._root, part), mode=0o700, exist_ok=True)
        _require_trust()
        while True:
            name = os.urandom(16).hex()
            path = os.path.join(self._root, "building", name)
            # Before the directory, so that one whose lock is free has lost its maker.
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.mkdir(path, 0o700)
            if _is_same(lock, f"{path}.lock"):
                directory = os.path.join(path, "layer")
                os.mkdir(directory, 0o700)
                return Building(name, path, directory, lock)
            os.rmdir(path)
            os.close(lock)

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
        self._note_intent(building.path, place)
        self.layers.put(building.directory, building.name, spec)
        descriptor = self._publish(building, key, record)
        while descriptor is None:
            theirs = self.find(key)
            if theirs is not None:
                return theirs
            time.sleep(0.02)  # one that is just being removed
            descriptor = self._publish(building, key, record)
        _unlink(os.path.join(building.path, "place"))
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

    def _note_intent(self, path: str, place: str) -> None:
        """Leave word of where something of this name may be; for `collect`."""
        with open(os.path.join(path, "place"), "w", encoding="utf-8") as file:
            json.dump([self.backend, place], file)

    # -- removing --------------------------------------------------------------

    def collect(self, *, max_bytes: int = MAX_BYTES, max_age_s: float = MAX_AGE_S) -> list[str]:
        """Remove what nobody finished or used for long, then the longest unused until the rest
        is within `max_bytes`; never what is in use. A line for each thing removed.

        Raises:
            BackendUnavailable: the store cannot be reached.
        """
        if not os.path.isdir(self._root):
            return []
        _require_trust()
        place = self.layers.place()
        found = sorted(self._records(place), key=lambda item: item[1])
        known = {record.name for _, _, record in found}
        removed = [f"unfinished layer {name[:8]}…" for name in self._abandoned(place, known)]
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
        for key in _names(os.path.join(self._root, "records"), ".json", _KEY):
            path = self._record_path(key)
            try:
                with open(path, "rb") as file:
                    record, used_s = _read(file.fileno()), os.fstat(file.fileno()).st_mtime
            except OSError:
                continue
            if record is None:
                self._forget(key, _open_locked(path, fcntl.LOCK_SH))
            elif record.backend == self.backend:
                if record.place == place:
                    yield key, used_s, record
                elif _is_replaced(record.place, place) or time.time() - used_s > MAX_AGE_S:
                    self._forget(key, _open_locked(path, fcntl.LOCK_EX))

    def _remove(self, key: str, record: Record, place: str) -> bool:
        """False: it is in use, or cannot be removed now."""
        path = self._record_path(key)
        descriptor = _open_locked(path, fcntl.LOCK_EX)
        if descriptor is None:
            return False
        try:
            intent = os.path.join(self._root, "building", record.name)
            os.makedirs(intent, mode=0o700, exist_ok=True)
            self._note_intent(intent, place)
            _unlink(path)
            return self._drop(record.name)
        finally:
            os.close(descriptor)

    def _drop(self, name: str) -> bool:
        try:
            self.layers.drop(name)
        except SandboxKernelError:
            return False  # its directory below `building` remains for the next time
        _delete(os.path.join(self._root, "building", name))
        return True

    def _abandoned(self, place: str, known: set[str]) -> Iterator[str]:
        """Remove what dead builders left; the name of each.

        Args:
            known: names of layers that are recorded: of these a builder left its notes only.
        """
        parent = os.path.join(self._root, "building")
        for name in _names(parent, "", _NAME):
            path = os.path.join(parent, name)
            lock = _open_locked(f"{path}.lock", fcntl.LOCK_EX)
            if lock is None and os.path.exists(f"{path}.lock"):
                continue  # it lives
            intent = _read_intent(path)
            is_ours = intent is None or intent == [self.backend, place]
            is_layer = intent is not None and name not in known
            if is_ours and (not is_layer or self._drop(name)):
                _delete(path)
                _unlink(f"{path}.lock")
                yield name
            if lock is not None:
                os.close(lock)

    def _record_path(self, key: str) -> str:
        return os.path.join(self._root, "records", f"{key}.json")


# --- files and locks --------------------------------------------------------------------


def _delete(path: str) -> None:
    with suppress(OSError):
        delete(path)


def _open_locked(path: str, how: int) -> int | None:
    """A locked descriptor of the file at `path`; None: not there, or others hold it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        if _is_same(descriptor, path):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _is_same(descriptor: int, path: str) -> bool:
    """Whether the file at `path` is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _read(descriptor: int) -> Record | None:
    try:
        return Record.from_json(os.pread(descriptor, _MAX_RECORD_BYTES, 0))
    except OSError:
        return None


def _read_intent(path: str) -> Any:
    try:
        with open(os.path.join(path, "place"), "rb") as file:
            return json.loads(file.read(65536))
    except (OSError, ValueError, RecursionError):
        return None


def _names(parent: str, ending: str, form: re.Pattern[str]) -> list[str]:
    try:
        found = [name.removesuffix(ending) for name in os.listdir(parent) if name.endswith(ending)]
    except OSError:
        return []
    return sorted(name for name in found if form.fullmatch(name))


def _is_replaced(old: str, new: str) -> bool:
    """Whether the one store took the place of the other: the part before `/` is whose it is."""
    return old.partition("/")[0] == new.partition("/")[0]


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
