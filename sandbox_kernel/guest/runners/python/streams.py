"""sys.stdout and sys.stderr: one ordered buffer of what was written, sent as few frames.

Rule 1: `write` costs a list append. All else happens in `Sink.flush`: some milliseconds
later in a thread of its own, when much is waiting, or before anything that must come after.
Rule 2: order is kept between both streams and everything else that a cell shows.
Rule 3: in a process that user code forks, output goes to descriptors 1 and 2 themselves.
"""

import io
import os
import threading
from _thread import allocate_lock, get_ident, start_new_thread
from time import monotonic, sleep
from typing import Any, Dict, Iterable, List, Tuple, Union

from ...framing import Kind
from .cells import Cells, read_context
from .channel import Channel
from .interrupts import Interrupts

# What a reader notices is 50 ms; what a loop of prints fills is a buffer, so wait longer then.
_FIRST_DELAY_S = 0.01
_LONGEST_DELAY_S = 0.1
# More than this is sent at once, by the writer, which so waits for the reader.
_WAITING_CHARACTERS = 256 * 1024
_FRAME_BYTES = 1024 * 1024
# Programs that alternate streams line by line would make a frame of every line.
_MAX_ALTERNATIONS = 32
_CHILD_BUFFER_BYTES = 8192

Piece = Union[str, bytes]
Segment = Tuple[int, int, Piece]


class Sink:
    """Collects (cell, kind, text) and sends it."""

    def __init__(self, channel: Channel, cells: Cells, interrupts: Interrupts) -> None:
        self.segments: List[Segment] = []
        self.waiting = 0
        self.is_armed = False
        self.cells = cells
        self._channel = channel
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._flusher = 0
        self._has_thread = False
        self._alarm = allocate_lock()
        self._alarm.acquire()

    def arm(self) -> None:
        """Something waits that nobody has promised to send: do so soon."""
        self.is_armed = True
        if not self._has_thread:
            self._has_thread = True
            # Not a `threading.Thread`: a program that lists or joins those must not see it.
            start_new_thread(self._run, ())
        try:
            self._alarm.release()
        except RuntimeError:
            pass  # it was raised before

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
                taken = self.segments[:]
                del self.segments[: len(taken)]
                for cell, kind, content in merge(taken):
                    self._send(cell, kind, content)
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


def merge(segments: Iterable[Segment]) -> List[Tuple[int, int, bytes]]:
    """Neighbours of one cell and stream become one; streams that alternate much, too."""
    runs: List[Tuple[int, int, List[Piece]]] = []
    last_cell, last_kind = -1, -1
    pieces: List[Piece] = []
    for cell, kind, piece in segments:
        if cell != last_cell or kind != last_kind:
            pieces = []
            runs.append((cell, kind, pieces))
            last_cell, last_kind = cell, kind
        pieces.append(piece)
    if len(runs) > _MAX_ALTERNATIONS:
        together: Dict[Tuple[int, int], List[Piece]] = {}
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
            view = view[os.write(1 if kind == Kind.STDOUT else 2, view) :]
    except OSError:
        pass


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
        self._cells = sink.cells
        self._append = sink.segments.append
        self._kind = kind
        self._child_buffer: List[Piece] = []
        self.name = "<stdout>" if kind == Kind.STDOUT else "<stderr>"
        self.buffer = BinaryStream(self)

    def write(self, text: str) -> int:
        """Take `text`; it is sent soon."""
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" % type(text).__name__)
        self.take(text)
        return len(text)

    def take(self, piece: Piece) -> None:
        """What `write` does, for text and for bytes."""
        cell = read_context()
        self._append((self._cells.latest if cell is None else cell, self._kind, piece))
        sink = self._sink
        sink.waiting += len(piece)
        if not sink.is_armed:
            if sink._channel.is_ours:
                sink.arm()
            else:
                self._write_in_child(piece)
        elif sink.waiting > _WAITING_CHARACTERS:
            sink.flush()

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A hint that we don't take: what waits is sent within milliseconds anyway."""
        if not self._sink._channel.is_ours:
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
        taken = bytes(content)
        self._text.take(taken)
        return len(taken)

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
