"""A model that says what a test wrote down, behind a real OpenAI-compatible HTTP server.

    def test_it(model_server):
        model_server.script(calls(call("run_code", code="print(1)")), "It printed 1.")
        client = OpenAI(base_url=model_server.base_url, api_key=model_server.key)
        ...
        assert model_server.requests[0].messages[-1]["content"] == "print one"

Every request to `/v1/chat/completions` (streamed or not) takes the next turn. A turn is a
text, a `Turn` from `says`, `calls`, `fails`, `raw`, `slow`, `holds` or `cut`, or a function
that is given the `ModelRequest` and returns one of these. A request beyond the script gets a
400 and fails the test at its end. `environment` is what `SANDBOX_KERNEL_…` would hold.
"""

from __future__ import annotations

import itertools
import json
import secrets
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

MODEL = "scripted-1"
Json = dict[str, Any]


# --- what a test writes down ------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One answer. Made by the functions below."""

    text: str = ""
    calls: tuple[Json, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None  # sent as it is, in place of an answer
    content_type: str = "application/json"
    delay_s: float = 0.0
    holds: bool = False  # for as long as the client waits
    cut_after: int | None = None  # SSE events, or bytes of an answer that is not streamed
    finish: str = ""
    piece: int = 5  # characters of text or arguments a streamed event has


def says(text: str, *, piece: int = 5, finish: str = "stop") -> Turn:
    return Turn(text=text, piece=piece, finish=finish)


def call(name: str, arguments: Json | str | None = None, /, **fields: Any) -> Json:
    """A call for `calls`. A text as `arguments` is sent as it is: it may be no JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps({**(arguments or {}), **fields})
    function = {"name": name, "arguments": text}
    return {"id": f"call_{secrets.token_hex(6)}", "type": "function", "function": function}


def calls(*wanted: Json, text: str = "", piece: int = 5) -> Turn:
    return Turn(text=text, calls=wanted, piece=piece, finish="tool_calls")


def fails(status: int, message: str = "it failed", *, code: str = "", **headers: str) -> Turn:
    """An error of the API: `fails(429, "slow down", retry_after_ms="1")`."""
    error = {"message": message, "type": "scripted", "param": None, "code": code or None}
    pairs = tuple((name.replace("_", "-").title(), text) for name, text in headers.items())
    return Turn(status=status, body=json.dumps({"error": error}).encode(), headers=pairs)


def raw(body: bytes, *, status: int = 200, content_type: str = "application/json") -> Turn:
    """Bytes that need not be an answer at all."""
    return Turn(status=status, body=body, content_type=content_type)


def slow(turn: Turn | str, seconds: float) -> Turn:
    return replace(_turn(turn), delay_s=seconds)


def holds(text: str = "") -> Turn:
    """Nothing but `text` while the client waits: ends when it hangs up."""
    return Turn(text=text, holds=True)


def cut(turn: Turn | str, after: int = 2) -> Turn:
    """The connection breaks in the middle."""
    return replace(_turn(turn), cut_after=after)


def _turn(item: Turn | str) -> Turn:
    return says(item) if isinstance(item, str) else item


@dataclass(frozen=True)
class ModelRequest:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: Json

    @property
    def messages(self) -> list[Json]:
        return list(self.body.get("messages", []))

    @property
    def last(self) -> Json:
        return self.messages[-1]

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def is_streamed(self) -> bool:
        return bool(self.body.get("stream"))


Scripted = Turn | str | Callable[[ModelRequest], Turn | str]


@dataclass
class ModelServer:
    """The server, seen from the test."""

    address: str
    key: str = field(default_factory=lambda: f"sk-scripted-{secrets.token_hex(12)}")
    models: list[str] = field(default_factory=lambda: [MODEL])
    requests: list[ModelRequest] = field(default_factory=list)  # of completions
    problems: list[str] = field(default_factory=list)  # what the test must be told
    hung_up: threading.Event = field(default_factory=threading.Event)  # a client left early
    held: threading.Event = field(default_factory=threading.Event)  # a `holds` turn has begun
    _turns: list[Scripted] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    @property
    def base_url(self) -> str:
        return f"{self.address}/v1"

    @property
    def model(self) -> str:
        return self.models[0]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SANDBOX_KERNEL_MODEL": self.model,
            "SANDBOX_KERNEL_MODEL_URL": self.base_url,
            "SANDBOX_KERNEL_MODEL_KEY": self.key,
        }

    @property
    def remaining(self) -> int:
        """Turns that no request has taken."""
        return len(self._turns)

    def script(self, *turns: Scripted) -> None:
        """Add turns after those that are left."""
        with self._lock:
            self._turns.extend(turns)

    def next_turn(self, request: ModelRequest) -> Turn:
        with self._lock:
            self.requests.append(request)
            if not self._turns:
                self.problems.append(f"request {len(self.requests)} came after the script's end")
                return fails(400, "the scripted model has no turn left")
            item = self._turns.pop(0)
        try:
            return _turn(item(request) if callable(item) else item)
        except Exception as error:
            # An assertion in a test's function must fail the test, not a server's thread.
            self.problems.append(f"{type(error).__name__}: {error}")
            return fails(400, f"the scripted turn failed: {error}")


# --- answers ----------------------------------------------------------------------------

_USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
_numbers = itertools.count(1)


def _envelope(request: ModelRequest, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{next(_numbers)}",
        "object": kind,
        "created": int(time.time()),
        "model": request.body.get("model", MODEL),
    }


def completion(request: ModelRequest, turn: Turn) -> Json:
    """An answer in one piece."""
    message: Json = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if turn.calls:
        message["tool_calls"] = list(turn.calls)
    choice = {"index": 0, "message": message, "finish_reason": turn.finish, "logprobs": None}
    return {**_envelope(request, "chat.completion"), "choices": [choice], "usage": _USAGE}


def chunks(request: ModelRequest, turn: Turn) -> Iterator[Json]:
    """The same as a stream: texts and arguments in pieces, names once."""
    envelope = _envelope(request, "chat.completion.chunk")

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(turn.text, turn.piece):
        yield chunk({"content": piece})
    for index, wanted in enumerate(turn.calls):
        name = {"name": wanted["function"]["name"], "arguments": ""}
        yield chunk({"tool_calls": [{**wanted, "index": index, "function": name}]})
        for piece in _pieces(wanted["function"]["arguments"], turn.piece):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, turn.finish)
    if (request.body.get("stream_options") or {}).get("include_usage"):
        yield {**envelope, "choices": [], "usage": _USAGE}


def _pieces(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(0, len(text), length)]


# --- the server ---------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ModelServer

    def do_GET(self) -> None:
        if not self._is_admitted():
            return
        if self.path.rstrip("/") != "/v1/models":
            self._send(fails(404, f"there is no {self.path}"))
            return
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "tests"}
            for name in self.owner.models
        ]
        self._send_json({"object": "list", "data": rows})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_admitted():
            return
        if self.path.partition("?")[0] != "/v1/chat/completions":
            self._send(fails(404, f"there is no {self.path}"))
            return
        headers = {name.lower(): text for name, text in self.headers.items()}
        request = ModelRequest("POST", self.path, headers, json.loads(content))
        if (name := request.body.get("model")) not in self.owner.models:
            self._send(fails(404, f"The model `{name}` does not exist", code="model_not_found"))
            return
        try:
            self._answer(request, self.owner.next_turn(request))
        except (BrokenPipeError, ConnectionResetError):
            self.owner.hung_up.set()
            self.close_connection = True

    def _is_admitted(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.owner.key}":
            return True
        self._send(fails(401, "Incorrect API key provided", code="invalid_api_key"))
        return False

    def _answer(self, request: ModelRequest, turn: Turn) -> None:
        if turn.delay_s:
            self._wait(turn.delay_s)
        if turn.body is not None:
            self._send(turn)
        elif request.is_streamed:
            self._stream(request, turn)
        elif turn.holds:
            self._hold()
        else:
            self._send_json(completion(request, turn), turn.cut_after)

    def _stream(self, request: ModelRequest, turn: Turn) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, item in enumerate(chunks(request, turn)):
            if number == turn.cut_after:
                self.close_connection = True
                return
            if turn.holds and item["choices"][0]["finish_reason"] is not None:
                self._hold()
                return
            self._write(f"data: {json.dumps(item)}\n\n".encode())
        self._write(b"data: [DONE]\n\n")
        self._write(b"")

    def _write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _wait(self, seconds: float) -> None:
        """Until `seconds` have passed, the client hangs up or the test ends."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.owner._closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                raise BrokenPipeError

    def _hold(self) -> None:
        self.close_connection = True
        self.owner.held.set()
        self._wait(60)

    def _send_json(self, value: Json, cut_after: int | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut_after])
        self.close_connection = self.close_connection or cut_after is not None

    def _send(self, turn: Turn) -> None:
        assert turn.body is not None
        self.send_response(turn.status)
        for name, text in turn.headers:
            self.send_header(name, text)
        self.send_header("Content-Type", turn.content_type)
        self.send_header("Content-Length", str(len(turn.body)))
        self.end_headers()
        self.wfile.write(turn.body)

    def log_message(self, *_arguments: Any) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_arguments: Any) -> None:
        pass  # clients that hang up between requests are no news


@contextmanager
def serving() -> Iterator[ModelServer]:
    """A server on a free port of the loopback interface, gone afterwards."""
    handler = type("Handler", (_Handler,), {})
    listener = _Listener(("127.0.0.1", 0), handler)
    server = ModelServer(f"http://127.0.0.1:{listener.server_address[1]}")
    handler.owner = server
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A scripted model for one test."""
    with serving() as server:
        yield server
    assert not server.problems, server.problems
