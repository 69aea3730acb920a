"""The life of a session: one sandbox at a time, started, heard, and replaced when it is gone.

What a guest says arrives at `_hear`: what concerns the session's own state is taken, the
rest passes the gate and goes to the running cell, or to `on_event`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any

from sandbox_kernel import backends, events
from sandbox_kernel.backends.base import Backend, Sandbox, SandboxSpec
from sandbox_kernel.errors import SandboxDied, SandboxKernelError, SessionClosed
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.limits import Limits
from sandbox_kernel.outputs import OutputPolicy
from sandbox_kernel.provision import provision
from sandbox_kernel.session import causes
from sandbox_kernel.session.files import Files
from sandbox_kernel.session.gate import Gate
from sandbox_kernel.session.guest import Guest
from sandbox_kernel.session.run import Run, Sink
from sandbox_kernel.session.runners import Runners

if TYPE_CHECKING:
    from sandbox_kernel.session.connections import Ports
    from sandbox_kernel.session.tool_calls import ToolCalls
    from sandbox_kernel.session.tools import Toolbox

# A runtime that has not brought up a runner by then never will; clients wait for 60 s.
START_TIMEOUT_S = 50.0


class State(Enum):
    """Where a session stands."""

    NEW = "new"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DEAD = "dead"  # its sandbox is gone; the next use makes a new one
    CLOSED = "closed"


class Life:
    """One sandbox at a time, and who hears of it.

    Args:
        backend: makes the sandbox, and another one when it died.
        spec: what to make.
        policy: "safe" or "trusted"; what may reach a browser.
        on_event: hears what belongs to no running cell: late output, comms, RunnerReady.
        sandbox: one that `provision` made already.
        tools: functions of the host's that cells may call.
        allow_forward: whether `forward` may make servers inside reachable on this machine.

    Raises:
        SettingsError: there is no such policy.
    """

    def __init__(
        self,
        backend: Backend,
        spec: SandboxSpec,
        *,
        policy: str = "safe",
        on_event: Sink | None = None,
        sandbox: Sandbox | None = None,
        tools: Toolbox | None = None,
        allow_forward: bool = False,
    ) -> None:
        self.backend = backend
        self.spec = spec
        self.files = Files(self._ask, spec.limits.workspace_bytes)
        is_in_image = not backends.shows_host(backend.name)
        self._runners = Runners(spec.language, is_in_image=is_in_image)
        self._gate = Gate(OutputPolicy(policy), spec.limits)
        self._on_event = on_event or (lambda _event: None)
        self._guest = Guest(sandbox, self._hear) if sandbox is not None else None
        self.tool_calls = _tool_calls(tools)
        self._allow_forward = allow_forward
        self._ports: Ports | None = None
        self._has_started = False
        self._is_closed = False
        self._last_cell = 0
        self._run: Run | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        # What happened while nobody was looking, by runner; told with the next cell.
        self._news: dict[str, str] = {}

    # -- life ------------------------------------------------------------------

    async def start(self) -> events.Json:
        """Wait until a runner takes requests; what it says of itself. Safe to call again.

        Raises:
            BackendUnavailable: nothing can isolate here; the message has the remedy.
            SandboxDied: the sandbox did not come up.
            SessionClosed: the session was closed.
        """
        return (await self._started()).info or {}

    async def restart(self) -> None:
        """A fresh runner in the same sandbox: the variables of all languages go, files stay.

        Raises:
            SandboxDied: there was no sandbox to restart it in.
        """
        if self._run is not None:
            self._run.note_restart()
        await self._ask(Kind.RESTART_RUNNER)

    async def close(self) -> None:
        """Destroy the sandbox and all in it. Safe to call twice; never raises."""
        self._is_closed = True
        guest, self._guest = self._guest, None
        if self._ports is not None:
            await self._ports.close()
        if guest is not None:
            await guest.close()
        if self._run is not None:
            self._run.end(None)

    @property
    def state(self) -> State:
        if self._is_closed:
            return State.CLOSED
        if self._guest is None or self._guest.death is not None:
            return State.DEAD if self._has_started else State.NEW
        if self._guest.info is None:
            return State.STARTING
        return State.BUSY if self._run is not None else State.IDLE

    @property
    def is_ready(self) -> bool:
        """Whether `start` would return at once."""
        return not self._is_closed and self._guest is not None and self._guest.is_ready

    @property
    def is_busy(self) -> bool:
        return self._run is not None

    @property
    def has_news(self) -> bool:
        """Whether something happened between cells that the next one will tell."""
        return bool(self._news)

    @property
    def limits(self) -> Limits:
        return self.spec.limits

    @property
    def sandbox_id(self) -> str:
        """Which sandbox it has now; "" before there is one."""
        return self._guest.sandbox.id if self._guest is not None else ""

    @property
    def boundary(self) -> str:
        """One line for a reader: what stands between guest and host; "" before there is one."""
        return self._guest.sandbox.boundary if self._guest is not None else ""

    # -- hearing ---------------------------------------------------------------

    def _hear(self, batch: list[events.Event]) -> None:
        """Everything that a guest says besides answers; an empty batch says it is gone."""
        if not batch:
            self._hear_death()
        shown: list[events.Event] = []
        for event in batch:
            if not self._take(event, shown):
                shown.append(event)
        self._show(shown)

    def _take(self, event: events.Event, unshown: list[events.Event]) -> bool:
        """Take what concerns our own state; False for what is to be shown."""
        if self._ports is not None and self._ports.hear(event):
            return True
        run = self._run
        match event:
            case events.RunnerExited():
                self._note_exit(event)
            case events.Refused() if run is not None and run.cell == event.cell:
                self._show([*unshown, self._refusal(run, event)])
                unshown.clear()
                run.refuse()
            case events.Replied() if run is not None and run.cell == event.cell:
                run.reply = event.content
            case events.CellEnded() if run is not None and run.cell == event.cell:
                self._show(unshown)
                unshown.clear()
                run.end(event)
            case events.RunnerReady():
                self._on_event(event)
            case events.ToolCalled():
                if self.tool_calls is not None and self._guest is not None:
                    self.tool_calls.hear(event, self._guest)
            case (
                events.Replied()
                | events.CellEnded()
                | events.RunnerStarted()
                | events.Answered()
                | events.Refused()
            ):
                pass
            case _:
                return False
        return True

    def _note_exit(self, event: events.RunnerExited) -> None:
        guest, runner = self._guest, event.runner
        if guest is None or not self._runners.is_known(guest, runner):
            return
        if self._run is not None and self._run.runner == runner:
            self._run.exit = event
        elif event.cause != "restarted":
            told = causes.runner_exited(event, self._runners.whose(guest, runner))
            self._note(f"{told} {self._runners.lost(guest, runner)}", runner)

    def _refusal(self, run: Run, event: events.Refused) -> events.CellFailed:
        return causes.refused(run.cell, self._runners.title(run.runner), event.reason)

    def _show(self, batch: list[events.Event]) -> None:
        for event in self._gate.admit(batch):
            if isinstance(event, events.CommSent):
                self._runners.note_comm(event)
            if self._run is not None and self._run.cell == event.cell:
                self._run.hear(event)
            else:
                self._on_event(event)

    def _hear_death(self) -> None:
        guest = self._guest
        if guest is None or guest.death is None:
            return
        self._guest = None
        if self._ports is not None:
            self._ports.lose_all()
        self._spawn(guest.sandbox.close())
        if self._run is not None:
            self._run.end(None)
        elif guest.info is not None:
            self._news.clear()
            self._note(f"{causes.sandbox_died(guest.death)} {causes.LOST_SANDBOX}")

    def _note(self, news: str, runner: str = "") -> None:
        """Keep `news` for the next cell; of each runner the latest counts."""
        if news:
            self._news[runner] = news

    def _tell_news(self, run: Run) -> None:
        for news in self._news.values():
            run.hear(events.TextWritten(run.cell, "stderr", f"[sandbox] {news}\n"))
        self._news.clear()

    # -- asking ----------------------------------------------------------------

    async def _ask(
        self, kind: int, meta: dict[str, Any] | None = None, data: bytes = b""
    ) -> events.Answered | events.Replied:
        guest = await self._started()
        return await guest.ask(kind, self._next_cell(), meta, data)

    async def _started(self) -> Guest:
        if self._is_closed:
            raise SessionClosed("The session is closed; create another one.")
        if self._guest is None:
            self._guest = Guest(provision(self.backend, self.spec), self._hear)
        guest = self._guest
        if guest.is_ready:
            return guest
        guest.begin()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await guest.ready()
        except TimeoutError:
            guest.sandbox.kill()
            raise SandboxDied(
                f"The sandbox brought up no runner within {START_TIMEOUT_S:g} s and was ended. "
                "Run `sandbox-kernel doctor` to see what is wrong."
            ) from None
        self._has_started = True
        return guest

    def _next_cell(self) -> int:
        self._last_cell += 1
        return self._last_cell

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` on the side. That a sandbox died meanwhile is heard in another way."""

        async def quietly() -> None:
            with contextlib.suppress(SandboxKernelError):
                await work

        task = asyncio.get_running_loop().create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _tool_calls(tools: Toolbox | None) -> ToolCalls | None:
    if tools is None:
        return None
    from sandbox_kernel.session.tool_calls import ToolCalls  # most sessions have no tools

    return ToolCalls(tools)
