"""Makes what every new home starts with, where a person waits anyway (see `seeds`)."""

from __future__ import annotations

import sys

from sandbox_kernel import seeds
from sandbox_kernel.settings import Settings


def warm_up(settings: Settings) -> None:
    """Build the seeds if they are due. Without them kernels work, and start slower."""
    from sandbox_kernel import backends

    if not backends.shows_host(settings.backend) or not seeds.is_due(settings.python):
        return
    import asyncio

    from rich.console import Console

    from sandbox_kernel.backends.base import SandboxSpec
    from sandbox_kernel.errors import SandboxKernelError

    spec = SandboxSpec(python=settings.python)
    with Console(stderr=True).status("Preparing fonts and completion for quick starts…"):
        try:
            asyncio.run(seeds.build(backends.get(settings.backend), spec))
        except (SandboxKernelError, OSError) as error:
            print(f"Kernels will start slower at first: {error}", file=sys.stderr)
