"""What the server asks of a shell. `ipython_shell` and `plain_shell` are the two there are.

To run a cell the server calls `start`, awaits the coroutine if there is one, and calls
`finish`; all three in the user's context and within reach of SIGINT.
"""

from abc import ABC, abstractmethod
from typing import Any, Coroutine, Dict, List, NamedTuple, Optional

from ...framing import Kind
from .cells import Cells
from .channel import Channel, FrameTooLarge
from .event_loop import EventLoop
from .interrupts import Interrupts
from .pictures import Pictures
from .stdin import Input
from .streams import Sink, Stream

Json = Dict[str, Any]
MIB = 1024 * 1024
# An error's parts are shown in full up to here: a value's `repr` may be anything.
_ERROR_CHARACTERS = 1 * MIB


class Tools(NamedTuple):
    """What every shell works with."""

    channel: Channel
    cells: Cells
    sink: Sink
    loop: EventLoop
    input: Input
    stdout: Stream
    stderr: Stream
    pictures: Pictures
    interrupts: Interrupts


class Execution(NamedTuple):
    """One cell to run, as EXECUTE has it."""

    code: str
    number: int  # what `In[…]` shows
    is_silent: bool
    is_stored: bool
    expressions: Dict[str, str]
    request_id: str  # Jupyter's id of the request, when the host tells it


class Output:
    """Everything that a cell shows besides text, in order with that text."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def send(self, kind: int, meta: Json, data: bytes = b"") -> None:
        """Send one frame for the cell that the caller belongs to, after its text.

        What is too large for a frame is reported on stderr instead.
        """
        self._tools.sink.flush()
        try:
            self._tools.channel.send(kind, self._tools.cells.current(), meta, data)
        except FrameTooLarge as error:
            self._tools.stderr.write(
                "This output of %.1f MiB was not shown: it is over the limit of %d MiB for "
                "one output. Show a smaller part of it, or write it to a file.\n"
                % (error.size / MIB, error.limit // MIB)
            )

    def show(self, data: Json, metadata: Json, transient: Json, is_update: bool) -> None:
        """A rich output, or a new content for those with the same display id."""
        kind = Kind.UPDATE_DISPLAY if is_update else Kind.DISPLAY
        meta: Json = {"data": data, "metadata": metadata, "transient": transient}
        files = self._tools.pictures.files_of(data)
        if files:
            meta["files"] = files
        self.send(kind, meta)

    def result(self, data: Json, metadata: Json) -> None:
        """The value of the cell's last expression."""
        self.send(Kind.RESULT, {"data": data, "metadata": metadata})

    def clear(self, is_delayed: bool) -> None:
        """Remove what the cell has shown."""
        self.send(Kind.CLEAR_OUTPUT, {"wait": bool(is_delayed)})

    def error(self, name: str, value: str, traceback: List[str]) -> Json:
        """A failure; returns what was sent, cut to a size that can be."""
        failure = {
            "ename": _shorten(name, 1000),
            "evalue": _shorten(value, _ERROR_CHARACTERS),
            "traceback": [_shorten(line, _ERROR_CHARACTERS) for line in traceback[:1000]],
        }
        if sum(map(len, failure["traceback"])) > 2 * _ERROR_CHARACTERS:
            failure["traceback"] = failure["traceback"][-1:]
        self.send(Kind.ERROR, failure)
        return failure


def _shorten(text: Any, limit: int) -> str:
    whole = str(text)
    return whole if len(whole) <= limit else whole[: limit // 2] + " … " + whole[-limit // 2 :]


class Shell(ABC):
    """Runs Python and remembers it."""

    @abstractmethod
    def info(self) -> Json:
        """What RUNNER_READY says."""

    @abstractmethod
    def offer(self, names: Json) -> None:
        """Let cells find these, as if they had imported them."""

    def use_figures(self) -> None:  # noqa: B027  # most shells have nothing to do
        """Called right after user code has imported matplotlib."""

    def warm_up(self) -> None:  # noqa: B027  # most shells have nothing to do
        """Called in the first pause: import what most sessions need sooner or later."""

    @abstractmethod
    def begin(self, execution: Execution) -> None:
        """What must be known of the cell however early it is interrupted. Runs nothing."""

    @abstractmethod
    def start(self, execution: Execution) -> Optional["Coroutine[Any, Any, Any]"]:
        """Run the cell; or, if it awaits anything, return the coroutine that does."""

    @abstractmethod
    def finish(self) -> Json:
        """What must happen after the cell; returns the reply."""

    @abstractmethod
    def interrupted(self, error: BaseException) -> Json:
        """The reply for a cell that `error` ended outside of where a shell catches it."""

    @abstractmethod
    def complete(self, code: str, cursor: int) -> Json:
        """What may stand at `cursor`, counted in code points."""

    @abstractmethod
    def inspect(self, code: str, cursor: int, detail: int) -> Json:
        """What is known about the name at `cursor`."""

    @abstractmethod
    def is_complete(self, code: str) -> Json:
        """Whether a console should run `code` or let its user go on."""
