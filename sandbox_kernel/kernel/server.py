"""The kernel's server: which request is served when, and always a reply.

Shell requests are served one after another, as in ipykernel; control requests at once,
also while a cell runs. Around every one of them goes busy and idle.

Rule 1: every request gets its reply and its idle, whatever happens: a client that misses
        one waits for ever.
Rule 2: nothing here waits for the sandbox but the request that needs it. kernel_info is
        answered before there is any.
Rule 3: what is not a message is dropped with a line on stderr.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sandbox_kernel import backends, events
from sandbox_kernel.errors import ConnectionFileError, SandboxKernelError
from sandbox_kernel.kernel import answers, watch
from sandbox_kernel.kernel.connection import Connection
from sandbox_kernel.kernel.execution import Executor
from sandbox_kernel.kernel.history import History
from sandbox_kernel.kernel.iopub import Broadcast, Parent
from sandbox_kernel.kernel.log import log, log_traceback
from sandbox_kernel.kernel.requests import (
    IS_COMPLETE_PATIENCE_S,
    Handler,
    Inside,
    Request,
    Requests,
)
from sandbox_kernel.kernel.sockets import Channel, Sockets
from sandbox_kernel.kernel.stdin import Stdin
from sandbox_kernel.kernel.warming import Warming
from sandbox_kernel.kernel.wire import Codec, Json, Message, WireError

if TYPE_CHECKING:
    from sandbox_kernel.kernel.drivers import Drivers

# A front end queues a notebook's cells at once; a thousand cells are a lot. Beyond that
# requests stay with zmq, and in the end their sender waits.
MAX_QUEUED = 2000
CLOSE_PATIENCE_S = 0.3
# Nobody attaches as quickly as a front end runs its first cell, and that time is the reader's.
SHARE_AFTER_S = 1.0
# Badly signed messages are one line each, but not a line for each of a million.
MAX_COMPLAINTS = 100


class Server:
    """One kernel. `run` serves until it is told to stop.

    Raises:
        ConnectionFileError: `connection` says where we cannot listen.
    """

    def __init__(self, connection: Connection, inside: Inside) -> None:
        self._session = inside.session
        self._codec = Codec(connection.key, connection.digest)
        self._sockets = Sockets(connection)
        self._broadcast = Broadcast(self._codec, self._sockets.iopub.send_soon, self._note_comm)
        self._stdin = Stdin(
            self._codec, self._sockets.stdin.send_when_connected, self._answer_input
        )
        history = History()
        self._inside = inside
        self._executor = Executor(inside, self._broadcast, self._stdin, history, self._share)
        self._requests = Requests(
            inside,
            self._broadcast,
            history,
            ports=connection.ports,
            complain=self._complain,
            interrupt_host=self._executor.interrupt,
        )
        # Older clients send these on shell, where they must not wait for what they are to end.
        self._at_once: dict[str, Handler] = {
            "interrupt_request": self._requests.interrupt,
            "shutdown_request": self._shut_down,
        }
        self._shell = {**self._requests.shell, "execute_request": self._execute}
        self._control = {**self._requests.control, **self._at_once}
        self._queue: deque[Request] = deque()
        self._has_work = asyncio.Event()
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._complaints = 0
        self._warming: Warming | None = None
        self._drivers: Drivers | None = None
        self._farewell = "The notebook's kernel ended."

    # -- life ------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until a shutdown request, SIGTERM, or the end of the parent."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        parent = watch.ParentWatch(watch.parent_pid(os.environ), self.stop)
        parent.start()
        self._attach()
        self._broadcast.status("starting")
        worker = asyncio.ensure_future(self._work())
        self._spawn(self._bring_up())
        try:
            await self._stopped.wait()
        finally:
            parent.stop()
            loop.remove_signal_handler(signal.SIGTERM)
            worker.cancel()
            await self._close()

    def stop(self) -> None:
        """End `run`, orderly."""
        self._stopped.set()

    def hear(self, event: events.Event) -> None:
        """What the session says besides the running cell's events."""
        if isinstance(event, events.RunnerReady):
            self._requests.note_runner(event)
            asyncio.get_running_loop().call_later(SHARE_AFTER_S, self._share)
        else:
            self._broadcast.show_late(event)

    def _attach(self) -> None:
        sockets = self._sockets
        sockets.answer_heartbeats()
        sockets.welcome_subscribers(
            lambda topic: self._codec.encode("iopub_welcome", {"subscription": topic})
        )
        sockets.stdin.attach(self._receiver("stdin", self._stdin.hear))
        sockets.control.attach(self._receiver("control", self._hear_control))
        sockets.shell.attach(self._receiver("shell", self._hear_shell))

    async def _bring_up(self) -> None:
        """Have the sandbox ready before the first cell, and know early why it is not."""
        if self._session is None:
            return
        try:
            await self._session.start()
        except SandboxKernelError as error:
            log(str(error))
            return
        session = self._session
        if not backends.shows_host(session.backend.name):
            return
        self._warming = Warming(session.spec.python, lambda: session.is_busy)
        self._warming.start()

    def _share(self) -> Drivers | None:
        """Let other programs of this user in, if they may; made when it is wanted first."""
        is_wanted = self._inside.is_shared and not self._stopped.is_set()
        if self._drivers is None and self._session is not None and is_wanted:
            from sandbox_kernel.kernel.drivers import Drivers

            self._drivers = Drivers(
                self._inside,
                self._executor,
                enqueue=self._enqueue,
                withdraw=self._withdraw,
                interrupt=self._requests.stop_everything,
            )
            self._drivers.open()
        return self._drivers

    async def _close(self) -> None:
        self._broadcast.flush()
        if self._drivers is not None:
            self._drivers.close(self._farewell)
        if self._warming is not None:
            self._warming.stop()
        if self._session is not None:
            closing = asyncio.ensure_future(self._session.close())
            await asyncio.wait([closing], timeout=CLOSE_PATIENCE_S)
        self._sockets.close()

    # -- receiving -------------------------------------------------------------

    def _receiver(
        self, name: str, hear: Callable[[Message], None]
    ) -> Callable[[list[bytes]], None]:
        def receive(parts: list[bytes]) -> None:
            try:
                message = self._codec.decode(parts)
            except WireError as error:
                self._complain(f"A message on {name} was dropped: {error}.")
                return
            hear(message)

        return receive

    def _complain(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            log(text)
        if self._complaints == MAX_COMPLAINTS:
            log("Further messages of that kind are dropped without a line.")

    def _request(self, message: Message, channel: Channel) -> Request:
        now = asyncio.get_running_loop().time()
        return Request(message, channel, Parent(message.header), now)

    def _hear_control(self, message: Message) -> None:
        request = self._request(message, self._sockets.control)
        self._spawn(self._serve(request, self._control))

    def _hear_shell(self, message: Message) -> None:
        request = self._request(message, self._sockets.shell)
        if message.msg_type in self._at_once:
            self._spawn(self._serve(request, self._at_once))
            return
        self._enqueue(request)
        if len(self._queue) >= MAX_QUEUED:
            self._sockets.shell.pause()
        if message.msg_type == "is_complete_request":
            loop = asyncio.get_running_loop()
            loop.call_later(IS_COMPLETE_PATIENCE_S, self._give_up_waiting, request)

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        self._has_work.set()

    def _withdraw(self, request: Request) -> bool:
        """Take `request` out of the queue; False when it isn't there any more."""
        if request not in self._queue:
            return False
        self._queue.remove(request)
        return True

    def _give_up_waiting(self, request: Request) -> None:
        """Answer an is_complete request that still stands behind a running cell."""
        if request in self._queue:
            self._queue.remove(request)
            handlers: dict[str, Handler] = {"is_complete_request": self._requests.say_unknown}
            self._spawn(self._serve(request, handlers))

    # -- serving ---------------------------------------------------------------

    async def _work(self) -> None:
        """Serve the queue, one request after another."""
        while True:
            while self._queue:
                request = self._queue.popleft()
                self._sockets.shell.resume()
                await self._serve(request, self._shell)
            self._has_work.clear()
            await self._has_work.wait()

    async def _serve(self, request: Request, handlers: dict[str, Handler]) -> None:
        """One request, with busy, reply and idle around it."""
        self._broadcast.status("busy", request.parent)
        try:
            handler = handlers.get(request.message.msg_type, self._requests.unknown)
            content = await handler(request)
        except SandboxKernelError as error:
            content = answers.error(type(error).__name__, str(error))
        except Exception as error:  # the top of the adapter: a bug of ours still gets a reply
            log_traceback(f"A {request.message.msg_type} failed: {type(error).__name__}.")
            content = self._own_failure(request)
        if content is not None:
            self._reply(request, content)
        self._broadcast.status("idle", request.parent)

    def _reply(self, request: Request, content: Json, metadata: Json | None = None) -> None:
        """Send the reply; comms and other messages that are no requests have none."""
        kind, is_request, _ = request.message.msg_type.rpartition("_request")
        if not is_request:
            return
        if kind == "execute" and "execution_count" not in content:
            content = answers.execute_reply(content, self._executor.execution_count)
        options: dict[str, Any] = {
            "parent": request.parent.header,
            "identities": request.message.identities,
        }
        try:
            parts = self._codec.encode(f"{kind}_reply", content, metadata=metadata, **options)
        except WireError as error:
            log(f"A reply to {request.message.msg_type} was replaced by an error: {error}.")
            content = answers.error("WireError", f"The reply is not shown: {error}.")
            parts = self._codec.encode(f"{kind}_reply", content, **options)
        self._broadcast.flush()
        request.channel.send(parts)

    def _own_failure(self, request: Request) -> Json:
        """The reply to a request that met a bug of ours; of a cell the reader is told, too."""
        content = answers.error(
            "InternalError", "The kernel failed; its log says more. Run the cell again."
        )
        if request.message.msg_type == "execute_request":
            shown = {name: content[name] for name in ("ename", "evalue", "traceback")}
            self._broadcast.send("error", shown, request.parent)
        return content

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- requests that change the order of others ------------------------------

    async def _execute(self, request: Request) -> None:
        """Run a cell, and after its failure answer those queued behind it.

        The reply is sent here, since it has metadata and goes before theirs.
        """
        reply = await self._executor.execute(request.message, request.driven)
        # Before the reply is out: what its reader sends after having read it shall run.
        behind = self._take_queued_cells() if reply.is_abort_wanted else []
        self._reply(request, reply.content, reply.metadata)
        for waiting in behind:
            self._abort(waiting)

    def _take_queued_cells(self) -> list[Request]:
        """Every execute request that came before now, out of the queue."""
        self._sockets.shell.resume()
        self._sockets.shell.drain_all()
        waiting, self._queue = self._queue, deque()
        cells: list[Request] = []
        for request in waiting:
            is_cell = request.message.msg_type == "execute_request"
            # A failure of the reader's is none of another driver's business.
            is_cell = is_cell and request.driven is None
            (cells if is_cell else self._queue).append(request)
        return cells

    def _abort(self, request: Request) -> None:
        self._broadcast.status("busy", request.parent)
        self._reply(request, {"status": "aborted"}, {"status": "aborted"})
        self._broadcast.status("idle", request.parent)

    async def _shut_down(self, request: Request) -> Json:
        content = {"status": "ok", "restart": bool(request.message.content.get("restart"))}
        what = "was restarted" if content["restart"] else "was shut down"
        self._farewell = f"The notebook's kernel {what}; its variables are gone."
        # To everybody else, too: other clients learn that this kernel is going.
        self._broadcast.send("shutdown_reply", content, request.parent)
        # After this turn of the loop, so that the reply and the idle are on their way.
        asyncio.get_running_loop().call_soon(self.stop)
        return content

    # -- for the others --------------------------------------------------------

    def _answer_input(self, text: str) -> None:
        if self._session is not None:
            self._session.answer_input(text)

    def _note_comm(self, event: events.CommSent) -> None:
        self._requests.comms.note(event)


def serve(make: Callable[[], Server]) -> int:
    """Run the server that `make` makes, until its end; returns the exit code."""

    async def run() -> int:
        try:
            server = make()
        except ConnectionFileError as error:
            log(str(error))
            return 1
        await server.run()
        return 0

    return asyncio.run(run())
