"""Answers the supervisor's requests by passing them to the interpreter, one at a time.

Rule 1: every request gets one REPLY, or this process ends: the supervisor settles the rest.
Rule 2: nothing here waits for the interpreter alone. While it works we hear its events, its
death and the answers to its questions; the next requests wait in the socket.
Rule 3: SIGINT comes to the interpreter by itself. One that came before it had begun with
the cell is given to it again.
"""

import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional, Tuple

from ...framing import Decoder, Frame, Kind
from ..python.channel import Channel, FrameTooLarge, Request, read_json
from . import offsets
from .child import Child, end_like
from .outputs import Json, Outputs
from .talk import Message, Parser, TalkError, encode
from .tools import Calls

# An interpreter that heard SIGINT has ended its cell long before; the host's own patience
# is longer than all of these.
_REPEAT_INTERRUPT_S = 0.25
_REPEATS = 4
_MAX_EXPRESSIONS = 100
_MAX_MATCHES = 2000
_MAX_MATCH_LETTERS = 500
_MAX_PROMPT_LETTERS = 10_000
_DISTURBED = 70
# From the end of its pipe to its death: a process that exits closes its files first.
_DEATH_S = 1.0
_PIECE_BYTES = 64 * 1024


class Server:
    """One per process."""

    def __init__(self, channel: Channel, inputs: int, child: Child, display_name: str) -> None:
        self._channel = channel
        self._inputs = socket.socket(fileno=inputs)
        self._inputs.setblocking(False)
        self._input_decoder = Decoder({Kind.INPUT_REPLY, Kind.TOOL_REPLY})
        self._child = child
        self._display_name = display_name
        self._parser = Parser()
        self._outputs = Outputs(channel)
        self._calls = Calls(channel, child)
        self._poll = select.poll()
        for fd in (child.events, child.deaths, inputs):
            self._poll.register(fd, select.POLLIN)
        self._is_posting = False
        self._is_listening = False  # to the channel: only when nothing is under way
        self._allow_stdin = False
        self._is_asking = False
        self._is_ready = False
        self._is_busy = False
        self._interrupts_due = 0
        self._interrupt_s = 0.0
        self._ended: Optional[Message] = None  # what ends the request under way
        self._matches: List[Tuple[str, str]] = []
        self._handlers: Dict[int, Callable[[Request, Json], Json]] = {
            Kind.EXECUTE: self._execute,
            Kind.COMPLETE: self._complete,
            Kind.INSPECT: self._inspect,
            Kind.IS_COMPLETE: self._check,
            Kind.COMM: lambda request, meta: {"status": "ok"},
            _ATTACH: self._attach,
            Kind.TOOLS: self._calls.offer,
        }

    def note_interrupt(self, _number: int, _frame: Any) -> None:
        """SIGINT: the interpreter got it, too, but may not have begun yet."""
        if self._is_busy or self._has_request():
            self._interrupts_due = _REPEATS
            self._interrupt_s = time.monotonic() + _REPEAT_INTERRUPT_S

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        while not self._is_ready:
            self._wait(-1)
        while True:
            if not self._channel.has_request:
                self._listen(True)
                while not self._wait(-1):
                    pass
                self._listen(False)
            request = self._channel.receive()
            if request is None:
                return
            self._handle(request)

    def _handle(self, request: Request) -> None:
        frame, meta = request.frame, read_json(request.frame)
        handler = self._handlers.get(frame.kind)
        self._is_busy = True
        content = handler(request, meta) if handler else {"status": "error"}
        self._is_busy = False
        self._interrupts_due = 0
        self._outputs.flush()
        try:
            self._channel.send(Kind.REPLY, frame.cell, content)
        except FrameTooLarge:
            self._channel.send(Kind.REPLY, frame.cell, {"status": content.get("status")})

    # -- the requests, each (request, its meta) -> the reply's content

    def _execute(self, request: Request, meta: Json) -> Json:
        frame = request.frame
        self._outputs.cell = max(self._outputs.cell, frame.cell)
        _redirect(request.descriptors)
        self._allow_stdin = bool(meta.get("allow_stdin"))
        count = meta.get("execution_count")
        numbers = (
            frame.cell,
            count if isinstance(count, int) else 0,
            bool(meta.get("silent")),
            bool(request.descriptors),
        )
        end = self._ask("execute", ",".join("%d" % number for number in numbers), frame.data)
        reply: Json = {"status": "ok", "user_expressions": {}}
        if end.argument == "ok":
            expressions = meta.get("user_expressions")
            reply["user_expressions"] = self._evaluate_all(expressions)
        else:
            reply["status"] = "error"
            reply.update(_exit_code(end.argument))
            self._channel.send(Kind.ERROR, frame.cell, self._outputs.take_error())
        return reply

    def _evaluate_all(self, expressions: Any) -> Json:
        if not isinstance(expressions, dict):
            return {}
        return {
            name: self._evaluate(text)
            for name, text in list(expressions.items())[:_MAX_EXPRESSIONS]
            if isinstance(text, str)
        }

    def _evaluate(self, text: str) -> Json:
        end = self._ask("evaluate", "-", text.encode("utf-8", "replace"))
        data, metadata = self._outputs.take_forms()
        if end.argument == "ok":
            return {"status": "ok", "data": data, "metadata": metadata}
        return {"status": "error", **self._outputs.take_error()}

    def _complete(self, request: Request, meta: Json) -> Json:
        code = request.frame.data.decode("utf-8", "replace")
        cursor = meta.get("cursor_pos")
        end_position = cursor if isinstance(cursor, int) and 0 <= cursor <= len(code) else len(code)
        self._matches = []
        end = self._ask("complete", "%d" % offsets.to_bytes(code, cursor), request.frame.data)
        start = offsets.to_code_points(code, end.argument, end_position)
        matches, self._matches = self._matches, []
        typed = [
            {"start": start, "end": end_position, "text": text, "type": kind}
            for text, kind in matches
            if kind != "-"
        ]
        return {
            "status": "ok",
            "matches": [text for text, _ in matches],
            "cursor_start": start,
            "cursor_end": end_position,
            "metadata": {"_jupyter_types_experimental": typed} if typed else {},
        }

    def _inspect(self, request: Request, meta: Json) -> Json:
        code = request.frame.data.decode("utf-8", "replace")
        offset = offsets.to_bytes(code, meta.get("cursor_pos"))
        detail = 1 if meta.get("detail_level") else 0
        end = self._ask("inspect", "%d,%d" % (offset, detail), request.frame.data)
        data, metadata = self._outputs.take_forms()
        is_found = end.argument == "1" and bool(data)
        return {"status": "ok", "found": is_found, "data": data, "metadata": metadata}

    def _check(self, request: Request, _meta: Json) -> Json:
        end = self._ask("check", "-", request.frame.data)
        indent = end.payload.decode("utf-8", "replace")
        return {"status": end.argument, "indent": indent}

    def _attach(self, request: Request, meta: Json) -> Json:
        environment = meta.get("environment")
        if isinstance(environment, dict):
            os.environ.update(
                {str(k): str(v) for k, v in environment.items() if k and "=" not in k}
            )
        layers = meta.get("layers")
        for layer in layers if isinstance(layers, list) else []:
            ecosystem, path = layer.get("ecosystem"), layer.get("path")
            if isinstance(ecosystem, str) and isinstance(path, str) and " " not in ecosystem:
                self._ask("attach", ecosystem, path.encode("utf-8", "replace"))
        return {"status": "ok"}

    # -- the interpreter

    def _ask(self, kind: str, argument: str, payload: bytes) -> Message:
        """Pass a request on and wait for what ends it."""
        self._ended = None
        self._child.send(encode(kind, argument, payload))
        while self._ended is None:
            self._wait(self._repeat_interrupt())
        return self._ended

    def _repeat_interrupt(self) -> float:
        """Give a lost SIGINT again when it is due; how long to wait, in milliseconds."""
        if not self._interrupts_due:
            return -1
        left_s = self._interrupt_s - time.monotonic()
        if left_s <= 0:
            self._interrupts_due -= 1
            self._interrupt_s += _REPEAT_INTERRUPT_S - left_s
            self._child.interrupt()
            return 0
        return left_s * 1000 + 1

    def _wait(self, timeout_ms: float) -> bool:
        """Handle what happens first; whether a request came."""
        has_request = False
        self._watch_requests()
        for fd, _events in self._poll.poll(timeout_ms):
            if fd == self._child.events:
                self._hear()
            elif fd == self._child.deaths:
                self._notice_death()
            elif fd == self._channel.descriptor:
                has_request = True
            elif fd == self._child.requests:
                self._child.flush()
            else:
                self._pass_answer()
        return has_request

    def _watch_requests(self) -> None:
        """Hear when it takes more of what was posted; mostly all was taken at once."""
        is_waiting = bool(self._child.unsent)
        if is_waiting and not self._is_posting:
            self._poll.register(self._child.requests, select.POLLOUT)
        elif self._is_posting and not is_waiting:
            self._poll.unregister(self._child.requests)
        self._is_posting = is_waiting

    def _listen(self, is_listening: bool) -> None:
        if is_listening:
            self._poll.register(self._channel.descriptor, select.POLLIN)
        else:
            self._poll.unregister(self._channel.descriptor)

    def _has_request(self) -> bool:
        return bool(select.select([self._channel.descriptor], [], [], 0)[0])

    def _hear(self) -> None:
        chunk = self._child.read()
        if chunk is None:
            return
        if not chunk:  # its end was closed: by its death, which is told apart, or by a cell
            self._poll.unregister(self._child.events)
            select.select([self._child.deaths], [], [], _DEATH_S)
            self._notice_death()
            self._leave_disturbed("a cell closed the runner's own descriptor")
        try:
            for message in self._parser.feed(chunk):
                self._on_event(message)
        except TalkError as error:
            self._leave_disturbed(str(error))
        self._outputs.flush()

    def _on_event(self, message: Message) -> None:
        kind = message.kind
        if self._outputs.hear(message):
            return
        if kind == "match":
            if len(self._matches) < _MAX_MATCHES:
                text = message.payload.decode("utf-8", "replace")[:_MAX_MATCH_LETTERS]
                self._matches.append((text, message.argument[:_MAX_MATCH_LETTERS]))
        elif kind == "input":
            self._on_question(message)
        elif kind == "call":
            self._outputs.flush()
            self._calls.pass_on(message, self._outputs.cell)
        elif kind == "takes":
            self._calls.is_taking = True
        elif kind == "ready" and not self._is_ready:
            self._announce(message)
        elif kind in ("done", "completed", "inspected", "checked", "attached"):
            self._ended = message

    def _announce(self, message: Message) -> None:
        self._is_ready = True
        name = message.payload.decode("utf-8", "replace")[:100] or self._display_name
        info = {
            "implementation": name,
            "version": message.argument[:40],
            "ipython": None,
            "banner": "%s %s" % (name, message.argument[:40]),
            "tools": self._calls.is_taking,
        }
        self._channel.send(Kind.RUNNER_READY, 0, info)

    # -- questions

    def _on_question(self, message: Message) -> None:
        if not (self._allow_stdin and self._is_busy):
            self._child.send(encode("answer", "refused"))
            return
        self._outputs.flush()
        self._is_asking = True
        prompt = message.payload.decode("utf-8", "replace")[:_MAX_PROMPT_LETTERS]
        meta = {"prompt": prompt, "password": message.argument == "1"}
        self._channel.send(Kind.INPUT_REQUEST, self._outputs.cell, meta)

    def _pass_answer(self) -> None:
        try:
            chunk = self._inputs.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._poll.unregister(self._inputs.fileno())
            return
        for frame in self._input_decoder.feed(chunk):
            if frame.kind == Kind.TOOL_REPLY:
                self._calls.answer(frame)
            else:
                self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        if self._is_asking and frame.cell == self._outputs.cell:
            self._is_asking = False
            # No language's talk has a word for the end of the input.
            is_eof = bool(frame.meta)
            answer = encode("answer", "refused") if is_eof else encode("answer", "ok", frame.data)
            self._child.send(answer)

    # -- the end

    def _notice_death(self) -> None:
        status = self._child.poll()
        if status is None:
            return
        with suppress(TalkError):
            for message in self._parser.feed(self._child.read_last()):
                self._outputs.hear(message)
        self._outputs.flush()
        end_like(status)

    def _leave_disturbed(self, reason: str) -> None:
        """Its words cannot be understood any more: end both."""
        self._outputs.say(
            "The connection to the %s interpreter was disturbed (%s)."
            % (self._display_name, reason)
        )
        os.kill(self._child.pid, signal.SIGKILL)
        os._exit(_DISTURBED)


def _exit_code(argument: str) -> Json:
    """What `error,3` adds to a reply."""
    code = argument.partition(",")[2]
    is_number = code.isascii() and code.isdigit() and len(code) <= 3
    return {"exit_code": int(code)} if is_number else {}


_ATTACH = 16  # as in `framing.Kind`


def _redirect(descriptors: Tuple[int, ...]) -> None:
    """The interpreter reopens our 1 and 2: what it and its children write is the cell's."""
    for target, descriptor in zip((1, 2), descriptors):  # noqa: B905  # Python 3.8
        os.dup2(descriptor, target)
    for descriptor in descriptors:
        os.close(descriptor)
