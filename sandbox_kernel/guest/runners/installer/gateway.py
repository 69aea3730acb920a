"""An HTTP server on this sandbox's own loopback: each GET goes to the host, and nothing else.

Installers take it for the index itself (`/h/<host>/<path>`), or for a proxy (apt). What may be
asked for is the host's to decide; a refusal comes back as an answer like any other.
"""

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, NamedTuple

Json = Dict[str, Any]
Say = Callable[[str, str, Json], None]
Acknowledge = Callable[[int, str], None]

_FORWARDED = ("Accept", "Accept-Encoding", "Range", "If-None-Match", "If-Modified-Since")


class Piece(NamedTuple):
    """A part of an answer. The host waits until `cell` is acknowledged."""

    cell: int
    data: Json
    content: bytes


class Gateway:
    """All requests on their way. `deliver` is called by the thread that reads frames."""

    def __init__(self, say: Say, acknowledge: Acknowledge) -> None:
        self._say = say
        self._acknowledge = acknowledge
        self._lock = threading.Lock()
        self._last = 0
        self._open: Dict[str, "queue.SimpleQueue[Piece]"] = {}

    def start(self, port: int) -> None:
        """Listen from here on."""
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler_for(self))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def deliver(self, cell: int, number: Any, data: Any, content: bytes) -> None:
        """A piece came from the host."""
        with self._lock:
            waiting = self._open.get(number)
        if waiting is None:
            self._acknowledge(cell, "gone")
        else:
            waiting.put(Piece(cell, data, content))

    def ask(self, method: str, path: str, headers: Dict[str, str]) -> "Exchange":
        """Send a request to the host."""
        with self._lock:
            self._last += 1
            number = str(self._last)
            pieces: "queue.SimpleQueue[Piece]" = queue.SimpleQueue()
            self._open[number] = pieces
        self._say("fetch", number, {"method": method, "path": path, "headers": headers})
        return Exchange(self, number, pieces)

    def acknowledge(self, piece: Piece, status: str = "ok") -> None:
        """Let the host go on with the next piece, or tell it that nobody listens any more."""
        self._acknowledge(piece.cell, status)

    def forget(self, number: str, pieces: "queue.SimpleQueue[Piece]") -> None:
        """Nobody listens to `number` any more."""
        with self._lock:
            del self._open[number]
        while not pieces.empty():
            self._acknowledge(pieces.get().cell, "gone")


class Exchange:
    """One request's answer, piece by piece."""

    def __init__(self, gateway: Gateway, number: str, pieces: "queue.SimpleQueue[Piece]") -> None:
        self._gateway = gateway
        self._number = number
        self._pieces = pieces

    def next(self) -> Piece:
        """The next piece; acknowledge it."""
        return self._pieces.get()

    def acknowledge(self, piece: Piece) -> None:
        self._gateway.acknowledge(piece)

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._gateway.forget(self._number, self._pieces)


def _handler_for(gateway: Gateway) -> Any:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name: self.headers[name] for name in _FORWARDED if self.headers[name]}
            with gateway.ask(self.command, _path(self.path), headers) as exchange:
                self._answer(exchange)

        do_HEAD = do_GET

        def _answer(self, exchange: Exchange) -> None:
            piece = exchange.next()
            is_chunked = self._begin(piece.data)
            while True:
                if piece.content and self.command != "HEAD":
                    self._write(piece.content, is_chunked)
                exchange.acknowledge(piece)
                if piece.data.get("is_broken"):
                    self.close_connection = True
                    return
                if piece.data.get("is_last"):
                    break
                piece = exchange.next()
            if is_chunked:
                self.wfile.write(b"0\r\n\r\n")

        def _begin(self, head: Json) -> bool:
            """Status and headers; whether the body must be cut into chunks."""
            self.send_response(head["status"])
            for name, value in head["headers"].items():
                self.send_header(name, value)
            has_body = self.command != "HEAD" and head["status"] not in (204, 304)
            is_chunked = has_body and "Content-Length" not in head["headers"]
            if is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return is_chunked

        def _write(self, content: bytes, is_chunked: bool) -> None:
            if is_chunked:
                content = b"%x\r\n%s\r\n" % (len(content), content)
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            """Nobody reads a log in here."""

    return Handler


def _path(target: str) -> str:
    """A proxy is asked for whole addresses; the host decides between http and https."""
    for scheme in ("http://", "https://"):
        if target.startswith(scheme):
            return "/h/" + target[len(scheme) :]
    return target
