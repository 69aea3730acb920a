"""Guest events in, events that may be shown out: the output policy at work.

One `Gate` serves one session. It holds what must be remembered between events: halves
of characters and escape sequences, pictures that a cell has already shown, widgets.

Rule 1: every event type that reaches a reader has a row in `_admit`; what has none is
not shown.
Rule 2: all of its memory is bounded, whatever the guest sends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from sandbox_kernel import events
from sandbox_kernel.limits import Limits
from sandbox_kernel.outputs import (
    CommGate,
    OutputPolicy,
    StreamCleaner,
    clean_text,
    content_digest,
    picture_digest,
)
from sandbox_kernel.session import causes

# Late output is rare; a cell that old starts with a fresh decoder, and loses half a character.
MAX_CELLS_REMEMBERED = 64
MAX_SHOWN_FILES = 1000


class _CellMemory:
    """What the gate remembers of one cell."""

    def __init__(self, policy: OutputPolicy) -> None:
        self.cleaners = {"stdout": StreamCleaner(policy), "stderr": StreamCleaner(policy)}
        self.pictures: set[str] = set()
        self.shown_files: set[str] = set()  # names of files with a picture that was displayed


class Gate:
    """Admits events of one session under one policy."""

    def __init__(self, policy: OutputPolicy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self._comms = CommGate(policy)
        self._cells: OrderedDict[int, _CellMemory] = OrderedDict()

    def admit(self, batch: list[events.Event]) -> Iterator[events.Event]:
        """What of `batch` may be shown, in order, adjacent text merged."""
        for event in _merged(batch):
            shown = self._admit(event)
            if shown is not None:
                yield shown

    def finish(self, cell: int) -> Iterator[events.TextWritten]:
        """Half a character that a cell left behind, when it has ended."""
        memory = self._cells.get(cell)
        if memory is None:
            return
        for stream, cleaner in memory.cleaners.items():
            if text := cleaner.feed(b"", final=True):
                yield events.TextWritten(cell, stream, text)

    def _memory(self, cell: int) -> _CellMemory:
        memory = self._cells.get(cell)
        if memory is None:
            memory = self._cells[cell] = _CellMemory(self._policy)
            if len(self._cells) > MAX_CELLS_REMEMBERED:
                self._cells.popitem(last=False)
        return memory

    def _admit(self, event: events.Event) -> events.Event | None:
        match event:
            case events.OutputWritten():
                text = self._memory(event.cell).cleaners[event.stream].feed(event.content)
                return events.TextWritten(event.cell, event.stream, text) if text else None
            case events.DisplayShown() | events.DisplayUpdated():
                self._remember(event)
                bundle, metadata = self._policy.admit_bundle(event.bundle, event.metadata)
                return type(event)(event.cell, bundle, metadata, _transient(event.transient))
            case events.ResultShown():
                self._memory(event.cell).pictures |= picture_digest(event.bundle)
                bundle, metadata = self._policy.admit_bundle(event.bundle, event.metadata)
                return events.ResultShown(event.cell, bundle, metadata)
            case events.CellFailed():
                return self._failure(event)
            case events.InputRequested():
                return event._replace(prompt=clean_text(event.prompt))
            case events.CommSent():
                return self._comm(event)
            case events.FileGenerated():
                return self._file(event)
            case events.OutputNoticed():
                return events.TextWritten(event.cell, "stderr", causes.notice(event))
            case events.OutputCleared():
                return event
        return None

    def _remember(self, event: events.DisplayShown | events.DisplayUpdated) -> None:
        memory = self._memory(event.cell)
        memory.pictures |= picture_digest(event.bundle)
        if isinstance(event, events.DisplayShown) and len(memory.shown_files) < MAX_SHOWN_FILES:
            memory.shown_files |= set(event.files)

    def _was_shown(self, event: events.FileGenerated) -> bool:
        """Whether the cell displayed the same picture, by its bytes or by its own word."""
        memory = self._memory(event.cell)
        return event.name in memory.shown_files or content_digest(event.content) in memory.pictures

    def _failure(self, event: events.CellFailed) -> events.CellFailed:
        name, value = clean_text(event.name), clean_text(event.value)
        lines = self._policy.admit_traceback(event.traceback)
        if hint := causes.hint(name, value, self._limits):
            lines = [*lines, hint]
        return events.CellFailed(event.cell, name, value, lines)

    def _comm(self, event: events.CommSent) -> events.CommSent | None:
        passed = self._comms.outgoing(
            event.action, event.comm_id, event.target_name, event.data, event.metadata
        )
        if passed is None:
            return None
        data, metadata = passed
        return event._replace(data=data, metadata=metadata)

    def _file(self, event: events.FileGenerated) -> events.DisplayShown | None:
        if event.is_whole and self._was_shown(event):
            return None
        bundle, metadata = self._policy.admit_file(
            event.name, event.size, event.content, event.is_whole
        )
        return events.DisplayShown(event.cell, bundle, metadata, {})


def _transient(transient: events.Json) -> events.Json:
    """Only the display id: nothing else has a meaning in `transient`."""
    display_id = transient.get("display_id")
    return {"display_id": display_id[:200]} if isinstance(display_id, str) else {}


def _merged(batch: list[events.Event]) -> Iterator[events.Event]:
    """`batch` with neighbouring output of one stream as one event."""
    held: list[events.OutputWritten] = []
    for event in batch:
        if isinstance(event, events.OutputWritten):
            if held and (held[0].cell, held[0].stream) != (event.cell, event.stream):
                yield _joined(held)
                held = []
            held.append(event)
            continue
        if held:
            yield _joined(held)
            held = []
        yield event
    if held:
        yield _joined(held)


def _joined(parts: list[events.OutputWritten]) -> events.OutputWritten:
    if len(parts) == 1:
        return parts[0]
    return parts[0]._replace(content=b"".join(part.content for part in parts))
