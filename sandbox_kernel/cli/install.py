"""`install`, `list` and `remove`: this package's kernelspecs.

Rule: a kernelspec whose language cannot run here is not written, when that is certain: in
Jupyter it would be a kernel that fails. `--no-check` writes it all the same.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED
from sandbox_kernel.cli.options import add_settings, chosen_settings

if TYPE_CHECKING:
    from sandbox_kernel.kernelspecs import Kernelspec

ALL, PYTHON = "all", "python"


def add(commands: Any) -> None:
    _add_install(commands)
    listing = commands.add_parser(
        "list",
        help="show the kernels that install wrote, or the live sessions of notebooks",
        description="Show the kernels that install wrote; with --sessions the live sessions of "
        "notebooks, to which programs of yours may attach by their ids.",
    )
    listing.add_argument("--sessions", action="store_true", help="live sessions instead")
    listing.set_defaults(execute=list_kernels)
    removal = commands.add_parser("remove", help="remove a kernel that install wrote")
    removal.add_argument("name", metavar="NAME", help="as `list` shows it")
    removal.set_defaults(execute=remove)


def _add_install(commands: Any) -> None:
    parser = commands.add_parser(
        "install",
        help="make a sandbox kernel appear in Jupyter",
        description="Write a kernelspec. Its settings hold for every notebook that uses it. "
        "With --language all: one for each language that can run here.",
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
    parser.add_argument(
        "--no-check", action="store_true", help="also when the language cannot run here"
    )
    add_settings(parser)
    parser.set_defaults(execute=install)


def install(arguments: argparse.Namespace) -> int:
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.settings import Settings

    options = chosen_settings(arguments)
    if options.get("language") == ALL:
        return _install_all(arguments, options)
    _check(arguments, options)
    spec = _install(arguments, options)
    settings = Settings.load(spec.options)
    if settings.language == PYTHON:
        warm_up(settings)
    _say_if_unseen([spec])
    return DONE


def _check(arguments: argparse.Namespace, options: dict[str, str]) -> None:
    """Refuse what cannot run, and say what may not.

    Raises:
        BackendUnavailable: it certainly cannot run.
    """
    from sandbox_kernel import availability
    from sandbox_kernel.errors import BackendUnavailable
    from sandbox_kernel.settings import Settings

    if arguments.no_check:
        return
    settings = Settings.load(options)
    found = availability.Survey().at(settings.language, settings)
    if found.state == availability.MISSING:
        raise BackendUnavailable(
            f"{found.display_name} cannot run here: {found.reason} {found.remedy} "
            "Or install the kernel all the same with --no-check."
        )
    if found.state == availability.UNKNOWN:
        print(f"It cannot start yet: {found.reason} {found.remedy}".strip(), file=sys.stderr)


def _install(arguments: argparse.Namespace, options: dict[str, str]) -> Kernelspec:
    from sandbox_kernel import kernelspecs

    spec = kernelspecs.install(
        options,
        name=arguments.name,
        display_name=arguments.display_name,
        prefix=_prefix(arguments),
        allow_foreign=arguments.force,
    )
    print(f"Installed the kernel {spec.name} ({spec.display_name}) in {spec.directory}")
    return spec


def _install_all(arguments: argparse.Namespace, options: dict[str, str]) -> int:
    """Each language that can run here; the others are named with what they lack."""
    from sandbox_kernel import availability
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.errors import SettingsError
    from sandbox_kernel.settings import Settings

    if arguments.name or arguments.display_name:
        raise SettingsError(
            "--name and --display-name are for one kernel. Leave them out, or name a language."
        )
    shared = {name: text for name, text in options.items() if name != "language"}
    settings = Settings.load(shared)
    installed = []
    for found in availability.survey(settings):
        if found.state != availability.READY and not arguments.no_check:
            print(f"Skipped {found.display_name}: {found.reason} {found.remedy}".rstrip())
            continue
        try:
            # Said even of Python: settings may name another language as the usual one.
            installed.append(_install(arguments, {"language": found.language, **shared}))
        except SettingsError as error:
            print(f"Skipped {found.display_name}: {error}")
    if any(spec.options["language"] == PYTHON for spec in installed):
        warm_up(settings)
    _say_if_unseen(installed)
    return DONE if installed else FAILED


def _say_if_unseen(specs: list[Kernelspec]) -> None:
    """A note on stderr where Jupyter finds something else than what was written."""
    from sandbox_kernel import kernelspecs

    seen = {spec.name: spec for spec in kernelspecs.installed()}
    notes = (_shadow_note(spec) for spec in specs if seen.get(spec.name) != spec)
    for note in dict.fromkeys(notes):
        print(note, file=sys.stderr)


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
    if arguments.sessions:
        return _list_sessions()
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


def _list_sessions() -> int:
    import asyncio

    from sandbox_kernel.cli.run import printable
    from sandbox_kernel.sharing.listing import list_shared

    found = asyncio.run(list_shared())
    if not found:
        print("No notebook with a sandbox kernel is open, or none is shared.")
    for session in found:
        notebook = printable(session.notebook) or "a notebook without a name"
        print(
            f"{session.id}  {session.language}, {session.state}, since {session.started[:19]}Z, "
            f"kernel process {session.pid}: {notebook}"
        )
    return DONE


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
