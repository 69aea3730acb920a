"""What packages cost that were installed before: one made by hand, in a cache of its own."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox_kernel.bench.client import Contender, Message, fresh_session
from sandbox_kernel.errors import SandboxKernelError

METRIC = "dependencies"
_NAME, _MODULE = "benchmarked-package", "benchmarked_package"
_CELLS = 20


def dependencies(side: Contender, backend: str) -> dict[str, float]:
    """What a `%dependencies` line adds to the first cell that has one, with its import."""
    shown: list[str] = []

    def note(message: Message) -> None:
        shown.append(str(message["content"].get("data")))

    with _cache() as cache:
        _install(backend)
        with fresh_session(side, XDG_CACHE_HOME=cache) as kernel:
            plain = statistics.median(kernel.run("pass") for _ in range(_CELLS))
            seconds = kernel.run(f"%dependencies {_NAME}\nimport {_MODULE}", note)
    if not any("there already" in text for text in shown):
        raise SandboxKernelError(
            "The kernel did not find the package that was made for it, so its time means nothing."
        )
    return {"seconds": seconds - plain}


@contextmanager
def _cache() -> Iterator[str]:
    """A fresh cache, for us too; nothing of it stays."""
    from sandbox_kernel.dependencies.sealing import delete

    before = os.environ.get("XDG_CACHE_HOME")
    path = tempfile.mkdtemp(prefix="sandbox-kernel-bench-")
    os.environ["XDG_CACHE_HOME"] = path
    try:
        yield path
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
        delete(path)


def _install(backend: str) -> None:
    """As a builder does, under the key that a kernel computes."""
    from sandbox_kernel import backends
    from sandbox_kernel.dependencies.manager import Dependencies
    from sandbox_kernel.dependencies.records import Package
    from sandbox_kernel.dependencies.requirements import parse_all
    from sandbox_kernel.provision import spec_from
    from sandbox_kernel.settings import Settings

    settings = Settings.load({"backend": backend})
    spec, package = spec_from(settings), Package(_NAME, "1.0")
    made = Dependencies.from_settings(backends.get(backend), spec, settings)

    def fill(directory: Path) -> tuple[Package, ...]:
        (directory / "lib").mkdir()
        (directory / "lib" / f"{_MODULE}.py").write_text("value = 1\n")
        return (package,)

    made.keep(parse_all([_NAME], "pip"), fill)
    made.close()
