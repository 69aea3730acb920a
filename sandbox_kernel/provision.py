"""Start a guest before anything else is imported.

A kernel's start-up is a race between host and guest: the sooner the guest is launched,
the more of its start happens while the host still imports. So this module is light, and
needs neither an event loop nor `session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_kernel import backends, languages, seeds
from sandbox_kernel.backends.base import Backend, Sandbox, SandboxSpec
from sandbox_kernel.guest.framing import Kind, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox_kernel.settings import Settings

_LIMITS_FOR_GUEST = (
    "memory_bytes",
    "cpus",
    "processes",
    "workspace_bytes",
    "workspace_inodes",
    "open_files",
    "output_bytes",
    "artifact_bytes",
    "displays",
    "artifacts",
)


def spec_from(settings: Settings) -> SandboxSpec:
    """What `settings` ask a backend for."""
    return SandboxSpec(
        language=settings.language,
        limits=settings.limits,
        network=settings.network,
        python=settings.python,
        image=settings.image,
        runtime=settings.runtime,
        mounts=settings.mounts,
        environment=settings.environment,
        shows_layers=settings.dependencies != "none",
        # Made in the environment of this host's Python, which an image does not have.
        home_files=seeds.find(settings.python) if backends.shows_host(settings.backend) else {},
    )


def provision(
    backend: Backend, spec: SandboxSpec, *, runner: Sequence[str] | None = None
) -> Sandbox:
    """A sandbox on its way up, with its first frame written. Returns at once.

    Args:
        runner: what to run instead of the language's own runner.

    Raises:
        BackendUnavailable: it is plain without waiting that this cannot work.
        SettingsError: the spec asks for what the backend or the registry does not have.
    """
    language = languages.get(spec.language)
    if not backends.shows_host(backend.name):
        language = language.in_image()
    sandbox = backend.launch(spec)
    configuration: dict[str, Any] = {
        "language": language.name,
        "runner": list(runner or language.runner_argv),
        "environment": dict(spec.environment),
        "workspace": "/workspace",
        "limits": {name: getattr(spec.limits, name) for name in _LIMITS_FOR_GUEST},
        "watch_memory": sandbox.needs_memory_watch,
    }
    sandbox.greet(pack(Kind.CONFIGURE, 0, configuration))
    return sandbox
