"""`bench`: our promises about speed, measured against ipykernel; exit code 1 if one is broken."""

from __future__ import annotations

import argparse
from typing import Any

from sandbox_kernel.cli import DONE, FAILED
from sandbox_kernel.errors import SettingsError


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure this kernel against ipykernel",
        description="Measure this kernel against ipykernel on this machine; takes minutes.",
        allow_abbrev=False,
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

    names = _chosen(arguments.only, list(engine.METRICS))
    if arguments.rounds < engine.FEWEST_ROUNDS:
        raise SettingsError(
            f"--rounds is {arguments.rounds}; a median needs at least {engine.FEWEST_ROUNDS}."
        )
    warm_up(Settings.load())
    with Console(stderr=True).status("starting") as status:
        measured = engine.measure(engine.contenders(), names, arguments.rounds, status.update)
    judgements = report.judge(measured)
    Console().print(report.table(judgements))
    if arguments.json:
        _write(arguments.json, report.as_json(measured, judgements, report.machine()))
    return DONE if all(item.is_kept for item in judgements) else FAILED


def _chosen(only: list[str] | None, known: list[str]) -> list[str]:
    for name in only or []:
        if name not in known:
            raise SettingsError(f"There is no metric {name!r}; there are {', '.join(known)}.")
    return only or known


def _write(path: str, content: Any) -> None:
    import json
    from pathlib import Path

    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
