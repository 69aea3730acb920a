"""Sessions for programs, agents and MCP clients: what a notebook can do, from Python.

    engine      makes sessions and holds them
    session     one session's verbs: execute, run, complete, interrupt, restart
    life        who uses it, what is known of it, and its end
    choices     what a caller asks for, as the spec and the policies of one session
    admission   how many sessions there may be, and who comes next
    lifetimes   ends sessions that nobody uses
    places      where code runs: one sandbox that stays, or a fresh one for each run
    seat        what a session needs of whoever runs its cells
    attached    the session of a live notebook as a seat
    runs        one run: callbacks, input, cancellation
    hearing     events -> callbacks, and what a result is made of
    results     what `execute` returns
    underway    what has begun and must end with its session
    files       the workspace
    carried     files kept on the host between runs in fresh sandboxes
    generated   which files the runs made
    packages    dependencies
    shell, apps shell commands, and projects of several files
    pool        unused sandboxes of one kind; pools   all of an engine's
    warming     what is done in one before it is handed out
    traffic     when sandboxes are made and destroyed, so that no run waits for it

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
