"""What comes out of a session, as values. Vocabulary: no I/O.

Past tense: each says what happened inside. `cell` is the number of the request that
it belongs to; output of a cell may arrive after its `CellEnded` (a thread, a daemon).

What a `SandboxSession` hands out has passed the output policy: `TextWritten.text` is decoded
and free of terminal tricks, and the bundles hold only what a browser may see. What
`frames` makes of bytes (`OutputWritten`, the same bundle types) has not.

NamedTuples, because a kernel's start-up pays for every class that is generated.
To add an event: a class here, a kind in `guest/framing`, a reader in `frames`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]


class OutputWritten(NamedTuple):
    """Raw bytes of a stream, cut anywhere. Only `frames` and `session` see these."""

    cell: int
    stream: str  # "stdout" or "stderr"
    content: bytes


class TextWritten(NamedTuple):
    """Text of a stream that may be shown."""

    cell: int
    stream: str  # "stdout" or "stderr"
    text: str


class DisplayShown(NamedTuple):
    """A rich output. `bundle` maps MIME types to text (binary as base64) or JSON.

    `files`: names in the workspace of files that hold the same picture.
    """

    cell: int
    bundle: Json
    metadata: Json
    transient: Json
    files: tuple[str, ...] = ()


class DisplayUpdated(NamedTuple):
    """A rich output replaces those with the same `transient["display_id"]`."""

    cell: int
    bundle: Json
    metadata: Json
    transient: Json


class OutputCleared(NamedTuple):
    cell: int
    is_delayed: bool  # clear only when the next output arrives


class ResultShown(NamedTuple):
    """The value of a cell's last expression."""

    cell: int
    bundle: Json
    metadata: Json


class CellFailed(NamedTuple):
    """User code raised, or a limit ended it."""

    cell: int
    name: str
    value: str
    traceback: list[str]


class InputRequested(NamedTuple):
    """User code waits in `input()` until `SandboxSession.answer_input`."""

    cell: int
    prompt: str
    is_password: bool


class CommSent(NamedTuple):
    """A comm message of the guest's: `action` is open, msg or close."""

    cell: int
    action: str
    comm_id: str
    target_name: str
    data: Json
    metadata: Json
    buffers: list[bytes]


class ToolCalled(NamedTuple):
    """Code inside calls a function of the host's (see `session.tools`).

    `call` is the runner's own number for it. `arguments` is JSON as the guest wrote it:
    whoever knows how long it may be has `frames.read_arguments` parse it.
    """

    cell: int
    call: int
    name: str
    arguments: bytes


class Replied(NamedTuple):
    """A runner answered a request (execute, complete, inspect, is_complete)."""

    cell: int
    content: Json


class RunnerReady(NamedTuple):
    """A fresh runner takes requests. `info` has language, version, implementation.

    `runner`, here and below: the language whose runner it is, "" for the main one.
    """

    cell: int
    info: Json
    runner: str = ""


class RunnerStarted(NamedTuple):
    """The supervisor started a runner; `generation` counts them from 1."""

    cell: int
    generation: int
    runner: str = ""


class RunnerExited(NamedTuple):
    """A runner is gone, and its variables with it.

    `cause`: "exited", "signalled", "restarted" (we asked), "memory" (the watchdog),
    "protocol" (it sent no frames) or "missing" (it could not be started).
    """

    cell: int
    generation: int
    cause: str
    exit_code: int | None
    signal: int | None
    detail: str
    runner: str = ""


class Receipt(NamedTuple):
    """What one cell used. The supervisor measures it, so it is the guest's word."""

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    output_bytes: int
    files: int


class CellEnded(NamedTuple):
    """Nothing more of the cell is running in the runner's main thread.

    `outcome`: "ok", "error" (user code raised) or "lost" (the runner went away).
    """

    cell: int
    outcome: str
    receipt: Receipt


class FileGenerated(NamedTuple):
    """A file in the workspace is new or changed since the cell began.

    `content` is the whole file when `is_whole`, else its first bytes. `name` is the
    path relative to the workspace, for showing only: the guest chose it.
    """

    cell: int
    name: str
    size: int
    is_whole: bool
    content: bytes


class OutputNoticed(NamedTuple):
    """The supervisor bounded something. `code` says what, `info` the numbers.

    `code`: "output_truncated" (info: file, limit_bytes), "output_tail" (info:
    omitted_bytes, file), "files_omitted" (info: count), "displays_dropped" (info:
    limit), "display_too_large" (info: size, limit_bytes).
    """

    cell: int
    code: str
    info: Json


class Answered(NamedTuple):
    """The supervisor did what was asked; `content` by request, `data` for files."""

    cell: int
    content: Json
    data: bytes


class Refused(NamedTuple):
    """The supervisor could not do what was asked."""

    cell: int
    reason: str


class PortHeard(NamedTuple):
    """Something of the connection `cell` of a forward (see `session.connections`).

    `what`: "opened" (the server inside took it), "written" (it sent `content`), "credited"
    (it took `taken_bytes`), "half" (it sends no more), "reset", "refused" (nobody listens).
    """

    cell: int
    what: str
    content: bytes = b""
    taken_bytes: int = 0


Event = (
    OutputWritten
    | TextWritten
    | DisplayShown
    | DisplayUpdated
    | OutputCleared
    | ResultShown
    | CellFailed
    | InputRequested
    | CommSent
    | ToolCalled
    | Replied
    | RunnerReady
    | RunnerStarted
    | RunnerExited
    | CellEnded
    | FileGenerated
    | OutputNoticed
    | Answered
    | Refused
    | PortHeard
)
