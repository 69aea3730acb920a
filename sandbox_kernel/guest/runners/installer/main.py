"""Installs packages into a layer, with the host as the only way to an index.

The whole conversation, as the host (`dependencies/builder.py`) sees it:

    EXECUTE  JSON: ecosystem, requirements, port, settings     -> installs; REPLY says how it went
    COMM_OUT "fetch" with a number  <- somebody in here wants a file of the index
    COMM     "fetch" with that number, pieces of it            -> REPLY when the piece is used up
    COMM     "layer"                -> COMM_OUT "layer", the next pieces of the layer, then REPLY

Rule 1: nothing here guards anything. Packages run their build scripts beside this process,
as the same user; the host believes nothing that comes out of here.
Rule 2: a message of the host's is answered when it is used up: that is the back-pressure.
"""

import os
import threading
from typing import Any, Dict, Iterator, List, Optional

from ...framing import Kind
from ..python.channel import Channel, Request, read_json
from ..python.interrupts import Interrupts
from .context import Context, InstallFailed
from .gateway import Gateway

Json = Dict[str, Any]


def main() -> None:
    """Serve until the supervisor closes its end."""
    channel = Channel(_take_fd("SANDBOX_RUNNER_FD"), Interrupts())
    os.close(_take_fd("SANDBOX_INPUT_FD"))  # installers cannot ask anybody
    channel.send(Kind.RUNNER_READY, 0, {"implementation": "installer", "pip": _pip_version()})
    Server(channel).serve()


def _take_fd(name: str) -> int:
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd


def _pip_version() -> str:
    """The version of the pip that this environment has, "" for none: the host sends one then."""
    from importlib import metadata

    try:
        return metadata.version("pip")
    except metadata.PackageNotFoundError:
        return ""


class Server:
    """Reads requests; installs in a thread of its own, so that it can go on reading."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._cell = 0
        self._gateway = Gateway(self._say, self._acknowledge)
        self._resolved: List[Json] = []
        self._layer = ""
        self._pieces: Optional[Iterator[Any]] = None

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        while True:
            request = self._channel.receive()
            if request is None:
                os._exit(0)  # threads may be anywhere
            self._answer(request)

    def _answer(self, request: Request) -> None:
        frame, meta = request.frame, read_json(request.frame)
        if frame.kind == Kind.EXECUTE:
            threading.Thread(target=self._install, args=(request,), daemon=True).start()
        elif frame.kind == Kind.COMM and meta.get("target_name") == "fetch":
            self._gateway.deliver(frame.cell, meta.get("comm_id"), meta.get("data"), frame.data)
        elif frame.kind == Kind.COMM and meta.get("target_name") == "layer":
            self._send_pieces(frame.cell)
        else:
            self._acknowledge(frame.cell, "error")

    def _say(self, target: str, number: str, data: Json, content: bytes = b"") -> None:
        meta = {
            "action": "msg",
            "comm_id": number,
            "target_name": target,
            "data": data,
            "buffers": [len(content)] if content else [],
        }
        self._channel.send(Kind.COMM_OUT, self._cell, meta, content)

    def _acknowledge(self, cell: int, status: str = "ok") -> None:
        self._channel.send(Kind.REPLY, cell, {"status": status})

    # -- installing

    def _install(self, request: Request) -> None:
        self._cell = request.frame.cell
        reply: Json = {"status": "error"}
        try:
            context = Context.read(request.frame.data, request.descriptors)
            self._layer = context.layer
            self._gateway.start(context.port)
            self._resolved = _installer(context.ecosystem)(context)
            reply = {"status": "ok"}
        except InstallFailed as error:
            reply["reason"] = str(error)
        except Exception as error:  # the top: the host must hear of a defect, too
            reply["reason"] = "The installer failed: %s: %s" % (type(error).__name__, error)
        finally:
            for fd in request.descriptors:
                os.close(fd)
        self._channel.send(Kind.REPLY, self._cell, reply)

    # -- handing over

    def _send_pieces(self, cell: int) -> None:
        from .packing import pieces

        if self._pieces is None:
            self._pieces = pieces(self._layer)
        piece = next(self._pieces, None)
        if piece is None:
            self._say("layer", "", {"resolved": self._resolved})
        else:
            self._say("layer", "", {"entries": piece.entries}, piece.content)
        self._acknowledge(cell)


def _installer(ecosystem: str) -> Any:
    import importlib

    if ecosystem not in ("pip", "npm", "apt", "gem", "cran"):
        raise InstallFailed("There is no installer for %r." % ecosystem)
    return importlib.import_module("." + ecosystem, __package__).install
