"""`install`, `list` and `remove`: this package's kernelspecs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli.options import add_settings, chosen_settings

if TYPE_CHECKING:
    from sandbox_kernel.kernelspecs import Kernelspec


def add(commands: Any) -> None:
    _add_install(commands)
    listing = commands.add_parser("list", help="show the kernels that install wrote")
    listing.set_defaults(execute=list_kernels)
    removal = commands.add_parser("remove", help="remove a kernel that install wrote")
    removal.add_argument("name", metavar="NAME", help="as `list` shows it")
    removal.set_defaults(execute=remove)


def _add_install(commands: Any) -> None:
    parser = commands.add_parser(
        "install",
        help="make a sandbox kernel appear in Jupyter",
        description="Write a kernelspec. Its settings hold for every notebook that uses it.",
        allow_abbrev=False,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this user")
    where.add_argument("--sys-prefix", action="store_true", help="in this environment")
    where.add_argument("--prefix", metavar="P", help="under P/share/jupyter/kernels")
    parser.add_argument(
        "--name", metavar="N", help="default: sandbox-LANGUAGE, or sandbox-LANGUAGE-docker"
    )
    parser.add_argument("--display-name", metavar="D", help="what Jupyter shows")
    parser.add_argument("--force", action="store_true", help="replace what isn't ours")
    add_settings(parser)
    parser.set_defaults(execute=install)


def install(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import kernelspecs
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.settings import Settings

    spec = kernelspecs.install(
        chosen_settings(arguments),
        name=arguments.name,
        display_name=arguments.display_name,
        prefix=_prefix(arguments),
        allow_foreign=arguments.force,
    )
    print(f"Installed the kernel {spec.name} ({spec.display_name}) in {spec.directory}")
    warm_up(Settings.load(spec.options))
    if kernelspecs.find(spec.name) != spec:
        print(_shadow_note(spec), file=sys.stderr)
    return 0


def _prefix(arguments: argparse.Namespace) -> str | None:
    """The chosen prefix; None is the user's own directory."""
    from sandbox_kernel import kernelspecs

    if arguments.user:
        return None
    if arguments.sys_prefix:
        return sys.prefix
    return arguments.prefix or kernelspecs.default_prefix()


def _shadow_note(spec: Kernelspec) -> str:
    from sandbox_kernel import kernelspecs

    other = kernelspecs.find(spec.name)
    if other is None:
        return (
            "Jupyter does not look there by itself: "
            f"set JUPYTER_PATH={spec.directory.parent.parent} where you start it."
        )
    return f"Jupyter finds another kernel of that name first: {other.directory}."


def list_kernels(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import kernelspecs

    ours = [spec for spec in kernelspecs.installed() if spec.is_ours]
    if not ours:
        print("No sandbox kernel is installed. Write one with: sandbox-kernel install")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "shown as", "backend", "limits", box=None, header_style="bold")
    for spec in ours:
        table.add_row(spec.name, spec.display_name, *_in_force(spec))
    Console(highlight=False, markup=False).print(table)
    for spec in ours:
        print(f"{spec.name}: {spec.directory}")
    return 0


def _in_force(spec: Kernelspec) -> tuple[str, str]:
    """Backend and limits; or what is wrong with its settings."""
    from sandbox_kernel.errors import SettingsError
    from sandbox_kernel.limits import format_size
    from sandbox_kernel.settings import Settings

    try:
        settings = Settings.load(spec.options)
    except SettingsError as error:
        return "?", str(error)
    limits = settings.limits
    timeout = f", {limits.timeout_s:g} s a cell" if limits.timeout_s else ""
    sizes = f"{format_size(limits.memory_bytes)} memory, {limits.cpus:g} CPUs"
    return settings.backend, f"{sizes}, {limits.processes} processes{timeout}"


def remove(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import kernelspecs

    spec = kernelspecs.remove(arguments.name)
    print(f"Removed the kernel {spec.name} from {spec.directory}")
    other = kernelspecs.find(spec.name)
    if other is not None:
        print(f"Jupyter now finds {other.directory} under that name.", file=sys.stderr)
    return 0
