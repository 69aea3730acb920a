"""Answers the supervisor's requests, one after the other. All of the engine is in the worker.

Rule 1: every request gets one REPLY.
"""

import os
import sys
from typing import Any, Callable, Dict, Tuple, Union

from ...framing import Frame, Kind
from ..python.channel import Channel, FrameTooLarge, Request, read_json
from . import names, tables
from .cells import Cell, Cells
from .engine import Engine
from .engines import Choice
from .errors import SqlError, content
from .values import plain
from .worker import Worker

Json = Dict[str, Any]

_MAX_EXPRESSIONS = 100


class Server:
    def __init__(self, channel: Channel, worker: Worker, choice: Choice) -> None:
        self._channel, self._worker, self._choice = channel, worker, choice
        self._cells = Cells(channel, worker.check)
        self._notice = choice.notice
        self._handlers: Dict[int, Callable[[Frame, Json], Json]] = {
            Kind.EXECUTE: self._execute,
            Kind.COMPLETE: self._complete,
            Kind.INSPECT: self._inspect,
            Kind.IS_COMPLETE: self._is_complete,
            Kind.COMM: lambda frame, meta: {"status": "ok"},
            Kind.ATTACH: self._attach,
        }

    def info(self) -> Json:
        """What RUNNER_READY says."""
        choice = self._choice
        banner = "SQL on %s %s" % (choice.name, choice.version)
        return {
            "implementation": choice.name,
            "version": choice.version,
            "ipython": None,
            "banner": banner + ("\n" + choice.notice if choice.notice else ""),
        }

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        while True:
            request = self._channel.receive()
            if request is None:
                return
            self._answer(request)

    def _answer(self, request: Request) -> None:
        frame = request.frame
        _redirect(request.descriptors)
        handler = self._handlers.get(frame.kind)
        reply = handler(frame, read_json(frame)) if handler else {"status": "error"}
        try:
            self._channel.send(Kind.REPLY, frame.cell, reply)
        except FrameTooLarge:
            self._channel.send(Kind.REPLY, frame.cell, {"status": reply["status"]})

    # The requests, each (frame, meta) -> the reply's content.

    def _execute(self, frame: Frame, meta: Json) -> Json:
        count = meta.get("execution_count")
        is_silent = bool(meta.get("silent"))
        if self._notice and not is_silent:
            text, self._notice = "[sandbox] %s\n" % self._notice, ""
            self._channel.send(Kind.STDERR, frame.cell, None, text.encode())
        code = frame.data.decode("utf-8", "replace")
        cell = Cell(frame.cell, code, count if isinstance(count, int) else 0, is_silent)
        error = self._ask(lambda engine: self._cells.run(engine, cell))
        # Nothing of ours writes to the pipes: the next cell may have them.
        reply: Json = {"status": "ok", "user_expressions": {}, "is_flushed": True}
        if error is None:
            reply["user_expressions"] = self._evaluate_all(meta.get("user_expressions"))
            return reply
        told = content(error, cell.code, cell.execution_count)
        self._channel.send(Kind.ERROR, frame.cell, told)
        return {**reply, "status": "error", "ename": told["ename"]}

    def _ask(self, job: Callable[[Engine], Any]) -> Any:
        """What the job returns, or the `SqlError` that it raised, or that there is no engine."""
        try:
            return self._worker.run(job)
        except SqlError as error:
            return error
        except Exception as error:  # the top: whatever an engine's package raises
            return SqlError(type(error).__name__, str(error) or "It gives no reason.")

    def _evaluate_all(self, expressions: Any) -> Json:
        if not isinstance(expressions, dict):
            return {}
        chosen = list(expressions.items())[:_MAX_EXPRESSIONS]
        return {name: self._evaluate(text) for name, text in chosen if isinstance(text, str)}

    def _evaluate(self, expression: str) -> Json:
        code = "SELECT " + expression

        def job(engine: Engine) -> Union[tables.Table, SqlError]:
            found = engine.run(engine.split(code)[0])
            if found is None or isinstance(found, str):
                return SqlError("Error", "This is no expression.")
            return tables.read(found)

        found = self._ask(job)
        if isinstance(found, SqlError):
            return {"status": "error", **content(found, code, 0)}
        value = found.rows[0][0] if found.rows else None
        return {"status": "ok", "data": {"text/plain": plain(value)}, "metadata": {}}

    def _complete(self, frame: Frame, meta: Json) -> Json:
        code, cursor = _code_and_cursor(frame, meta)
        found = self._ask(lambda engine: names.complete(engine, code, cursor))
        if isinstance(found, SqlError):
            nothing = {"matches": [], "cursor_start": cursor, "cursor_end": cursor}
            return {"status": "ok", "metadata": {}, **nothing}
        return dict(found)

    def _inspect(self, frame: Frame, meta: Json) -> Json:
        code, cursor = _code_and_cursor(frame, meta)
        found = self._ask(lambda engine: names.inspect(engine, code, cursor))
        if isinstance(found, SqlError):
            return {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return dict(found)

    def _is_complete(self, frame: Frame, _meta: Json) -> Json:
        code = frame.data.decode("utf-8", "replace")
        found = self._ask(lambda engine: names.is_complete(engine, code))
        return {"status": "unknown"} if isinstance(found, SqlError) else dict(found)

    def _attach(self, _frame: Frame, meta: Json) -> Json:
        """Packages that came meanwhile. The engine that is open stays the engine."""
        environment = meta.get("environment")
        if isinstance(environment, dict):
            os.environ.update({str(name): str(value) for name, value in environment.items()})
        layers = meta.get("layers")
        for layer in layers if isinstance(layers, list) else []:
            if layer.get("ecosystem") == "pip":
                sys.path.append("%s/lib" % layer.get("path"))
        return {"status": "ok"}


def _redirect(descriptors: Tuple[int, ...]) -> None:
    """What an engine's own code prints belongs to the cell."""
    for target, descriptor in zip((1, 2), descriptors):  # noqa: B905  # Python 3.8
        os.dup2(descriptor, target)
    for descriptor in descriptors:
        os.close(descriptor)


def _code_and_cursor(frame: Frame, meta: Json) -> Tuple[str, int]:
    code = frame.data.decode("utf-8", "replace")
    cursor = meta.get("cursor_pos")
    return code, max(0, min(len(code), cursor)) if isinstance(cursor, int) else len(code)
