"""What a program gets back. Values only.

Names and bundles come from the guest by way of the output policy: good for showing, and
never host paths.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any, NamedTuple

from sandbox_kernel import events
from sandbox_kernel.errors import CodeFailed
from sandbox_kernel.session import Outcome

# As shells and `timeout` have it.
TIMED_OUT, INTERRUPTED, KILLED = 124, 130, 137
_EXIT_CODES = {
    "CellTimeout": TIMED_OUT,
    "KeyboardInterrupt": INTERRUPTED,
    "MemoryLimitExceeded": KILLED,
    "SandboxDied": KILLED,
}


class RunError(NamedTuple):
    """What code raised, or which limit ended it. `traceback` may hold ANSI colours."""

    name: str
    value: str
    traceback: list[str]

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


class Display(NamedTuple):
    """A rich output. `bundle` maps MIME types to text (binary as base64) or JSON.

    `is_result`: it is the value of the last expression. `is_update`: it replaces an earlier
    one with the same `display_id`.
    """

    bundle: events.Json
    metadata: events.Json
    is_result: bool = False
    is_update: bool = False
    display_id: str = ""

    @property
    def text(self) -> str:
        """Its plain text, or ""."""
        text = self.bundle.get("text/plain", "")
        return text if isinstance(text, str) else ""

    def content(self, mimetype: str) -> bytes:
        """The bytes of one of its forms.

        Raises:
            KeyError: it has no such form.
        """
        value = self.bundle[mimetype]
        if not isinstance(value, str):
            import json

            return json.dumps(value).encode()
        is_text = mimetype.startswith("text/") or mimetype.endswith(("+xml", "json"))
        return value.encode() if is_text else base64.b64decode(value)


class GeneratedFile(NamedTuple):
    """A file that a run made or changed. Read it by `session.files.read(name)`."""

    name: str
    size: int


class DependencyReport(NamedTuple):
    """What was installed for a run.

    Args:
        packages: name and version of each.
        checksum: the same for the same set of requests; "" when there were none.
        stdout: what the installers printed; "" when everything was there already.
    """

    packages: tuple[tuple[str, str], ...] = ()
    checksum: str = ""
    stdout: str = ""


class Result(NamedTuple):
    """How a run ended. `error` is None exactly when `ok`.

    Args:
        exit_code: 0 when `ok`; what the code exited with; 124 out of time, 130 interrupted,
            137 killed for a limit; 1 otherwise.
        text: the plain text of the last expression, or "".
        files: those that this run made or changed.
        usage: wall and CPU seconds, peak memory; None when the sandbox did not live to tell.
        duration_s: wall seconds, waiting for a sandbox included.
    """

    ok: bool
    stdout: str
    stderr: str
    exit_code: int
    error: RunError | None
    text: str
    displays: list[Display]
    files: list[GeneratedFile]
    usage: events.Receipt | None
    dependencies: DependencyReport
    duration_s: float

    def raise_for_error(self) -> Result:
        """This result, if the code worked.

        Raises:
            CodeFailed: it did not; the error's `result` is this.
        """
        if self.error is not None:
            raise CodeFailed(str(self.error), self)
        return self


class SandboxRecord(NamedTuple):
    """One of the sandboxes that a session had."""

    id: str
    started: datetime
    ended: datetime | None
    runs: int


class SessionInfo(NamedTuple):
    """What an engine knows of a session. Times are UTC.

    Args:
        generated: names of the files that its runs made, of all runs that were looked at.
        dependencies_checksum: of the packages that it has now.
        sandboxes: the last hundred that it had, the current one last.
        state: "new", "idle", "busy", "dead" (the next run gets a new sandbox) or "closed".
    """

    id: str
    language: str
    backend: str
    boundary: str
    image: str | None
    strategy: str
    workspace: str
    labels: dict[str, str]
    created: datetime
    last_used: datetime
    runs: int
    generated: tuple[str, ...]
    dependencies_checksum: str
    sandboxes: tuple[SandboxRecord, ...]
    state: str


def error_of(outcome: Outcome) -> RunError | None:
    """What ended a run, None if it worked or asked to exit with 0."""
    error = outcome.error
    if error is None or (error.name == "SystemExit" and error.value in ("", "0", "None")):
        return None
    return RunError(error.name, error.value, error.traceback)


def exit_code_of(outcome: Outcome, error: RunError | None) -> int:
    """As `Result.exit_code`."""
    told: Any = getattr(outcome, "exit_code", None)
    if isinstance(told, int) and not isinstance(told, bool):
        return told
    if error is None:
        return 0
    if error.name == "SystemExit":
        # The guest's word: other digits than these, or too many of them, are no number.
        return int(error.value) & 0xFF if re.fullmatch(r"-?[0-9]{1,10}", error.value) else 1
    return _EXIT_CODES.get(error.name, 1)
