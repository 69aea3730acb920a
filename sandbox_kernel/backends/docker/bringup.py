"""From a spec to an attached, running container: the calls, in their order. In a thread.

Rule 1: images are looked up and never pulled: whoever starts a notebook waits for no registry.
Rule 2: whatever goes wrong is one sentence with the remedy, and leaves no container behind.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox_kernel import languages
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import (
    container,
    engine,
    guest_code,
    gvisor,
    layers,
    mounts,
    owners,
    seccomp,
)
from sandbox_kernel.backends.docker.stream import STDOUT, Pieces, Stream
from sandbox_kernel.errors import BackendUnavailable, SandboxKernelError, SettingsError

# From the start of a container to its first word.
ANNOUNCE_TIMEOUT_S = 15.0
# An unknown image may say anything before: a warning of its shell, or the same byte for ever.
_MAX_ANNOUNCEMENT_BYTES = 64 * 1024


class Started(NamedTuple):
    """A container that runs."""

    container_id: str
    stream: Stream
    pieces: Pieces
    early: list[tuple[int, bytes]]  # what came with the announcement
    has_python: bool
    is_ours: bool  # the image holds the guest's code


def start(
    eng: engine.Engine,
    spec: SandboxSpec,
    identity: str,
    note_container: Callable[[str], None],
    command: list[str] | None = None,
) -> Started:
    """Create, attach, start, and see what is there.

    Args:
        note_container: hears the id before anything runs. Who gives up meanwhile removes it.
        command: runs as PID 1 instead of the supervisor, which None means.

    Raises:
        BackendUnavailable, SettingsError: with the remedy.
    """
    api, image = eng.api(), spec.image or languages.get(spec.language).image
    if not image:
        raise SettingsError(
            f"The language {spec.language!r} has no image: choose one with --image."
        )
    machine = container.Machine.from_info(eng.info())
    found = _inspect(eng, image, machine)
    is_ours = (found.get("Config", {}).get("Labels") or {}).get(
        guest_code.GUEST_LABEL
    ) == guest_code.digest()
    binds, tmpfs = mounts.host_config(
        spec.mounts, is_local=eng.is_local(), data_root=str(eng.info().get("DockerRootDir") or "")
    )
    uid, gid = mounts.writer_of(binds) or _throw_away_user()
    request = container.body(
        spec,
        machine,
        image=image,
        command=command or _command(is_ours=is_ours),
        uid=uid,
        gid=gid,
        seccomp=seccomp.profile(machine.architecture),
        labels=owners.labels(identity),
        mounts=[*binds, layers.mount()] if spec.shows_layers else binds,
        tmpfs=tmpfs,
        volumes=found.get("Config", {}).get("Volumes") or (),
        image_variables=found.get("Config", {}).get("Env") or (),
    )
    if gvisor.is_used(spec.runtime, eng.info()):
        request = gvisor.adapted(request, spec.limits)
    with _explained(eng, image, spec):
        container_id = str(api.create_container_from_config(request)["Id"])
        note_container(container_id)
        raw = api.attach_socket(container_id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        stream = Stream(raw)
        try:
            api.start(container_id)
            if is_ours or command:
                return Started(container_id, stream, Pieces(), [], True, True)
            return _met(container_id, stream, image)
        except BaseException:
            stream.close()
            raise


def _throw_away_user() -> tuple[int, int]:
    uid = container.FIRST_UID + secrets.randbelow(container.UIDS)
    return uid, uid


def _command(*, is_ours: bool) -> list[str]:
    if is_ours:
        return list(container.SUPERVISOR)
    from sandbox_kernel.backends.docker.shell.entry import entry_script

    return ["/bin/sh", "-c", entry_script()]


def _met(container_id: str, stream: Stream, image: str) -> Started:
    """Hear what kind of image this is, and send the guest's code to one that can run it."""
    pieces, early = Pieces(), []
    line, heard_bytes = bytearray(), 0
    deadline_s = time.monotonic() + ANNOUNCE_TIMEOUT_S
    while b"\n" not in line and heard_bytes < _MAX_ANNOUNCEMENT_BYTES:
        chunk = stream.read_by(deadline_s)
        heard_bytes += len(chunk)
        if not chunk:
            break
        for number, data in pieces.feed(chunk):
            if number == STDOUT and b"\n" not in line:
                line += data
            else:
                early.append((number, data))
    word, _, rest = bytes(line).partition(b"\n")
    if word not in (b"sandbox-kernel python", b"sandbox-kernel shell"):
        if any(b"exec format error" in data for _, data in early):  # the runtime's words, or a lie
            raise BackendUnavailable(_foreign(image))
        raise BackendUnavailable(
            "The image's shell does not run what a sandbox needs. Choose an image with Python 3, "
            "or with a POSIX shell at /bin/sh."
        )
    if rest:
        early.insert(0, (STDOUT, rest))
    has_python = word.endswith(b"python")
    if has_python:
        from sandbox_kernel.backends.docker.shell.entry import bootstrap_payload

        stream.write_now(bootstrap_payload(guest_code.files()))
    return Started(container_id, stream, pieces, early, has_python, False)


def _inspect(eng: engine.Engine, image: str, machine: container.Machine) -> dict[str, Any]:
    from docker.errors import APIError, NotFound

    try:
        found: dict[str, Any] = eng.api().inspect_image(image)
    except NotFound:
        raise BackendUnavailable(_missing(image)) from None
    except APIError as error:
        raise SettingsError(
            f"image is {image!r}, which the engine refuses: {error.explanation or error}. "
            "Write it as NAME:TAG."
        ) from None
    except Exception as error:  # requests', when the engine went away
        eng.forget()
        raise engine.unavailable(error) from None
    architecture, ours = str(found.get("Architecture") or ""), machine.image_architecture
    if architecture and architecture != ours:
        raise BackendUnavailable(
            f"The image {image!r} is made for {architecture}, and the engine's machine is {ours}. "
            f"Get the image for {ours} (docker pull --platform linux/{ours} {image})."
        )
    return found


def _missing(image: str) -> str:
    if image.startswith("sandbox-kernel/"):
        known = [name for name in languages.names() if languages.get(name).image == image]
        option = "" if "python" in known or not known else f" --language {known[0]}"
        return (
            f"There is no image {image!r} on the engine. Make it with: "
            f"sandbox-kernel setup docker{option}"
        )
    return (
        f"There is no image {image!r} on the engine, and a kernel's start pulls none. Get it "
        f"with: sandbox-kernel setup docker --image {image}"
    )


@contextlib.contextmanager
def _explained(eng: engine.Engine, image: str, spec: SandboxSpec) -> Any:
    from docker.errors import APIError

    try:
        yield
    except SandboxKernelError:
        raise
    except APIError as error:
        raise BackendUnavailable(_words(str(error.explanation or error), image, spec)) from None
    except Exception as error:  # requests' and urllib3's, of an engine that is gone or hangs
        eng.forget()
        text = str(error)
        if "timed out" in text or "Timeout" in type(error).__name__:
            raise BackendUnavailable(
                f"The engine did not start a container within {eng.timeout_s:g} s. Its runtime "
                f"{spec.runtime or '(the default one)'} may hang: see the engine's log."
            ) from None
        raise engine.unavailable(error) from None


def _foreign(image: str) -> str:
    return f"The programs in the image {image!r} are for another machine. Get it for this one."


# What engines and runtimes say, and what it means.
def _words(text: str, image: str, spec: SandboxSpec) -> str:
    # A runtime may quote an image, whose words go to a terminal or a browser here.
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:400]
    if "opening seccomp profile" in text or "unknown mount option" in text:  # Podman 4
        return (
            "This engine takes neither a system call filter from its clients nor a limit on the "
            "number of files, so nothing is run in it. Use Docker Engine, which Podman 4 is not."
        )
    if "/bin/sh" in text and ("no such file" in text or "not found" in text):
        return (
            f"The image {image!r} has no shell, so nothing can be run in it. Choose one with "
            "/bin/sh (most have: those called distroless or scratch do not)."
        )
    if "exec format error" in text:
        return _foreign(image)
    if "mount" in text and "source path" in text:
        return f"A mount's directory is not there: {line}. Correct the setting mount."
    if "cannot run with network enabled" in text:  # gVisor's
        return (
            f"The runtime {spec.runtime or '(the default one)'} wants to set up a network, and a "
            "sandbox has none. Give it the argument --network=none (runtimeArgs in the engine's "
            "daemon.json)."
        )
    if "runtime" in text.lower() and ("not found" in text or "unknown" in text.lower()):
        return f"The engine has no runtime {spec.runtime!r}: {line}. See its daemon.json."
    return f"The engine could not start a container of {image!r}: {line}"
