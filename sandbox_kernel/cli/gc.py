"""`gc`: remove what sandboxes left whose owner is dead."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox_kernel.cli import complain
from sandbox_kernel.errors import BackendUnavailable


def add(commands: Any) -> None:
    parser = commands.add_parser("gc", help="remove what dead kernels left behind")
    parser.set_defaults(execute=collect)


def collect(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import backends

    removed, code = [], 0
    for name in backends.names():
        try:
            removed += backends.get(name).collect_garbage()
        except BackendUnavailable as error:
            code = complain(f"{name}: {error}")
    for line in removed:
        print(line)
    if not removed:
        print("Nothing was left behind.")
    return code
