"""What the guest's bytes mean: frames to events. Pure, and the only reader of guest bytes.

Rule 1: `EventDecoder.feed` takes any bytes at all and returns events or raises
`GuestProtocolError`; nothing else escapes, nothing blocks, and what it holds is
bounded by one frame.
Rule 2: a field that is missing or of the wrong type is an error, not a guess. Text is
cut to the bounds below.
Rule 3: what these events hold is still the guest's: `outputs` decides what is shown.

To add an event: a reader here, a row in `_READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox_kernel import events
from sandbox_kernel.errors import GuestProtocolError
from sandbox_kernel.guest.framing import (
    RUNNER_KINDS,
    SUPERVISOR_KINDS,
    Decoder,
    Frame,
    FramingError,
    Kind,
)

# CPython prints a thousand frames of a RecursionError; each is a few lines.
MAX_TRACEBACK_LINES = 5_000
MAX_TEXT = 1_000_000
MAX_NAME = 4_096  # PATH_MAX
MAX_BUFFERS = 1_000
MAX_SAME_FILES = 100
MAX_FILES_LISTED = 10_000
MAX_TOOL_NAME = 80


class EventDecoder:
    """Turns the stream of one sandbox into events."""

    def __init__(self) -> None:
        self._frames = Decoder(RUNNER_KINDS | SUPERVISOR_KINDS)

    def feed(self, chunk: bytes) -> list[events.Event]:
        """The events that `chunk` completes.

        Raises:
            GuestProtocolError: the guest lied about a length, a kind or a field; the
                stream is of no use any more.
        """
        try:
            return [_READERS[frame.kind](frame) for frame in self._frames.feed(chunk)]
        except FramingError as error:
            raise GuestProtocolError(
                f"The sandbox sent what is not our protocol: {error}."
            ) from None


def _read_stdout(frame: Frame) -> events.Event:
    return events.OutputWritten(frame.cell, "stdout", frame.data)


def _read_stderr(frame: Frame) -> events.Event:
    return events.OutputWritten(frame.cell, "stderr", frame.data)


def _read_display(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    parts = (frame.cell, _dict(meta, "data"), _dict(meta, "metadata"), _dict(meta, "transient"))
    if frame.kind == Kind.UPDATE_DISPLAY:
        return events.DisplayUpdated(*parts)
    return events.DisplayShown(*parts, tuple(_strings(meta, "files")[:MAX_SAME_FILES]))


def _read_clear(frame: Frame) -> events.Event:
    return events.OutputCleared(frame.cell, bool(frame.read_meta().get("wait", False)))


def _read_result(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.ResultShown(frame.cell, _dict(meta, "data"), _dict(meta, "metadata"))


def _read_error(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    lines = [line[:MAX_TEXT] for line in _strings(meta, "traceback")[:MAX_TRACEBACK_LINES]]
    return events.CellFailed(frame.cell, _text(meta, "ename"), _text(meta, "evalue"), lines)


def _read_input_request(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.InputRequested(frame.cell, _text(meta, "prompt"), bool(meta.get("password")))


def _read_comm(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    action = _text(meta, "action")
    if action not in {"open", "msg", "close"}:
        raise FramingError(f"a comm does {action[:40]!r}")
    return events.CommSent(
        frame.cell,
        action,
        _text(meta, "comm_id", MAX_NAME),
        _text(meta, "target_name", MAX_NAME),
        _dict(meta, "data"),
        _dict(meta, "metadata"),
        _buffers(meta.get("buffers", []), frame.data),
    )


def _read_tool_call(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    name = _text(meta, "name", MAX_TOOL_NAME)
    return events.ToolCalled(frame.cell, _count(meta, "call"), name, frame.data)


def read_arguments(content: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of an `events.ToolCalled`.

    Raises:
        GuestProtocolError: these are none; whoever called is told so, and no more happens.
    """
    try:
        arguments = Frame(Kind.TOOL_CALL, 0, content, b"").read_meta()
        positional = arguments.get("args") or []
        if not isinstance(positional, list):
            raise FramingError("args is no list")
        return positional, _dict(arguments, "kwargs")
    except FramingError as error:
        raise GuestProtocolError(f"The arguments cannot be read: {error}.") from None


def _read_reply(frame: Frame) -> events.Event:
    return events.Replied(frame.cell, frame.read_meta())


def _read_ready(frame: Frame) -> events.Event:
    info = frame.read_meta()
    runner = _runner(info)
    info.pop("runner", None)
    return events.RunnerReady(frame.cell, info, runner)


def _read_started(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.RunnerStarted(frame.cell, _count(meta, "generation"), _runner(meta))


def _read_exited(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.RunnerExited(
        frame.cell,
        _count(meta, "generation"),
        _text(meta, "cause", 40),
        _maybe_int(meta, "exit_code"),
        _maybe_int(meta, "signal"),
        _text(meta, "detail", 4_000),
        _runner(meta),
    )


def _runner(meta: dict[str, Any]) -> str:
    return _text(meta, "runner", 80)


def _read_ended(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    outcome = _text(meta, "outcome", 10)
    if outcome not in {"ok", "error", "lost"}:
        raise FramingError(f"a cell ended as {outcome!r}")
    return events.CellEnded(frame.cell, outcome, _receipt(_dict(meta, "receipt")))


def _receipt(meta: dict[str, Any]) -> events.Receipt:
    return events.Receipt(
        wall_s=_number(meta, "wall_s"),
        cpu_s=_number(meta, "cpu_s"),
        peak_memory_bytes=_count(meta, "peak_memory_bytes"),
        output_bytes=_count(meta, "output_bytes"),
        files=_count(meta, "files"),
    )


def _read_file(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.FileGenerated(
        frame.cell,
        _text(meta, "name", MAX_NAME),
        _count(meta, "size"),
        bool(meta.get("whole", False)),
        frame.data,
    )


def _read_notice(frame: Frame) -> events.Event:
    meta = frame.read_meta()
    return events.OutputNoticed(frame.cell, _text(meta, "code", 40), meta)


def _read_answer(frame: Frame) -> events.Event:
    return events.Answered(frame.cell, frame.read_meta(), frame.data)


def _read_refusal(frame: Frame) -> events.Event:
    return events.Refused(frame.cell, _text(frame.read_meta(), "reason", 4_000))


def _read_port(frame: Frame) -> events.Event:
    if frame.kind == Kind.PORT_OUT:
        return events.PortHeard(frame.cell, "written", frame.data)
    if frame.kind == Kind.PORT_CREDITED:
        return events.PortHeard(frame.cell, "credited", b"", _count(frame.read_meta(), "count"))
    if frame.kind == Kind.PORT_OPENED:
        return events.PortHeard(frame.cell, "opened")
    how = _text(frame.read_meta(), "how", 20)
    if how not in {"half", "reset", "refused"}:
        raise FramingError(f"a connection closed as {how!r}")
    return events.PortHeard(frame.cell, how)


_READERS: dict[int, Callable[[Frame], events.Event]] = {
    Kind.STDOUT: _read_stdout,
    Kind.STDERR: _read_stderr,
    Kind.DISPLAY: _read_display,
    Kind.UPDATE_DISPLAY: _read_display,
    Kind.CLEAR_OUTPUT: _read_clear,
    Kind.RESULT: _read_result,
    Kind.ERROR: _read_error,
    Kind.INPUT_REQUEST: _read_input_request,
    Kind.COMM_OUT: _read_comm,
    Kind.REPLY: _read_reply,
    Kind.TOOL_CALL: _read_tool_call,
    Kind.RUNNER_READY: _read_ready,
    Kind.CELL_ENDED: _read_ended,
    Kind.FILE_GENERATED: _read_file,
    Kind.RUNNER_STARTED: _read_started,
    Kind.RUNNER_EXITED: _read_exited,
    Kind.ANSWER: _read_answer,
    Kind.REFUSAL: _read_refusal,
    Kind.OUTPUT_NOTICE: _read_notice,
    Kind.PORT_OUT: _read_port,
    Kind.PORT_CLOSED: _read_port,
    Kind.PORT_OPENED: _read_port,
    Kind.PORT_CREDITED: _read_port,
}


def _text(meta: dict[str, Any], key: str, limit: int = MAX_TEXT) -> str:
    value = meta.get(key, "")
    if not isinstance(value, str):
        raise FramingError(f"{key} is no text")
    return value[:limit]


def _dict(meta: dict[str, Any], key: str) -> dict[str, Any]:
    value = meta.get(key) or {}
    if not isinstance(value, dict):
        raise FramingError(f"{key} is no object")
    return value


def _strings(meta: dict[str, Any], key: str) -> list[str]:
    value = meta.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise FramingError(f"{key} is no list of texts")
    return value


def _count(meta: dict[str, Any], key: str) -> int:
    value = meta.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise FramingError(f"{key} is no count")
    return value


def _number(meta: dict[str, Any], key: str) -> float:
    value = meta.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise FramingError(f"{key} is no number of seconds")
    return float(value)


def _maybe_int(meta: dict[str, Any], key: str) -> int | None:
    value = meta.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise FramingError(f"{key} is no code")
    return value


def _buffers(lengths: object, data: bytes) -> list[bytes]:
    """`data` cut into pieces of `lengths`."""
    if not isinstance(lengths, list) or len(lengths) > MAX_BUFFERS:
        raise FramingError("buffers is no short list")
    if not all(isinstance(length, int) and length >= 0 for length in lengths):
        raise FramingError("buffers holds what is no length")
    if sum(lengths) != len(data):
        raise FramingError("buffers don't add up")
    pieces, start = [], 0
    for length in lengths:
        pieces.append(data[start : start + length])
        start += length
    return pieces
