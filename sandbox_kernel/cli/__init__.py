"""The command `sandbox-kernel`: a thin adapter; what it does lives in the modules it calls.

Rule 1: `--help` imports argparse and these small files, nothing else.
Rule 2: people see one clear sentence with the remedy, never a traceback.
        Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 130 Ctrl-C.
Rule 3: results go to stdout, all else to stderr.

To add a command: a module here with `add(commands)`, which sets `execute` as the
parser's default, and its name in `_MODULES`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sandbox_kernel import __version__
from sandbox_kernel.errors import SandboxKernelError, SettingsError

DONE, FAILED, WRONG_USAGE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 124, 130

_MODULES = ("doctor", "demo", "install", "setup", "run", "chat", "gc", "mcp", "bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.execute(chosen))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output went away (`| head`). Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except SettingsError as error:
        return complain(error, WRONG_USAGE)
    except SandboxKernelError as error:
        return complain(error)
    except OSError as error:
        return complain(_sentence(error))
    except Exception as error:  # the one at the top of this adapter
        if sys.flags.dev_mode:
            raise
        return complain(
            f"{type(error).__name__}: {error}. This is a mistake in sandbox-kernel; "
            "`python -X dev -m sandbox_kernel.cli …` shows where."
        )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandbox-kernel",
        description="A Jupyter kernel whose cells run in a sandbox.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _MODULES:
        importlib.import_module(f"{__name__}.{name}").add(commands)
    return parser


def complain(message: object, code: int = FAILED) -> int:
    """One line on stderr; gives `code` back."""
    print(f"sandbox-kernel: {message}", file=sys.stderr)
    return code


def _sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}." if error.filename else f"{reason}."
