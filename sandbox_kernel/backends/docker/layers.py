"""Layers of packages in one volume of the engine, mounted read-only into every container.

    volume sandbox-kernel-layers: shelf/<name>/

The host writes a tar of plain files itself and hands it to the engine, which unpacks it into
a container that has the volume and is never started. So nothing is run to keep a layer or to
remove one, and an engine on another machine does as well.

`shelf` has mode 0711: a guest finds what it knows the name of, and lists nothing. It lies
one step down because a fresh volume's own directory can be listed until somebody changes it,
and a guest that opened it before then could list it ever after.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox_kernel import languages
from sandbox_kernel.backends.base import LAYERS, LayerStore, SandboxSpec
from sandbox_kernel.backends.docker import container, engine, owners
from sandbox_kernel.errors import BackendUnavailable, DependencyFailed

VOLUME = "sandbox-kernel-layers"
LABEL = "org.sandbox-kernel.layers"
_SHELF = "shelf"
_SHELF_MODE = 0o711
# Unpacking gigabytes on a slow disk; who says nothing for this long is broken.
TIMEOUT_S = 300
_GO_MODE_DIR = 1 << 31


def mount(*, is_read_only: bool = True) -> dict[str, Any]:
    """One of `HostConfig.Mounts`. The engine makes the volume when it is not there."""
    return {
        "Type": "volume",
        "Source": VOLUME,
        "Target": LAYERS,
        "ReadOnly": is_read_only,
        # NoCopy: otherwise the engine copies there what the image has in that place.
        "VolumeOptions": {"NoCopy": True, "Labels": _labels()},
    }


def _labels() -> dict[str, str]:
    """Of a volume that is made now: it is told by them from another of its name, later.

    Not by its time: engines give that of the last change.
    """
    return {LABEL: secrets.token_hex(8)}


class DockerLayers(LayerStore):
    """The volume of one engine."""

    def __init__(self, eng: engine.Engine) -> None:
        self._engine = eng

    def place(self) -> str:
        from docker.errors import NotFound

        identity = str(self._engine.info().get("ID") or "engine").replace("/", "")
        with _explained(self._engine):
            api = self._engine.api()
            try:
                found = api.inspect_volume(VOLUME)
            except NotFound:
                found = api.create_volume(VOLUME, labels=_labels())
        label = (found.get("Labels") or {}).get(LABEL)
        if not label:
            raise BackendUnavailable(
                f"The engine has a volume {VOLUME!r} that is not ours. Remove it, or rename it."
            )
        return f"{identity}/{label}"

    def built_for(self, spec: SandboxSpec, ecosystem: str) -> Mapping[str, str]:
        return {
            "backend": "docker",
            "engine": str(self._engine.info().get("ID") or ""),
            "image": str(self._inspect(spec)["Id"]),
        }

    def program_path(self, spec: SandboxSpec) -> str:
        return container.program_path(spec, self._inspect(spec).get("Config", {}).get("Env") or ())

    def _inspect(self, spec: SandboxSpec) -> Any:
        from docker.errors import NotFound

        image = _image(spec)
        with _explained(self._engine):
            try:
                return self._engine.api().inspect_image(image)
            except NotFound:
                raise BackendUnavailable(
                    f"There is no image {image!r} on the engine, so nothing can be installed "
                    "for it. Make or get it with: sandbox-kernel setup docker"
                ) from None

    def guest_path(self, name: str) -> str:
        return f"{LAYERS}/{_SHELF}/{name}"

    def put(self, directory: str, name: str, spec: SandboxSpec) -> None:
        with tempfile.TemporaryFile(dir=os.path.dirname(directory)) as archive:
            write_archive(archive, directory, name)
            archive.seek(0)
            with self._container(_image(spec)) as (api, container_id):
                _unpack(api, container_id, archive)

    def drop(self, name: str) -> None:
        """A file in place of the directory: for that, the engine removes the directory."""
        with self._container() as (api, container_id):
            if _is_directory(api, container_id, name):
                buffer = io.BytesIO()
                with tarfile.open(fileobj=buffer, mode="w") as archive:
                    archive.addfile(_entry(f"{_SHELF}/{name}", 0o400))
                buffer.seek(0)
                _unpack(api, container_id, buffer)
                if _is_directory(api, container_id, name):
                    raise DependencyFailed(
                        f"The engine did not remove the layer {name[:8]}…. Remove the volume "
                        f"{VOLUME} when no kernel runs, to begin anew."
                    )

    def has(self, name: str) -> bool:
        return True  # as long as `place` is the same

    @contextlib.contextmanager
    def _container(self, image: str = "") -> Iterator[tuple[Any, str]]:
        """A client with patience and a container, never started, that may write to the volume."""
        api = engine.connect(TIMEOUT_S)
        with contextlib.closing(api), _explained(self._engine):
            request = {
                "Image": image or _any_image(api),
                "Entrypoint": ["/nothing"],
                "Labels": owners.labels(secrets.token_hex(16)),
                "HostConfig": {
                    "Mounts": [mount(is_read_only=False)],
                    "NetworkMode": "none",
                    "CapDrop": ["ALL"],
                },
            }
            container_id = str(api.create_container_from_config(request)["Id"])
            try:
                yield api, container_id
            finally:
                api.remove_container(container_id, force=True)


def write_archive(file: Any, directory: str, name: str) -> None:
    """A tar of `directory` as the layer `name`: root's, not writable, plain files only."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_entry(_SHELF, _SHELF_MODE, kind=tarfile.DIRTYPE))
        for parent, directories, names in os.walk(directory):
            directories.sort()
            inside = os.path.relpath(parent, directory)
            path = os.path.normpath(f"{_SHELF}/{name}/{inside}")
            archive.addfile(_entry(path, 0o555, kind=tarfile.DIRTYPE))
            for child in sorted(names):
                _add_file(archive, os.path.join(parent, child), f"{path}/{child}")


def _add_file(archive: tarfile.TarFile, host_path: str, path: str) -> None:
    descriptor = os.open(host_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DependencyFailed(f"An installed package has {path[-80:]!r}, which is no file.")
        entry = _entry(path, 0o555 if found.st_mode & 0o111 else 0o444)
        entry.size, entry.mtime = found.st_size, int(found.st_mtime)
        archive.addfile(entry, file)


def _entry(path: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode, entry.type = mode, kind
    return entry


def _unpack(api: Any, container_id: str, archive: Any) -> None:
    if not api.put_archive(container_id, LAYERS, archive):
        raise DependencyFailed("The engine did not take the installed packages; see its log.")


def _is_directory(api: Any, container_id: str, name: str) -> bool:
    """Asked without fetching it: the SDK's own method would begin to."""
    answer = api.head(
        api._url("/containers/{0}/archive", container_id),
        params={"path": f"{LAYERS}/{_SHELF}/{name}"},
        timeout=TIMEOUT_S,
    )
    if answer.status_code == 404:
        return False
    told = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    return bool(int(told["mode"]) & _GO_MODE_DIR)


def _image(spec: SandboxSpec) -> str:
    return spec.image or languages.get(spec.language).image


def _any_image(api: Any) -> str:
    """Whichever: nothing of it is run."""
    found = api.images()
    if not found:
        raise BackendUnavailable("The engine has no image, so no container can be made on it.")
    return str(found[0]["Id"])


@contextlib.contextmanager
def _explained(eng: engine.Engine) -> Iterator[None]:
    from docker.errors import APIError
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        text = " ".join(str(error.explanation or error).split())[:300]
        raise DependencyFailed(f"The engine could not keep or remove packages: {text}") from None
    except (RequestException, KeyError, ValueError) as error:
        eng.forget()
        raise engine.unavailable(error) from None
