"""A kernel with a scripted stand-in for the session: the server alone, over real sockets.

Started as a program, with a connection file. A cell is lines of `verb argument`:

    print, err, result, display, update, clear, fail    show something
    input, password     ask, and print the answer in brackets
    wait                until an interrupt
    lines N             N texts, one loop turn apart
    displays N          N displays, one loop turn apart
    late TEXT           print TEXT after the reply
    comm ACTION ID      send a comm message
    page TEXT · expr    payload, user expressions
    die · bug           raise as a session may, and as it must not
    seen                print what the session was called with
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sandbox_kernel import events, languages
from sandbox_kernel.errors import RequestRefused, SandboxDied
from sandbox_kernel.kernel import connection
from sandbox_kernel.kernel.requests import Inside
from sandbox_kernel.kernel.server import Server, serve
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import FileEntry, Outcome

RECEIPT = events.Receipt(0.5, 0.25, 1024, 12, 0)


class ScriptedFiles:
    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {"a.txt": b"alpha", "dir/<b>.csv": b"1,2\n"}

    async def list(self) -> list[FileEntry]:
        return [FileEntry(name, len(c), 0.0) for name, c in self.contents.items()]

    async def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        if name == "forever":
            await asyncio.Event().wait()
        if name not in self.contents:
            raise RequestRefused(f"There is no file {name!r} in the workspace.")
        return self.contents[name]

    async def write(self, name: str, content: bytes) -> None:
        self.contents[name] = content


class ScriptedSession:
    """Has the methods of `SandboxSession` that the kernel calls."""

    backend = SimpleNamespace(name="scripted")
    boundary = "a scripted boundary"
    is_ready = False  # so that every cell waits in `start`, where it can be interrupted
    spec = SimpleNamespace(python=None)
    is_busy = True  # always: nothing is to be made in idle time

    def __init__(self, on_event: Callable[[events.Event], None]) -> None:
        self.limits = Limits()
        self.files = ScriptedFiles()
        self._on_event = on_event
        self._cell = 0
        self._interrupted = asyncio.Event()
        self._answer: asyncio.Future[str] | None = None
        self._is_running = False
        self._ended = asyncio.Event()
        self._late: list[asyncio.Task[None]] = []

    async def start(self) -> dict[str, Any]:
        if os.environ.get("SCRIPTED_START") == "never":
            await asyncio.Event().wait()
        return {"version": "3.99.1"}

    async def close(self) -> None:
        if os.environ.get("SCRIPTED_CLOSE") == "never":
            await asyncio.Event().wait()

    async def interrupt(self) -> None:
        self._interrupted.set()

    async def complete(self, code: str, cursor_pos: int, *, runner: str = "") -> dict[str, Any]:
        if code == "hang":
            await asyncio.Event().wait()
        return {
            "matches": [runner or "zip", 7],
            "cursor_start": 0,
            "cursor_end": cursor_pos,
            "forged": 1,
        }

    async def inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, *, runner: str = ""
    ) -> dict[str, Any]:
        text = f"{runner}{code}@{cursor_pos}/{detail_level}"
        return {"found": True, "data": {"text/plain": text}}

    async def is_complete(self, code: str, *, runner: str = "") -> dict[str, Any]:
        if code == "hang":
            await asyncio.Event().wait()
        return {"status": "incomplete", "indent": " " * len(runner) or "  "}

    async def status(self) -> dict[str, Any]:
        return {"boundary": self.boundary, "memory_bytes": 2**20, "cpu_s": 1.5, "processes": 3}

    def answer_input(self, text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(text)

    async def send_comm(self, *comm: Any, on_cell: Callable[[int], None], request_id: str) -> None:
        self._cell += 1
        on_cell(self._cell)
        action, comm_id, target, data, _metadata, buffers = comm
        echoed = {"action": action, "target": target, "data": data}
        self._on_event(
            events.CommSent(self._cell, "msg", comm_id, "", echoed, {"echo": 1}, buffers)
        )

    async def execute(
        self,
        code: str,
        *,
        on_event: Callable[[events.Event], None],
        on_cell: Callable[[int], None],
        **options: Any,
    ) -> Outcome:
        assert not self._is_running, "cells must not overlap"
        self._is_running = True
        self._ended.clear()
        self._cell += 1
        self._interrupted.clear()
        on_cell(self._cell)
        run = SimpleNamespace(
            cell=self._cell, show=on_event, options={"code": code, **options}, end={}
        )
        try:
            for line in code.split("\n"):
                verb, _, argument = line.partition(" ")
                if verb and not verb.startswith("#"):
                    await getattr(self, f"_do_{verb}")(run, argument)
                if "error" in run.end:
                    break
        finally:
            self._is_running = False
            self._ended.set()
        error = run.end.get("error")
        return Outcome(
            "error" if error else "ok",
            error,
            RECEIPT,
            run.end.get("expr", {}),
            run.end.get("payload", []),
        )

    # -- verbs

    async def _do_print(self, run: Any, text: str) -> None:
        run.show(events.TextWritten(run.cell, "stdout", text + "\n"))

    async def _do_err(self, run: Any, text: str) -> None:
        run.show(events.TextWritten(run.cell, "stderr", text + "\n"))

    async def _do_result(self, run: Any, text: str) -> None:
        run.show(events.ResultShown(run.cell, {"text/plain": text}, {}))

    async def _do_display(self, run: Any, text: str) -> None:
        run.show(events.DisplayShown(run.cell, {"text/plain": text}, {}, {"display_id": "d"}))

    async def _do_update(self, run: Any, text: str) -> None:
        run.show(events.DisplayUpdated(run.cell, {"text/plain": text}, {}, {"display_id": "d"}))

    async def _do_clear(self, run: Any, text: str) -> None:
        run.show(events.OutputCleared(run.cell, text == "wait"))

    async def _do_unserialisable(self, run: Any, _text: str) -> None:
        run.show(events.DisplayShown(run.cell, {"application/json": float("nan")}, {}, {}))

    async def _do_fail(self, run: Any, text: str) -> None:
        run.end["error"] = events.CellFailed(run.cell, text or "ValueError", "wanted", ["line"])
        run.show(run.end["error"])

    async def _do_input(self, run: Any, prompt: str, is_password: bool = False) -> None:
        if not run.options["allow_stdin"]:
            await self._do_fail(run, "StdinNotImplementedError")
            return
        self._answer = asyncio.get_running_loop().create_future()
        run.show(events.InputRequested(run.cell, prompt, is_password))
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        await asyncio.wait([self._answer, interrupted], return_when="FIRST_COMPLETED")
        interrupted.cancel()
        if self._answer.done():
            await self._do_print(run, f"[{self._answer.result()}]")
        else:
            await self._do_fail(run, "KeyboardInterrupt")

    async def _do_password(self, run: Any, prompt: str) -> None:
        await self._do_input(run, prompt, is_password=True)

    async def _do_wait(self, run: Any, _text: str) -> None:
        await self._interrupted.wait()
        await self._do_fail(run, "KeyboardInterrupt")

    async def _do_lines(self, run: Any, count: str) -> None:
        for number in range(int(count)):
            run.show(events.TextWritten(run.cell, "stdout", f"line {number}\n"))
            await asyncio.sleep(0)

    async def _do_weave(self, run: Any, count: str) -> None:
        for number in range(int(count)):
            stream = ("stdout", "stderr")[number % 2]
            run.show(events.TextWritten(run.cell, stream, f"{number}\n"))

    async def _do_displays(self, run: Any, count: str) -> None:
        for number in range(int(count)):
            run.show(events.DisplayShown(run.cell, {"text/plain": str(number)}, {}, {}))
            await asyncio.sleep(0)

    async def _do_big(self, run: Any, size: str) -> None:
        run.show(events.TextWritten(run.cell, "stdout", "x" * int(size)))

    async def _do_late(self, run: Any, text: str) -> None:
        async def later() -> None:
            await self._ended.wait()
            self._on_event(events.TextWritten(run.cell, "stdout", text + "\n"))

        self._late.append(asyncio.ensure_future(later()))

    async def _do_comm(self, run: Any, text: str) -> None:
        action, _, comm_id = text.partition(" ")
        run.show(events.CommSent(run.cell, action, comm_id, "target", {"n": 1}, {}, [b"\0\xff"]))

    async def _do_newrunner(self, run: Any, name: str) -> None:
        self._on_event(events.RunnerReady(0, {"version": "3.99.2"}, name))

    async def _do_page(self, run: Any, text: str) -> None:
        run.end["payload"] = [
            {"source": "set_next_input", "text": "evil()"},
            {"source": "page", "data": {"text/plain": text, "text/html": "<b>"}, "start": 0},
        ]

    async def _do_expr(self, run: Any, _text: str) -> None:
        run.end["expr"] = {
            "a": {"status": "ok", "data": {"text/plain": "1"}, "metadata": {}},
            "b": {"status": "error", "ename": "E", "evalue": "v", "traceback": []},
            "c": "forged",
        }

    async def _do_die(self, run: Any, _text: str) -> None:
        raise SandboxDied("The sandbox is gone. Run the cell again.")

    async def _do_bug(self, run: Any, _text: str) -> None:
        raise RuntimeError("a bug")

    async def _do_seen(self, run: Any, _text: str) -> None:
        await self._do_print(run, json.dumps(run.options))


def make(where: connection.Connection) -> Server:
    hears: list[Server] = []
    session = ScriptedSession(lambda event: hears[0].hear(event))
    inside = Inside(session, None, languages.PYTHON, "3.99", lambda data, meta: (data, meta))
    server = Server(where, inside)
    hears.append(server)
    return server


if __name__ == "__main__":
    where = connection.read(sys.argv[sys.argv.index("-f") + 1])
    sys.exit(serve(lambda: make(where)))
