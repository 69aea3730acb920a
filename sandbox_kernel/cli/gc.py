"""`gc`: remove what sandboxes left whose owner is dead, and packages that nobody uses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import complain
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend

DAY_S = 86400.0


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "gc",
        help="remove what dead kernels left behind, and packages that nobody uses",
        description="Remove what dead kernels left behind, and installed packages (%dependencies) "
        "that were not used for long or are too many. What a living kernel uses stays.",
    )
    parser.add_argument(
        "--cache-size", metavar="10g",
        help="bytes of packages to keep for each backend (default: the setting dependency_cache)",
    )  # fmt: skip
    parser.add_argument(
        "--cache-days", metavar="90", help="days that unused packages are kept (default: 90)"
    )
    parser.set_defaults(execute=collect)


def collect(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import backends
    from sandbox_kernel.sharing.listing import collect_garbage

    max_bytes, max_age_s = _bounds(arguments)
    removed, code = collect_garbage(), 0
    for name in backends.names():
        try:
            backend = backends.get(name)
            removed += backend.collect_garbage()
            removed += _collect_layers(backend, max_bytes, max_age_s)
        except SandboxKernelError as error:
            code = complain(f"{name}: {error}")
    for line in removed:
        print(line)
    if not removed:
        print("Nothing was left behind.")
    return code


def _bounds(arguments: argparse.Namespace) -> tuple[int, float]:
    from sandbox_kernel.dependencies.store import MAX_AGE_S
    from sandbox_kernel.limits import parse_size
    from sandbox_kernel.settings import Settings

    if arguments.cache_size is None:
        max_bytes = Settings.load().dependency_cache_bytes
    else:
        max_bytes = parse_size(arguments.cache_size, "--cache-size")
    return max_bytes, MAX_AGE_S if arguments.cache_days is None else _days(arguments.cache_days)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise SettingsError(f"--cache-days is {text!r}, which is not a number of days such as 30.")
    return days * DAY_S


def _collect_layers(backend: Backend, max_bytes: int, max_age_s: float) -> list[str]:
    from sandbox_kernel.dependencies.store import Store

    layers = backend.layer_store()
    if layers is None:
        return []
    found = Store(backend.name, layers).collect(max_bytes=max_bytes, max_age_s=max_age_s)
    return [f"{backend.name}: {line}" for line in found]
