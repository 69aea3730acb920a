"""Sessions for programs, agents and MCP clients: what a notebook can do, from Python.

    engine      holds sessions, their number and their lifetimes
    session     one session's verbs: execute, run, files, interrupt, restart, close
    choices     what a caller asks for, as the spec and the policies of one session
    places      where its code runs: one sandbox that stays, or a fresh one for each run
    pool        unused sandboxes, warmed up and waiting
    seat        what a session needs of whoever runs its cells
    hearing     events -> callbacks, and what a result is made of
    results     what `execute` returns
    files       the workspace
    carried     files kept on the host between runs in fresh sandboxes
    packages    dependencies
    shell, apps shell commands, and projects of several files
    lifetimes   ends sessions that nobody uses

Rule 1: a sandbox that ran someone's code is never handed to someone else.
Rule 2: code that fails inside is a `Result`; exceptions are for our own failures.
Rule 3: `async with` leaves nothing behind, whatever happened in between.
"""

from sandbox_kernel.engine.choices import Strategy
from sandbox_kernel.engine.engine import Engine
from sandbox_kernel.engine.results import (
    DependencyReport,
    Display,
    GeneratedFile,
    Result,
    RunError,
    SandboxRecord,
    SessionInfo,
)
from sandbox_kernel.engine.session import Session

__all__ = [
    "DependencyReport",
    "Display",
    "Engine",
    "GeneratedFile",
    "Result",
    "RunError",
    "SandboxRecord",
    "Session",
    "SessionInfo",
    "Strategy",
]
