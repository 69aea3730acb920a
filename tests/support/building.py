"""Real builders for tests: an index made by the test, and no other."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_kernel import backends
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.dependencies.builder import BUILD_LIMITS, BuildRecord, build
from sandbox_kernel.dependencies.requirements import Requirement, parse
from sandbox_kernel.limits import Limits
from tests.support import docker_engine

# The variables by which the machine's own settings would get in.
_PREFIXES = ("pip_", "npm_config_")


class Building:
    """Builds with the backend under test. `packages` is where pip finds packages.

    Attributes:
        layer: where a build goes; not there before.
        output: what the last build printed.
    """

    def __init__(self, backend: str, directory: Path) -> None:
        self.backend = backends.get(backend)
        self.packages = directory / "packages"
        self.packages.mkdir()
        self.layer = directory / "layer"
        self.output = ""

    async def __call__(
        self,
        *texts: str | Requirement,
        ecosystem: str = "pip",
        spec: SandboxSpec | None = None,
        on_output: Callable[[str], None] | None = None,
        **limits: Any,
    ) -> BuildRecord:
        self.output = ""

        def hear(text: str) -> None:
            self.output += text
            if on_output is not None:
                on_output(text)

        wanted = [parse(ecosystem, text) if isinstance(text, str) else text for text in texts]
        chosen = Limits(**{**BUILD_LIMITS._asdict(), **limits})
        spec = spec or SandboxSpec()
        place = self.layer
        return await build(
            self.backend, spec, ecosystem, wanted, place, on_output=hear, limits=chosen
        )


Build = Callable[..., Awaitable[BuildRecord]]


@pytest.fixture
def building(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Building]:
    """`await building("name==1")` with a directory of packages as the only index."""
    for name in os.environ:
        if name.lower().startswith(_PREFIXES):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made = Building(backend, tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.packages))
    yield made
    if backend == "docker":
        docker_engine.assert_nothing_left_of(os.getpid())
