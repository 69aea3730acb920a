"""The module `tools`: functions of the host's, called through the supervisor's stream.

A call is a frame, and its answer comes on the socket that `input()` has, so that a cell can
wait for it. From the first call on a thread of ours reads that socket, for `input()` as well.

Rule 1: here nothing is guarded. The host checks names, arguments and how many calls there are.
Rule 2: no more calls are under way than the host takes at once; the others wait their turn.
Rule 3: a call's place is free when its answer has come, whether somebody waits for it or not.
"""

import inspect
import json
import sys
import types
from _thread import LockType, RLock, allocate_lock, start_new_thread
from binascii import b2a_base64
from itertools import count
from time import sleep
from typing import Any, Awaitable, Callable, Dict, List, Optional

from ...framing import Frame, Kind
from .base_shell import Json, Tools
from .channel import FrameTooLarge, read_json

_NOTICE_S = 0.2
_GONE = "The sandbox's connection to the host's tools was closed."


class ToolError(RuntimeError):
    """A tool of the host's did not do what was asked. The message says why."""


ToolError.__module__ = "tools"


class _Call:
    """One that waits for its answer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answered: LockType = allocate_lock()
        self.answered.acquire()
        self.is_ok = self.is_cancelled = False
        self.data = b""

    def answer(self, meta: Json, data: bytes) -> None:
        self.is_ok, self.is_cancelled = bool(meta.get("ok")), bool(meta.get("cancelled"))
        self.data = data
        self.answered.release()


class HostTools:
    """Calls tools, and makes the module that user code finds them in."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._numbers = count(1)
        self._calls: Dict[int, _Call] = {}
        self._turns: List[LockType] = []  # who waits for a place
        # A finalizer that calls a tool may come in between, in the same thread.
        self._guard = RLock()
        self._concurrency = 1
        self._is_reading = False
        self._is_closed = False

    def offer(self, meta: Json) -> types.ModuleType:
        """The module `tools`, with what the host's frame TOOLS names; importable from now on."""
        self._concurrency = max(1, int(meta.get("concurrency") or 1))
        told = meta.get("tools") or []
        module = types.ModuleType("tools", _describe(told))
        functions = {str(each["name"]): self._function(each) for each in told}
        module.__dict__.update(functions, ToolError=ToolError, __all__=list(functions))
        sys.modules["tools"] = module
        return module

    def _function(self, told: Json) -> Callable[..., Any]:
        name = str(told["name"])

        def tool(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return self.call(name, args, kwargs)

        async def aio(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return await self._call_aside(name, args, kwargs)

        described = {
            "__name__": name,
            "__qualname__": name,
            "__module__": "tools",
            "__doc__": told.get("doc") or None,
            "__signature__": _signature(told),
        }
        for key, value in described.items():
            setattr(tool, key, value)
            setattr(aio, key, value)
        tool.aio = aio  # type: ignore[attr-defined]
        return tool

    def call(self, name: str, args: Any, kwargs: Any) -> Any:
        """Call the tool and wait for what it returns. From any thread.

        Raises:
            ToolError: it failed, or may not be called so; also for what has no form in JSON.
        """
        __tracebackhide__ = True
        data = _encode({"args": args, "kwargs": kwargs})
        if not self._tools.channel.is_ours:
            raise ToolError("Only the notebook's own process can call tools, none that it forks.")
        call = self._begin(name, data)
        _wait(call.answered)
        value = json.loads(call.data.decode("utf-8", "replace"))
        if call.is_ok:
            return value
        if call.is_cancelled:
            sleep(_NOTICE_S)  # the SIGINT that comes with it says more
        raise ToolError(value.get("message") or "The tool failed.") from None

    def _call_aside(self, name: str, args: Any, kwargs: Any) -> "Awaitable[Any]":
        """The same in a thread, while the event loop goes on."""
        import asyncio
        from contextvars import copy_context

        run = copy_context().run
        return asyncio.get_running_loop().run_in_executor(None, run, self.call, name, args, kwargs)

    def _begin(self, name: str, data: bytes) -> _Call:
        while True:
            turn = allocate_lock()
            turn.acquire()
            # A KeyboardInterrupt comes when the call has a place and is sent, or before.
            with self._tools.interrupts:
                call = self._take_place(turn)
                if call is not None:
                    self._send(name, data, call)
                    return call
            _wait(turn)

    def _take_place(self, turn: LockType) -> Optional[_Call]:
        """A place for a call; None when all are taken: `turn` is released when to try again."""
        with self._guard:
            self._start_to_read()
            if len(self._calls) >= self._concurrency:
                self._turns.append(turn)
                return None
            call = _Call(next(self._numbers))
            self._calls[call.number] = call
            return call

    def _send(self, name: str, data: bytes, call: _Call) -> None:
        meta = {"call": call.number, "name": name}
        try:
            self._tools.channel.send(Kind.TOOL_CALL, self._tools.cells.current(), meta, data)
        except FrameTooLarge as error:
            self._free(call.number)
            raise ToolError("The arguments have %d bytes: too many." % error.size) from None

    def _free(self, number: Any) -> Optional[_Call]:
        with self._guard:
            call = self._calls.pop(number, None)
            turns, self._turns = self._turns, []
        for turn in turns:
            turn.release()
        return call

    # -- answers

    def _start_to_read(self) -> None:
        if self._is_closed:
            raise ToolError(_GONE)
        if self._is_reading:
            return
        receive = self._tools.input.share()
        if receive is None:
            raise ToolError("A thread waits in input(). Call tools when it has its answer.")
        self._is_reading = True
        try:
            start_new_thread(self._read, (receive,))
        except RuntimeError:
            self._is_reading = False
            self._tools.input.unshare()
            raise ToolError("There is no thread left for what the host answers.") from None

    def _read(self, receive: Callable[[], Optional[List[Frame]]]) -> None:
        while True:
            frames = receive()
            if frames is None:
                break
            for frame in frames:
                meta = read_json(frame)
                call = self._free(meta.get("call"))
                if call is not None:
                    call.answer(meta, frame.data)
        self._is_closed = True
        for number in list(self._calls):
            call = self._free(number)
            if call is not None:
                call.answer({}, _encode({"message": _GONE}))


def _wait(lock: LockType) -> None:
    # A SIGINT that comes right before the wait begins is noticed only when it ends.
    while not lock.acquire(timeout=_NOTICE_S):
        pass


class _Text:
    """What `inspect` shows as it is."""

    def __init__(self, text: Any) -> None:
        self._text = str(text)

    def __repr__(self) -> str:
        return self._text


def _signature(told: Json) -> inspect.Signature:
    parameters = []
    for each in told.get("parameters") or []:
        hint, default = each.get("hint"), each.get("default")
        parameters.append(
            inspect.Parameter(
                each["name"],
                getattr(inspect.Parameter, each["kind"]),
                default=inspect.Parameter.empty if default is None else _Text(default),
                annotation=inspect.Parameter.empty if hint == "Any" else _Text(hint),
            )
        )
    returns = told.get("returns")
    shown = inspect.Signature.empty if returns in (None, "Any") else _Text(returns)
    return inspect.Signature(parameters, return_annotation=shown)


def _describe(told: List[Json]) -> str:
    lines = ["Functions of the host's. They fail with tools.ToolError.", ""]
    for each in told:
        lines.append(str(each.get("signature")))
        doc = str(each.get("doc") or "").strip()
        lines += ["    " + line for line in doc.splitlines()[:1]]
    return "\n".join(lines)


def _encode(value: Any) -> bytes:
    try:
        return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError("The arguments have no form in JSON: %s." % error) from None


def _plain(value: Any) -> Any:
    """What JSON has a form for in place of `value`."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(bytes(value), newline=False).decode("ascii")
    if isinstance(value, (set, frozenset)):
        return list(value)
    for method in ("tolist", "isoformat", "__fspath__"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    raise TypeError("a %s has none" % type(value).__name__)
