"""What a guest must be told to find a layer's packages. Pure.

A layer is a directory, laid out as its ecosystem's own tools expect it (see `_PATHS`). Paths
of a newer layer come first. A value that the owner of the kernel set stays, after ours.

To add an ecosystem: a row in `_PATHS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sandbox_kernel.backends.base import Layer, SandboxSpec

_TRIPLES = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_LIBRARIES = ("usr/lib", "lib")

# ecosystem: (variable, directories in the layer), in the order in which they are searched.
_PATHS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "pip": (("PYTHONPATH", ("lib",)), ("PATH", ("bin",))),
    "npm": (("NODE_PATH", ("node_modules",)), ("PATH", ("node_modules/.bin", "bin"))),
    "gem": (("GEM_PATH", (".",)), ("PATH", ("bin",))),
    "cran": (("R_LIBS", (".",)),),
    "apt": (
        ("PATH", ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin", "usr/games")),
        (
            "LD_LIBRARY_PATH",
            (*(f"{lib}/{triple}" for lib in _LIBRARIES for triple in _TRIPLES), *_LIBRARIES),
        ),
    ),
    "apk": (
        ("PATH", ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin")),
        ("LD_LIBRARY_PATH", _LIBRARIES),
    ),
}
# RubyGems puts its own directories behind an empty last path only.
_ENDINGS = {"GEM_PATH": ":"}


def environment_for(
    layers: Sequence[Layer], own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables of a guest with these layers, but PATH: see `search_path_for`.

    Args:
        layers: newest first.
        own: the spec's variables; what they have for one of ours comes after it.
    """
    paths = _paths(layers)
    paths.pop("PATH", None)
    found = {}
    for name, items in paths.items():
        value = ":".join(items)
        mine = (own or {}).get(name, "")
        ending = "" if mine else _ENDINGS.get(name, "")
        found[name] = f"{value}:{mine}" if mine else value + ending
    return found


def search_path_for(layers: Sequence[Layer]) -> tuple[str, ...]:
    """The directories that come before all others in PATH."""
    return tuple(_paths(layers).get("PATH", ()))


def _paths(layers: Iterable[Layer]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for layer in layers:
        for variable, directories in _PATHS[layer.ecosystem]:
            for directory in directories:
                path = f"{layer.guest_path}/{directory}".removesuffix("/.")
                found.setdefault(variable, []).append(path)
    return found


def with_layers(spec: SandboxSpec, layers: Sequence[Layer]) -> SandboxSpec:
    """`spec` for a sandbox that has `layers` from its start; `spec` has none yet."""
    if not layers:
        return spec
    variables = environment_for(layers, spec.environment)
    return spec._replace(
        environment={**spec.environment, **variables},
        search_path=(*search_path_for(layers), *spec.search_path),
        shows_layers=True,
    )


def attached_environment(
    layers: Sequence[Layer], own: Mapping[str, str], program_path: str
) -> dict[str, str]:
    """All variables for a running guest that has `layers` from now on, PATH included."""
    path = ":".join((*search_path_for(layers), program_path))
    return {**environment_for(layers, own), "PATH": path}


def describe(layers: Iterable[Layer]) -> list[dict[str, str]]:
    """The layers as a guest is told of them (request ATTACH)."""
    return [{"ecosystem": layer.ecosystem, "path": layer.guest_path} for layer in layers]
