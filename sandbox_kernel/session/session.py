"""The verbs of a session. One cell runs at a time; who calls meanwhile waits for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused, SandboxDied, SettingsError
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.session import cell_limits
from sandbox_kernel.session.guest import Guest
from sandbox_kernel.session.life import Life
from sandbox_kernel.session.run import Outcome, Run, Sink

if TYPE_CHECKING:
    from sandbox_kernel.session.ports import Forward

MAX_ANSWER_BYTES = 8 * 1024 * 1024

_UNSET: Any = object()


class SandboxSession(Life):
    """One sandbox and who uses it. Arguments and errors: see `Life`."""

    # -- cells -----------------------------------------------------------------

    async def execute(
        self,
        code: str,
        *,
        on_event: Sink,
        silent: bool = False,
        store_history: bool = True,
        allow_stdin: bool = False,
        user_expressions: dict[str, str] | None = None,
        execution_count: int = 0,
        timeout_s: float | None = _UNSET,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        on_cell: Callable[[int], None] | None = None,
        request_id: str = "",
        runner: str = "",
        is_warm_up: bool = False,
    ) -> Outcome:
        """Run a cell. What it shows goes to `on_event` in order, already admitted.

        A limit, a timeout or a death is a `CellFailed` that names it and says whether the
        variables survived. `memory_bytes` and `cpus` hold for this cell only, where the
        backend can change a running sandbox. `on_cell` hears the number that the cell's
        events carry. `request_id` is Jupyter's, by which an Output widget asks a front end
        for outputs. `runner` is the language of the cell where that is not the session's own:
        each has its own variables, in the same workspace. `is_warm_up`: the cell is our own,
        before any of a user's: the runner first does what first cells wait for.

        Raises:
            BackendUnavailable, SandboxDied, SessionClosed: no cell could be run at all.
            RequestRefused: there is no place for that language beside the others; or the session
            has tools, and its runner takes none.
            SettingsError: the limits for this cell cannot be, or there is no such language.
        """
        async with self._turn:
            name, guest = await self._started_for(runner)
            limits = await cell_limits.change(guest, self.limits, memory_bytes, cpus)
            cell = self._next_cell()
            if on_cell is not None:
                on_cell(cell)
            limit_s = limits.timeout_s if timeout_s is _UNSET else timeout_s
            language = self._runners.title(name)
            run = Run(cell, guest, limits, limit_s, on_event, self._spawn, name, language)
            self._runners.note_cell(cell, name)
            self._tell_news(run)
            meta = {
                **_addressed(name),
                "silent": silent,
                "store_history": store_history,
                "allow_stdin": allow_stdin,
                "user_expressions": user_expressions or {},
                "execution_count": execution_count,
                "msg_id": request_id,
            }
            if is_warm_up:
                meta["is_warm_up"] = True
            self._run = run
            if self.tool_calls is not None:
                self.tool_calls.begin(run)
            try:
                return await run.to_end(meta, _encoded(code))
            finally:
                for text in self._gate.finish(cell):
                    run.hear(text)
                self._run = None
                if self.tool_calls is not None:
                    self.tool_calls.end()
                self._note(await cell_limits.put_back(guest, self.limits, limits))

    async def interrupt(self) -> None:
        """Ask what runs to stop, and see to it. Returns at once; does nothing when idle."""
        if self._run is not None:
            self._run.stop("interrupt")
        elif self._guest is not None and (stuck := self._guest.unanswered):
            # A comm's callback, a completion: user code runs in these, too.
            self._spawn(self._stop_requests(self._guest, stuck))

    async def _stop_requests(self, guest: Guest, stuck: dict[int, str]) -> None:
        for runner in sorted(set(stuck.values())):
            await guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT", "runner": runner})
        await asyncio.sleep(self.limits.interrupt_grace_s)
        still = guest.unanswered
        for runner in sorted({stuck[cell] for cell in stuck if cell in still}):
            told = "A request did not stop when it was interrupted."
            self._note(f"{told} {self._runners.lost(guest, runner)}", runner)
            await guest.send(Kind.RESTART_RUNNER, self._next_cell(), {"runner": runner})

    async def complete(self, code: str, cursor_pos: int, *, runner: str = "") -> events.Json:
        """Completions at `cursor_pos` (code points), as `complete_reply` wants them.

        `runner`, here and below: as in `execute`.
        """
        return await self._ask_runner(Kind.COMPLETE, code, {"cursor_pos": cursor_pos}, runner)

    async def inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, *, runner: str = ""
    ) -> events.Json:
        """Documentation at `cursor_pos` (code points), as `inspect_reply` wants it."""
        meta = {"cursor_pos": cursor_pos, "detail_level": detail_level}
        return await self._ask_runner(Kind.INSPECT, code, meta, runner)

    async def is_complete(self, code: str, *, runner: str = "") -> events.Json:
        """Whether `code` is a whole statement, as `is_complete_reply` wants it."""
        return await self._ask_runner(Kind.IS_COMPLETE, code, {}, runner)

    async def attach(self, layers: list[dict[str, str]], environment: dict[str, str]) -> None:
        """Let every runner, those to come too, use packages that lie in the sandbox already.

        Args:
            layers: each {"ecosystem": "pip", "npm", …, "path": a directory in the guest}.
            environment: variables for all runners, replacing those of their names.

        Raises:
            RequestRefused: the guest cannot take that.
            SandboxDied: it went away meanwhile; the next one has them from the start.
        """
        meta = {"layers": layers, "environment": environment}
        # From then on in every sandbox that replaces this one.
        attached = self.spec._replace(environment={**self.spec.environment, **environment})
        try:
            answer = await self._ask(Kind.ATTACH, meta)
        except SandboxDied:
            self.spec = attached
            raise
        if not isinstance(answer, events.Answered):
            raise RequestRefused("The sandbox takes no packages while it runs.")
        self.spec = attached

    def answer_input(self, text: str | None) -> None:
        """Give the running cell what it waits for in `input()`; nothing if none waits.

        None: there will be no more, which raises EOFError there. Over 8 MiB the rest is cut
        off: a cell that gets nothing would wait for ever.
        """
        if self._run is not None and self._guest is not None:
            data = _encoded(text or "")[:MAX_ANSWER_BYTES]
            meta = {"eof": True} if text is None else None
            self._spawn(self._guest.send(Kind.INPUT_REPLY, self._run.cell, meta, data))

    def forward(
        self,
        guest_port: int,
        *,
        host_port: int = 0,
        host: str = "127.0.0.1",
        socket_path: str | None = None,
    ) -> Forward:
        """An async context in which a server inside is reachable; see `session.ports`.

        Args:
            guest_port: where it listens, at the sandbox's own loopback.
            host_port: 0: any that is free. Every user of this machine reaches it.
            socket_path: a unix socket in its place, in a directory of the caller's alone.

        Raises:
            SettingsError: forwards were not allowed, or not there.
        """
        from sandbox_kernel.session import connections, ports

        if not self._allow_forward:
            raise SettingsError(ports.NOT_ALLOWED)
        if self._ports is None:
            now = lambda: self._guest  # noqa: E731
            self._ports = connections.Ports(self._started, now, self._next_cell, self._spawn)
        return ports.Forward(self._ports, guest_port, host, host_port, socket_path)

    async def send_comm(
        self,
        action: str,
        comm_id: str,
        target_name: str,
        data: events.Json,
        metadata: events.Json,
        buffers: list[bytes],
        *,
        on_cell: Callable[[int], None] | None = None,
        request_id: str = "",
    ) -> None:
        """Pass a front end's comm message in; `on_cell` hears the number its events carry."""
        meta = {
            **_addressed(self._runners.of_comm(comm_id)),
            "action": action,
            "comm_id": comm_id,
            "target_name": target_name,
            "data": data,
            "metadata": metadata,
            "buffers": [len(buffer) for buffer in buffers],
            "msg_id": request_id,
        }
        guest = await self._started()
        cell = self._next_cell()
        if on_cell is not None:
            on_cell(cell)
        await guest.ask(Kind.COMM, cell, meta, b"".join(buffers))

    async def status(self) -> events.Json:
        """What the guest says of itself, and what the host measured, as plain values."""
        guest = await self._started()
        answer = await guest.ask(Kind.STATUS, self._next_cell())
        usage = await guest.sandbox.measure()
        measured = {name: value for name, value in usage._asdict().items() if value is not None}
        return {**answer.content, **measured, "boundary": self.boundary, "state": self.state.value}

    # -- parts

    async def _ask_runner(
        self, kind: int, code: str, meta: dict[str, Any], runner: str
    ) -> events.Json:
        """A question about code; a runner that refuses or goes has nothing to say."""
        try:
            name, guest = await self._started_for(runner)
            asked = {**_addressed(name), **meta}
            answer = await guest.ask(kind, self._next_cell(), asked, _encoded(code))
        except (RequestRefused, SandboxDied):
            return {}
        return answer.content

    async def _started_for(self, language: str) -> tuple[str, Guest]:
        """The name of the runner for `language` ("": the session's own), and where it is."""
        guest = await self._started()
        name = self._runners.name(language)
        await self._runners.require(guest, name, self._next_cell)
        if self.tool_calls is not None:
            await self.tool_calls.announce(guest, self._next_cell)
        return name, guest


def _addressed(runner: str) -> dict[str, str]:
    """The part of a request's meta that says whose it is; nothing for the main runner."""
    return {"runner": runner} if runner else {}


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
