"""Answers the supervisor's requests, one after the other, for as long as the runner lives.

Rule 1: every request gets one REPLY, whatever user code did meanwhile.
Rule 2: no exception ends the runner. User code's own signal handlers may raise anywhere.
"""

import sys
from os import close, dup2
from typing import Any, Callable, Dict, List, Optional, Tuple

from ...framing import Frame, Kind
from .base_shell import Execution, Json, Output, Shell, Tools
from .channel import FrameTooLarge, Request, read_json
from .comms import Comms
from .interrupts import Interrupts

# The first pause this long is used to import what only later cells need.
_PAUSE_S = 0.2


class Server:
    """Reads requests, has the shell answer them."""

    def __init__(self, tools: Tools, shell: Shell, comms: Comms, interrupts: Interrupts) -> None:
        self._tools, self._shell, self._comms = tools, shell, comms
        self._interrupts = interrupts
        self._output = Output(tools)
        self._unanswered: Optional[int] = None
        self._flush_c: Optional[Callable[[], None]] = None
        self._is_warm = False
        self._is_taken = False  # a request, which user code has not begun with
        interrupts.is_asked = lambda: self._is_taken or tools.channel.is_readable
        self._unseen: List[str] = []
        self._handlers: Dict[int, Callable[[Frame, Json], Json]] = {
            Kind.COMPLETE: self._complete,
            Kind.INSPECT: self._inspect,
            Kind.IS_COMPLETE: self._is_complete,
            Kind.COMM: self._comm,
            Kind.ATTACH: self._attach,
            Kind.TOOLS: self._offer_tools,
        }

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        while True:
            try:
                request = self._next()
                if request is None:
                    return
                self._unanswered = request.frame.cell
                self._handle(request)
            except BaseException as error:  # the top: see rule 2
                self._recover(error)

    def _next(self) -> Optional[Request]:
        channel, loop = self._tools.channel, self._tools.loop
        if not channel.has_request:
            if not self._is_warm and not loop.wait(_PAUSE_S):
                self._warm_up()
            loop.wait()
        self._is_taken = True
        return channel.receive()

    def _warm_up(self) -> None:
        """Once, what the first cells would wait for."""
        if self._is_warm:
            return
        self._is_warm = True
        self._shell.warm_up()
        self._tools.sink.arm()  # starts its thread
        self._flush_c = self._flush_c or _make_c_flush()

    def _recover(self, error: BaseException) -> None:
        """Something that isn't ours went through our own code."""
        self._end()
        cell, self._unanswered = self._unanswered, None
        if cell is not None:
            self._reply(cell, self._shell.interrupted(error))

    def _handle(self, request: Request) -> None:
        frame = request.frame
        meta = read_json(frame)
        if frame.kind == Kind.EXECUTE:
            if meta.get("is_warm_up"):
                self._warm_up()
            self._redirect(request.descriptors)
            content = self._execute(frame, meta)
            # Then the next cell may go on with the same pipes, which saves making new ones.
            content["is_flushed"] = self._flush_c is not None
        else:
            handler = self._handlers.get(frame.kind)
            content = handler(frame, meta) if handler else {"status": "error"}
            self._end()
        self._reply(frame.cell, content)
        if self._flush_c is None:
            import ctypes  # noqa: F401  # for `_flush_c_stdio`: 4 ms that the first cell saves

    def _reply(self, cell: int, content: Json) -> None:
        self._flush_c_stdio()
        self._tools.sink.flush()
        try:
            self._tools.channel.send(Kind.REPLY, cell, content)
        except FrameTooLarge:
            small: Json = {key: content[key] for key in ("status", "ename") if key in content}
            self._tools.channel.send(Kind.REPLY, cell, small)
        self._unanswered = None

    def _redirect(self, descriptors: Tuple[int, ...]) -> None:
        """What this cell's subprocesses and C code write goes to its own pipes."""
        self._flush_c_stdio()
        for target, descriptor in zip((1, 2), descriptors):  # noqa: B905  # Python 3.8
            dup2(descriptor, target)
        for descriptor in descriptors:
            close(descriptor)

    def _flush_c_stdio(self) -> None:
        """C's own buffer of standard output belongs to the cell that filled it.

        Code in C that prints comes with ctypes nearly always; where not, it is imported
        after the first cell.
        """
        if self._flush_c is None:
            if "ctypes" not in sys.modules:
                return
            self._flush_c = _make_c_flush()
        self._flush_c()

    # The requests, each (frame, meta) -> the reply's content.

    def _execute(self, frame: Frame, meta: Json) -> Json:
        expressions = meta.get("user_expressions")
        execution = Execution(
            code=frame.data.decode("utf-8", "replace"),
            number=int(meta.get("execution_count") or 0),
            is_silent=bool(meta.get("silent")),
            is_stored=bool(meta.get("store_history", True)) and not meta.get("silent"),
            expressions=expressions if isinstance(expressions, dict) else {},
            request_id=str(meta.get("msg_id") or "cell-%d" % frame.cell),
        )
        self._tools.input.is_allowed = bool(meta.get("allow_stdin"))
        reply: Json = {}

        def start() -> Any:
            self._tools.cells.enter(frame.cell)
            self._tools.pictures.start_cell()
            if self._unseen:
                self._tell_unseen()
            return self._shell.start(execution)

        self._shell.begin(execution)
        error = self._run(start, lambda: reply.update(self._shell.finish()), frame.cell)
        return reply if error is None else self._shell.interrupted(error)

    def _run(
        self, start: Callable[[], Any], finish: Callable[[], None], cell: int
    ) -> Optional[BaseException]:
        """Run user code within reach of SIGINT; returns what it raised."""
        self._tools.cells.enter(cell)
        self._interrupts.install()
        try:
            try:
                self._interrupts.open()
                self._tools.loop.run(start, finish)
            finally:
                self._end()
        except BaseException as error:  # user code's
            self._end()
            return error
        finally:
            self._interrupts.install()
        return None

    def _end(self) -> None:
        """A SIGINT that comes now comes too late."""
        self._is_taken = False
        self._interrupts.close()

    def _ask_shell(self, question: Callable[[], Json], frame: Frame, fallback: Json) -> Json:
        """Completion and the like run user code, too (properties, `__repr__`)."""
        answer: Json = {}

        def start() -> None:
            self._tools.cells.enter(frame.cell)
            answer.update(question())

        error = self._run(start, lambda: None, frame.cell)
        return answer if error is None else fallback

    def _complete(self, frame: Frame, meta: Json) -> Json:
        code, cursor = _code_and_cursor(frame, meta)
        fallback = {
            "status": "ok",
            "matches": [],
            "cursor_start": cursor,
            "cursor_end": cursor,
            "metadata": {},
        }
        return self._ask_shell(lambda: self._shell.complete(code, cursor), frame, fallback)

    def _inspect(self, frame: Frame, meta: Json) -> Json:
        code, cursor = _code_and_cursor(frame, meta)
        detail = int(meta.get("detail_level") or 0)
        fallback = {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return self._ask_shell(lambda: self._shell.inspect(code, cursor, detail), frame, fallback)

    def _is_complete(self, frame: Frame, _meta: Json) -> Json:
        code = frame.data.decode("utf-8", "replace")
        return self._ask_shell(lambda: self._shell.is_complete(code), frame, {"status": "unknown"})

    def _comm(self, frame: Frame, meta: Json) -> Json:
        self._comms.request_id = str(meta.get("msg_id") or "cell-%d" % frame.cell)
        self._ask_shell(lambda: self._comms.handle(meta, frame.data), frame, {})
        return {"status": "ok"}

    def _tell_unseen(self) -> None:
        from .attaching import note

        names, self._unseen = self._unseen, []
        sys.stderr.write(note(names))

    def _attach(self, _frame: Frame, meta: Json) -> Json:
        """Packages that were installed meanwhile; of those not seen, the next cell tells."""
        from .attaching import attach

        self._unseen = attach(meta)
        return {"status": "ok"}

    def _offer_tools(self, _frame: Frame, meta: Json) -> Json:
        """Functions of the host's, known before any cell. Nobody waits for the reply."""
        from .host_tools import HostTools, ToolError

        module = HostTools(self._tools).offer(meta)
        self._shell.offer({"tools": module, "ToolError": ToolError})
        return {"status": "ok"}


def _code_and_cursor(frame: Frame, meta: Json) -> Tuple[str, int]:
    code = frame.data.decode("utf-8", "replace")
    cursor = meta.get("cursor_pos")
    return code, max(0, min(len(code), cursor)) if isinstance(cursor, int) else len(code)


def _make_c_flush() -> Callable[[], None]:
    import ctypes

    try:
        library = ctypes.CDLL(None)
        # Not `fflush(NULL)`: that waits for a thread that reads from some other file.
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        flush = library.fflush
    except (OSError, ValueError, AttributeError):
        return lambda: None
    return lambda: flush(stdout)
