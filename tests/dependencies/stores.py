"""A store that is a directory, and layers of one file that were never built."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers, directory
from sandbox_kernel.dependencies.records import Package
from sandbox_kernel.dependencies.store import Store

KEY = "ab" * 32


def open_store(layers=None):
    return Store("bubblewrap", layers or BubblewrapLayers())


def add(where, key=KEY, content=b"x = 1\n", fill=None, name="packaged"):
    with where.building() as building:
        (Path(building.directory) / "lib").mkdir()
        (Path(building.directory) / "lib" / "module.py").write_bytes(content)
        if fill is not None:
            fill(Path(building.directory))
        return where.add(
            building,
            key,
            SandboxSpec(),
            ecosystem="pip",
            requirements=(name,),
            packages=(Package(name, "1.0", "sha256:00"),),
            built_for={"python": "3"},
        )


def host_path(layer):
    return Path(directory()) / layer.name


def names_in(path):
    return sorted(os.listdir(path))
