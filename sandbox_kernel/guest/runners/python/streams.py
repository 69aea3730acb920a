"""sys.stdout and sys.stderr: one ordered buffer of what was written, sent as few frames.

Rule 1: `write` costs a list append. All else happens in `Sink.flush`: some milliseconds
later in a thread of its own, when much is waiting, or before anything that must come after.
Rule 2: order is kept between both streams and everything else that a cell shows.
Rule 3: in a process that user code forks, output goes to descriptors 1 and 2 themselves.
"""

import io
import threading
from _thread import allocate_lock, get_ident, start_new_thread
from contextlib import suppress
from os import write as write_to
from time import monotonic, sleep
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from ...framing import Kind
from .cells import Cells, read_context
from .channel import Channel
from .interrupts import Interrupts

# What a reader notices is 50 ms; what a loop of prints fills is a buffer, so wait longer then.
_FIRST_DELAY_S = 0.01
_LONGEST_DELAY_S = 0.1
# `print(x, flush=True)` before a long call in C must be seen; a million of them need not.
_FLUSH_INTERVAL_S = 0.05
# More than this is sent at once, by the writer, which so waits for the reader.
_WAITING_CHARACTERS = 256 * 1024
# Shorter pieces are not counted: the thread comes before they are much.
_COUNTED_CHARACTERS = 64
_FRAME_BYTES = 1024 * 1024
# Programs that alternate streams line by line would make a frame of every line.
_MAX_ALTERNATIONS = 32
_CHILD_BUFFER_BYTES = 8192

Piece = Union[str, bytes]
# The cell, or None for what no cell is known to have started; the kind of frame; what.
Segment = Tuple[Optional[int], int, Piece]


class Sink:
    """Collects (cell, kind, text) and sends it."""

    def __init__(self, channel: Channel, cells: Cells, interrupts: Interrupts) -> None:
        self.segments: List[Segment] = []
        self.waiting = 0
        self.is_armed = False
        self.flushed_at = 0.0
        self.cells = cells
        self._channel = channel
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._flusher = 0
        self._has_thread = False
        self._alarm = allocate_lock()
        self._alarm.acquire()

    @property
    def is_ours(self) -> bool:
        """False in a process that user code forked."""
        return self._channel.is_ours

    def arm(self) -> None:
        """Something waits that nobody has promised to send: do so soon."""
        self.is_armed = True
        if not self._has_thread:
            try:
                # Not a `threading.Thread`: a program that lists or joins those must not see it.
                start_new_thread(self._run, ())
            except RuntimeError:
                return  # no process is left to have; the cell's end sends what waits
            self._has_thread = True
        with suppress(RuntimeError):  # it was raised before
            self._alarm.release()

    def _run(self) -> None:
        delay, flushed_at = _FIRST_DELAY_S, 0.0
        while True:
            self._alarm.acquire()
            is_continuous = monotonic() - flushed_at < _FIRST_DELAY_S
            delay = min(delay * 2, _LONGEST_DELAY_S) if is_continuous else _FIRST_DELAY_S
            sleep(delay)
            self.flush()
            flushed_at = monotonic()

    def flush(self) -> None:
        """Send what waits now. Returns when the supervisor has taken it."""
        if self._flusher == get_ident():
            return  # from a finalizer or a signal handler within the block below
        with self._interrupts, self._lock:
            self._flusher = get_ident()
            try:
                self.is_armed = False
                self.waiting = 0
                self.flushed_at = monotonic()
                taken = self.segments[:]
                del self.segments[: len(taken)]
                for cell, kind, content in merge(taken):
                    self._send(self.cells.latest if cell is None else cell, kind, content)
            finally:
                self._flusher = 0

    def _send(self, cell: int, kind: int, content: bytes) -> None:
        if not self._channel.is_ours:
            write_descriptor(kind, content)
        elif len(content) <= _FRAME_BYTES:
            self._channel.send(kind, cell, None, content)
        else:
            view = memoryview(content)
            for start in range(0, len(content), _FRAME_BYTES):
                self._channel.send(kind, cell, None, view[start : start + _FRAME_BYTES])

    def before_fork(self) -> None:
        """What the parent wrote is sent once, by the parent."""
        self.flush()
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """The twin of `before_fork`."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's output; `Stream.write` finds `is_armed` false and asks."""
        self._lock = threading.Lock()
        self._flusher = 0
        self.segments.clear()
        self.is_armed = False


def merge(segments: Iterable[Segment]) -> List[Tuple[Optional[int], int, bytes]]:
    """Neighbours of one cell and stream become one; streams that alternate much, too."""
    runs: List[Tuple[Optional[int], int, List[Piece]]] = []
    last_cell: Optional[int] = -1
    last_kind = -1
    pieces: List[Piece] = []
    for cell, kind, piece in segments:
        if cell != last_cell or kind != last_kind:
            pieces = []
            runs.append((cell, kind, pieces))
            last_cell, last_kind = cell, kind
        pieces.append(piece)
    if len(runs) > _MAX_ALTERNATIONS:
        together: Dict[Tuple[Optional[int], int], List[Piece]] = {}
        for cell, kind, pieces in runs:
            together.setdefault((cell, kind), []).extend(pieces)
        runs = [(cell, kind, pieces) for (cell, kind), pieces in together.items()]
    return [(cell, kind, to_bytes(pieces)) for cell, kind, pieces in runs]


def to_bytes(pieces: List[Piece]) -> bytes:
    """All pieces as UTF-8; what has no UTF-8 form (lone surrogates) as an escape."""
    try:
        return "".join(pieces).encode("utf-8", "backslashreplace")  # type: ignore[arg-type]
    except TypeError:  # some were written to `.buffer`
        return b"".join(
            piece if isinstance(piece, bytes) else piece.encode("utf-8", "backslashreplace")
            for piece in pieces
        )


def write_descriptor(kind: int, content: bytes) -> None:
    """Write to descriptor 1 or 2, all of it; a closed one is as good as any."""
    view = memoryview(content)
    try:
        while view:
            view = view[write_to(1 if kind == Kind.STDOUT else 2, view) :]
    except OSError:
        pass


def _make_write(
    sink: Sink, kind: int, accepted: Any, wake: Callable[[Piece], None]
) -> Callable[[Any], int]:
    """A stream's `write`: a function in local variables, for its speed."""
    append = sink.segments.append

    def write(piece: Any) -> int:
        if not isinstance(piece, accepted):
            name = type(piece).__name__
            raise TypeError("write() argument must be %s, not %s" % (accepted.__name__, name))
        size = len(piece)
        append((read_context(), kind, piece))
        if size > _COUNTED_CHARACTERS:
            sink.waiting += size
            if sink.waiting > _WAITING_CHARACTERS and sink.is_armed:
                sink.flush()
        if not sink.is_armed:
            wake(piece)
        return size

    return write


class Stream(io.TextIOBase):
    """What user code finds as sys.stdout or sys.stderr."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = False
    write_through = False
    mode = "w"

    def __init__(self, sink: Sink, kind: int) -> None:
        self._sink = sink
        self._kind = kind
        self._child_buffer: List[Piece] = []
        self.name = "<stdout>" if kind == Kind.STDOUT else "<stderr>"
        self.buffer = BinaryStream(self)
        self.write = _make_write(sink, kind, str, self._wake)  # type: ignore[method-assign]
        self.write_bytes = _make_write(sink, kind, bytes, self._wake)

    def _wake(self, piece: Piece) -> None:
        """Nobody has promised yet to send what was taken."""
        if self._sink.is_ours:
            self._sink.arm()
        else:
            self._write_in_child(piece)

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A hint that we don't take: what waits is sent within milliseconds anyway."""
        if not self._sink.is_ours:
            self._flush_in_child()

    def _write_in_child(self, piece: Piece) -> None:
        self._sink.segments.clear()
        self._child_buffer.append(piece)
        is_full = sum(map(len, self._child_buffer)) > _CHILD_BUFFER_BYTES
        # Whole lines, so that those of several processes don't mix.
        if is_full or piece[-1:] in ("\n", b"\n") or self._kind == Kind.STDERR:
            self._flush_in_child()

    def _flush_in_child(self) -> None:
        pieces, self._child_buffer = self._child_buffer, []
        if pieces:
            write_descriptor(self._kind, to_bytes(pieces))

    def isatty(self) -> bool:
        """Never: progress bars and colours ask."""
        return False

    def fileno(self) -> int:
        """The descriptor that subprocesses inherit."""
        return 1 if self._kind == Kind.STDOUT else 2

    def writable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Never."""
        return False

    def seekable(self) -> bool:
        """Never."""
        return False

    def reconfigure(self, **_options: Any) -> None:
        """Accepted and ignored: encoding and buffering are ours."""

    def close(self) -> None:
        """Ignored: the notebook's next cell wants to print, too."""

    def __del__(self) -> None:
        """Nothing: `io.IOBase` would close."""

    def __repr__(self) -> str:
        return "<sandbox output name=%r encoding='utf-8'>" % self.name


class BinaryStream(io.BufferedIOBase):
    """What user code finds as sys.stdout.buffer."""

    mode = "wb"

    def __init__(self, text: Stream) -> None:
        self._text = text
        self.name = text.name
        self.raw = self

    def write(self, content: Any) -> int:
        """Take bytes; they are sent soon, as they are."""
        if isinstance(content, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        return self._text.write_bytes(bytes(content))

    def flush(self) -> None:
        """As the text stream's."""
        self._text.flush()

    def fileno(self) -> int:
        """The descriptor that subprocesses inherit."""
        return self._text.fileno()

    def isatty(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Ignored, as the text stream's."""

    def __del__(self) -> None:
        """Nothing: `io.IOBase` would close."""
