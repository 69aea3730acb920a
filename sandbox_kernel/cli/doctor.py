"""`doctor`: what isolates here, what is in force and why; exit code 1 when nothing can."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED
from sandbox_kernel.cli.options import add_settings, chosen_settings

if TYPE_CHECKING:
    from rich.console import Console

    from sandbox_kernel.doctor import Report

_STATES = {"ready": ("green", "ok"), "unknown": ("yellow", "?"), "missing": ("yellow", "no")}
_MARKS = {"good": ("green", "ok"), "note": ("yellow", "note"), "problem": ("red", "problem")}


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="try what isolates here and say what is in force", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings(parser)
    parser.set_defaults(execute=examine)


def examine(arguments: argparse.Namespace) -> int:
    from sandbox_kernel import doctor

    report = doctor.examine(chosen_settings(arguments))
    if arguments.json:
        import json

        print(json.dumps(report.as_json(), indent=1))
    else:
        from rich.console import Console

        _print(report, Console(highlight=False, markup=False, soft_wrap=True))
    return DONE if report.is_usable else FAILED


def _print(report: Report, console: Console) -> None:
    console.print(f"sandbox-kernel {report.version}", style="bold")
    if report.is_usable:
        console.print(f"Cells run behind: {report.boundary} (backend {report.chosen_backend})")
        console.print(f"They see the environment of {report.python}, read-only.")
    else:
        console.print("Nothing isolates here, so no cell will run.", style="bold red")
    _print_findings(report, console)
    _print_languages(report, console)
    _print_details(report, console)
    _print_settings(report, console)


def _print_findings(report: Report, console: Console) -> None:
    from rich.text import Text

    console.print()
    for finding in report.findings:
        colour, word = _MARKS[finding.level]
        line = Text.assemble((f"{word:8}", colour), (f"{finding.subject}: ", "bold"), finding.text)
        console.print(line)
        if finding.remedy:
            console.print(f"        -> {finding.remedy}", style=colour)


def _print_languages(report: Report, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("language", "", box=None, header_style="bold")
    table.add_column("runs with", overflow="fold")  # paths are copied from here
    for found in report.languages:
        colour, word = _STATES[found.state]
        what = found.found if found.state == "ready" else f"{found.reason} {found.remedy}"
        table.add_row(found.language, Text(word, colour), Text(what.strip()))
    console.print()
    console.print(table)


def _print_details(report: Report, console: Console) -> None:
    for check in report.checks:
        console.print(f"\n{check.backend}", style="bold")
        for name, finding in check.details.items():
            console.print(f"  {name}: {finding}")


def _print_settings(report: Report, console: Console) -> None:
    from rich.table import Table

    table = Table("setting", "value", "from", box=None, header_style="bold")
    for name, row in report.settings.items():
        table.add_row(name, row["value"] or "-", row["source"])
    console.print()
    console.print(table)
