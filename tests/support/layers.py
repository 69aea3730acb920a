"""Layers made by hand, so that tests need no package index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sandbox_kernel import backends
from sandbox_kernel.backends.base import Backend, Layer, SandboxSpec
from sandbox_kernel.dependencies import builder
from sandbox_kernel.dependencies.builder import BuildRecord
from sandbox_kernel.dependencies.manager import Dependencies
from sandbox_kernel.dependencies.policy import Policy
from sandbox_kernel.dependencies.transfer import Resolved

CANARY = {
    "lib/canary_package/__init__.py": "value = 42\n",
    "lib/canary_package/data.txt": "data\n",
    "bin/canary": "#!/bin/sh\necho sings\n",
}


def fill(directory: Path, files: Mapping[str, str] = CANARY) -> None:
    """Write `files` below `directory`; what is in `bin` can be run."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path.parent.name in ("bin", ".bin") else 0o644)


class HandMade:
    """Takes the place of `builder.build`: writes files, and counts how often it was asked."""

    def __init__(self, files: Mapping[str, str] = CANARY) -> None:
        self.files = files
        self.asked: list[list[str]] = []

    async def build(self, _backend, _spec, _ecosystem, requirements, directory, *, on_output):  # type: ignore[no-untyped-def]
        self.asked.append([item.text for item in requirements])
        on_output(f"Collecting {requirements[0].name}\nInstalling\n")
        fill(directory, self.files)
        resolved = [Resolved(item.name, "1.0", "sha256:" + "0" * 64) for item in requirements]
        return BuildRecord(resolved, 0, 0, "", 0.0)

    def install(self, monkeypatch) -> HandMade:  # type: ignore[no-untyped-def]
        monkeypatch.setattr(builder, "build", self.build)
        return self


def manage(backend: str, policy: Policy | None = None, **spec: object) -> Dependencies:
    return Dependencies(get(backend), SandboxSpec(**spec), policy or Policy())  # type: ignore[arg-type]


def get(backend: str) -> Backend:
    return backends.get(backend)


def names(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]
