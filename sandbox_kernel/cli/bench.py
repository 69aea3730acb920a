"""`bench`: our promises about speed, measured against others; exit code 1 if one is broken."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED
from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.bench import Measured, Suite


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure this kernel against ipykernel",
        description="Measure this kernel against ipykernel on this machine, or containers "
        "against docker run and bubblewrap, or `engine`: the Python API, on every backend that "
        "works here; takes minutes.",
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="?", choices=["engine"], help="the Python API's engine")
    parser.add_argument("--backend", metavar="NAME", help="of what is measured; docker: containers")
    parser.add_argument("--image", metavar="IMAGE", help="of the containers")
    parser.add_argument(
        "--language", metavar="NAME", help="measure this language, or all that can run here"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="at least 5")
    parser.add_argument("--json", metavar="PATH", help="write everything here too")
    parser.add_argument("--only", metavar="NAME", action="append", help="this metric; repeatable")
    parser.set_defaults(execute=bench)


def bench(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from sandbox_kernel import bench as engine
    from sandbox_kernel.bench import report
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.settings import Settings

    if arguments.rounds < engine.FEWEST_ROUNDS:
        raise SettingsError(
            f"--rounds is {arguments.rounds}; a median needs at least {engine.FEWEST_ROUNDS}."
        )
    suite = _suite(arguments)
    names = _chosen(arguments.only, list(suite.jobs))
    warm_up(Settings.load({"backend": "auto"}))  # seeds: of this host's Python
    with Console(stderr=True).status("starting") as status:
        measured = engine.measure(suite, names, arguments.rounds, status.update)
    judgements = report.judge(measured, suite.promises, ours=suite.ours)
    _show(suite, measured, report.tables(judgements, suite.ours))
    if arguments.json:
        machine = report.machine(suite.details)
        _write(arguments.json, report.as_json(measured, judgements, machine))
    return FAILED if any(item.is_broken for item in judgements) else DONE


def _suite(arguments: argparse.Namespace) -> Suite:
    """What the options ask for, where they are silent the settings."""
    from sandbox_kernel import bench as engine
    from sandbox_kernel.settings import Settings

    backend, image, language = arguments.backend, arguments.image, arguments.language
    if arguments.what:
        from sandbox_kernel.bench import engine as programs

        if image or language:
            raise SettingsError("`bench engine` measures Python; leave out --image and --language.")
        return programs.suite(backend)
    settings = Settings.load({"backend": backend} if backend else {})
    if language:
        from sandbox_kernel.bench import languages

        return languages.suite(language, settings.backend)
    if settings.backend == "docker":
        from sandbox_kernel.bench import containers

        return containers.suite(image)
    if image:
        raise SettingsError(
            f"--image is {image!r}, but the backend {settings.backend} runs no images. "
            "Add --backend docker."
        )
    return engine.against_ipykernel(settings.backend)


def _chosen(only: list[str] | None, known: list[str]) -> list[str]:
    for name in only or []:
        if name not in known:
            raise SettingsError(f"There is no metric {name!r}; there are {', '.join(known)}.")
    return only or known


def _show(suite: Suite, measured: list[Measured], tables: list[Any]) -> None:
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)
        console.print()
    for note in suite.notes:
        console.print(note, highlight=False, markup=False)
    for item in measured:
        if item.omission:
            print(f"{item.metric} was left out: {item.omission}.", file=sys.stderr)


def _write(path: str, content: Any) -> None:
    import json
    from pathlib import Path

    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
