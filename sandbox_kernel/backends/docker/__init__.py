"""Sandboxes by Docker Engine or an engine with its API: one container a session, from an image.

In the order of a start: `backend` takes a spec; `bringup` makes the calls in a thread, with
the body that `container` writes (`seccomp`, `mounts` and `owners` have their parts in it);
`engine` is the client, `stream` the hijacked connection, `sandbox` the host's end of it and
`diagnosis` its words. `guest_code` goes into images that were made without it, and `shell`
stands in where an image has no Python. `setup` builds the images below `images/`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox_kernel.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is."""
    if name == "DockerBackend":
        from sandbox_kernel.backends.docker.backend import DockerBackend

        return DockerBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
