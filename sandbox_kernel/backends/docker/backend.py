"""Containers by Docker Engine or any engine that speaks its API.

`launch` returns at once; `bringup` makes the calls in a thread, and `sandbox` is the host's
end of the container from then on.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, ClassVar

from sandbox_kernel import languages
from sandbox_kernel.backends.base import Backend, Check, SandboxSpec
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.backends.docker.sandbox import DockerSandbox
from sandbox_kernel.errors import BackendUnavailable, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.backends.docker.layers import DockerLayers

# One client a process: it holds connections, and the SDK's import costs 0.2 s.
_ENGINE = Engine()


class DockerBackend(Backend):
    """One container a session."""

    name: ClassVar[str] = "docker"

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or _ENGINE
        self._has_collected = False

    def check(self) -> Check:
        from sandbox_kernel.backends.docker.check import check

        return check(self)

    def launch(self, spec: SandboxSpec) -> DockerSandbox:
        _refuse_what_we_lack(spec)
        sandbox = DockerSandbox(self.engine, spec, secrets.token_hex(16), _boundary(spec))
        sandbox.begin()
        self._collect_on_the_side()
        return sandbox

    def collect_garbage(self) -> list[str]:
        """
        Raises:
            BackendUnavailable: no engine.
        """
        from sandbox_kernel.backends.docker import owners

        return owners.collect(self.engine.api())

    def layer_store(self) -> DockerLayers:
        from sandbox_kernel.backends.docker.layers import DockerLayers

        return DockerLayers(self.engine)

    def _collect_on_the_side(self) -> None:
        """What dead owners left goes with the next start; that waits for nothing."""
        if not self._has_collected:
            self._has_collected = True
            threading.Thread(target=self._collect_quietly, name="sandbox-gc", daemon=True).start()

    def _collect_quietly(self) -> None:
        try:
            self.collect_garbage()
        except BackendUnavailable:
            return  # the sandbox itself says so


def _refuse_what_we_lack(spec: SandboxSpec) -> None:
    if spec.network != "none":
        raise SettingsError(
            f"network is {spec.network!r}; the docker backend has no network but 'none'. "
            "Leave it out."
        )
    if spec.python is not None:
        raise SettingsError(
            f"python is {spec.python!r}; the docker backend runs the Python of an image. Leave "
            "it out and choose an image, or use the bubblewrap backend."
        )


def _boundary(spec: SandboxSpec) -> str:
    """One line for the banner: what stands between guest and host."""
    image = spec.image or languages.get(spec.language).image
    if spec.runtime:
        # It may bring a kernel of its own, with rules of its own; what it is, its name tells.
        by = f"by the runtime {spec.runtime}"
    else:
        by = "with namespaces and seccomp on the kernel of the engine's machine"
    return (
        f"docker: a container of {image} {by}, no capability, no network, a user without rights, "
        "memory by cgroup"
    )
