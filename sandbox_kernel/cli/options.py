"""Settings as flags: one flag a row of `settings.TABLE`, so that the two never differ."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from sandbox_kernel.settings import REPEATABLE, TABLE, Setting

# Written first, in this order; the others follow in the table's.
_LEADING = ("language", "backend", "python", "memory", "cpus", "timeout", "outputs", "network")


def add_settings(parser: argparse.ArgumentParser, *, without: Iterable[str] = ()) -> None:
    """Add a flag for every setting. They are texts: `Settings.load` judges them."""
    group = parser.add_argument_group("settings of the sandbox")
    rows = {row.name: row for row in TABLE if row.name not in without}
    for name in sorted(rows, key=lambda name: (name not in _LEADING, list(rows).index(name))):
        row = rows[name]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"setting_{name}",
            metavar=row.example,
            action="append" if name in REPEATABLE else "store",
            help=_help(row),
        )


def _help(row: Setting) -> str:
    if row.is_secret:
        return argparse.SUPPRESS  # understood only so that `Settings.load` can say what to do
    return row.help.replace("%", "%%") + (f" (default: {row.default})" if row.default else "")


def chosen_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings that were given, in the shape that `Settings.load` takes."""
    found = {}
    for row in TABLE:
        value = getattr(arguments, f"setting_{row.name}", None)
        if value is not None:
            found[row.name] = "\n".join(value) if isinstance(value, list) else value
    if found.get("python"):
        # A kernelspec is read in other directories than this one.
        found["python"] = os.path.abspath(os.path.expanduser(found["python"]))
    return found
