"""One cell on its way: who hears of it, what stops it, how it ended.

The ladder, for an interrupt and for a timeout alike: SIGINT to the runner's group; after
the grace its end and a fresh runner, while those of other languages live on; at last the
end of the sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from sandbox_kernel import events
from sandbox_kernel.errors import SandboxDied
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.languages import SHELL
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import causes
from sandbox_kernel.session.guest import Guest

# SIGKILL takes effect in milliseconds, and a supervisor waits a second for all that it killed to
# be gone. One that has not said so by then is gone itself; sooner, files would be lost for nothing.
KILL_TIMEOUT_S = 3.0

Sink = Callable[[events.Event], None]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Outcome(NamedTuple):
    """How a cell ended. `error` is None exactly when `status` is "ok".

    `exit_code`: of the command that the cell was, or of a runner that left with one; 128 and
    the signal's number if one ended it; None otherwise, and when a limit ended it.
    """

    status: str  # "ok" or "error"
    error: events.CellFailed | None
    receipt: events.Receipt | None  # None: the sandbox did not live to tell
    user_expressions: events.Json
    payload: list[events.Json]
    exit_code: int | None = None


class Run:
    """One cell on its way in `guest`.

    Args:
        cell: its number.
        guest: where it runs.
        limits: for the grace and for what is said when one is met.
        timeout_s: wall time after which it is stopped; None: never.
        sink: hears its events, already admitted.
        spawn: starts work on the side.
        runner: the name of its runner, "" for the main one.
        language: what it is written in, for a reader.
    """

    def __init__(
        self,
        cell: int,
        guest: Guest,
        limits: Limits,
        timeout_s: float | None,
        sink: Sink,
        spawn: Spawn,
        runner: str = "",
        language: str = "",
    ) -> None:
        self.cell = cell
        self.runner = runner
        self._language = language
        self.reply: events.Json = {}
        self.exit: events.RunnerExited | None = None
        self._guest = guest
        self._limits = limits
        self._timeout_s = timeout_s
        self._sink = sink
        self._spawn = spawn
        self._failure: events.CellFailed | None = None
        self._stopped_by: str | None = None  # "timeout", "interrupt" or "restart"
        self._timers: list[asyncio.TimerHandle] = []
        self.on_stop: Callable[[], None] = lambda: None  # hears that it is asked to end
        self._ended: asyncio.Future[events.CellEnded | None] = (
            asyncio.get_running_loop().create_future()
        )

    async def to_end(self, meta: events.Json, code: bytes) -> Outcome:
        """Send it, wait for its end, and say how that was.

        Raises:
            RequestRefused: the code is too long to be sent.
        """
        try:
            if self._timeout_s is not None:
                self._later(self._timeout_s, self.stop, "timeout")
            await self._send(meta, code)
            ended = await self._ended
        finally:
            for timer in self._timers:
                timer.cancel()
        return await self._conclude(ended)

    async def _send(self, meta: events.Json, code: bytes) -> None:
        try:
            await self._guest.send(Kind.EXECUTE, self.cell, meta, code)
        except SandboxDied:
            self.end(None)

    def hear(self, event: events.Event) -> None:
        """Pass `event` on; a KeyboardInterrupt of our own making is told as what it was."""
        if isinstance(event, events.CellFailed):
            if self._stopped_by == "timeout":
                ours = self._timed_out(causes.KEPT)
                event = ours._replace(traceback=[*event.traceback, *ours.traceback])
            self._failure = event
        self._sink(event)

    def end(self, event: events.CellEnded | None) -> None:
        """It is over; None says that its sandbox is."""
        if not self._ended.done():
            self._ended.set_result(event)

    def refuse(self) -> None:
        """It never began, as was told already."""
        self.end(events.CellEnded(self.cell, "error", events.Receipt(0.0, 0.0, 0, 0, 0)))

    # -- the ladder

    def stop(self, reason: str) -> None:
        """Ask it to stop, and see to it. `reason`: "timeout" or "interrupt"."""
        if self._stopped_by is None:
            self._stopped_by = reason
            self._later(self._limits.interrupt_grace_s, self._stop_harder)
        meta = {"signal": "SIGINT", "runner": self.runner}
        self._spawn(self._guest.send(Kind.SIGNAL, self.cell, meta))
        self.on_stop()

    def note_restart(self) -> None:
        """Somebody asked for a fresh runner: that is what ends it."""
        self._stopped_by = "restart"

    def _stop_harder(self) -> None:
        self._later(KILL_TIMEOUT_S, self._guest.sandbox.kill)
        self._spawn(self._guest.send(Kind.RESTART_RUNNER, self.cell, {"runner": self.runner}))

    def _later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, call, *args))

    # -- how it ended

    async def _conclude(self, ended: events.CellEnded | None) -> Outcome:
        # An error that was shown and handled, as by `%run`, is no failure of the cell.
        has_failed = ended is None or ended.outcome != "ok" or self._stopped_by == "timeout"
        if ended is None or ended.outcome == "lost":
            self._fail(await self._explain_loss(is_sandbox_gone=ended is None))
        elif self._stopped_by == "timeout" and self._failure is None:
            self._fail(self._timed_out(causes.KEPT))
        elif has_failed and self._failure is None:
            self._fail(causes.unnamed(self.cell))
        expressions = self.reply.get("user_expressions")
        payload = self.reply.get("payload")
        return Outcome(
            "error" if has_failed else "ok",
            self._failure if has_failed else None,
            ended.receipt if ended is not None else None,
            expressions if isinstance(expressions, dict) else {},
            payload if isinstance(payload, list) else [],
            self._exit_code(),
        )

    def _exit_code(self) -> int | None:
        """What a command exited with, or a runner that left by itself; None: neither."""
        if self._stopped_by == "timeout":
            return None
        told = _exit_code(self.reply.get("exit_code"))
        if told is None and self.exit is not None and self.exit.cause in ("exited", "signalled"):
            told = 128 + self.exit.signal if self.exit.signal else self.exit.exit_code
            # One that leaves with 0 has failed its cell all the same.
            told = _exit_code(told) or None
        return told

    def _fail(self, failure: events.CellFailed) -> None:
        self._failure = failure
        self._sink(failure)

    def _timed_out(self, survived: str) -> events.CellFailed:
        return causes.timed_out(self.cell, self._timeout_s or 0, survived)

    async def _explain_loss(self, *, is_sandbox_gone: bool) -> events.CellFailed:
        language = self._language if self._guest.runners - {SHELL} else ""
        survived = causes.LOST_SANDBOX if is_sandbox_gone else causes.lost_runner(language)
        if self.runner == SHELL and not is_sandbox_gone:
            survived = causes.KEPT
        if self._stopped_by == "timeout":
            return self._timed_out(survived)
        if self._stopped_by == "interrupt":
            grace_s = self._limits.interrupt_grace_s
            return causes.interrupted_hard(self.cell, grace_s, survived)
        if self._stopped_by == "restart":
            return causes.restarted(self.cell)
        usage = await self._guest.sandbox.measure()
        fresh_kills = (usage.memory_kills or 0) - self._guest.memory_kills_told
        self._guest.memory_kills_told += max(fresh_kills, 0)
        if self._was_memory(fresh_kills > 0):
            peak = usage.peak_memory_bytes
            return causes.out_of_memory(self.cell, self._limits, peak, survived)
        if is_sandbox_gone:
            told = causes.sandbox_died(self._guest.death)
            return causes.failure(self.cell, "SandboxDied", f"{told} {survived}")
        told = causes.runner_exited(self.exit, language) if self.exit else "The runner went away."
        return causes.failure(self.cell, "RunnerExited", f"{told} {survived}")

    def _was_memory(self, has_killed: bool) -> bool:
        if self.exit is not None and self.exit.cause == "memory":
            return True
        if self._guest.death is not None and self._guest.death.cause == "memory":
            return True
        # Below gVisor, a process whose memory was taken exits with 1, if it ends at all.
        was_killed = self.exit is None or self.exit.signal == 9 or self.exit.exit_code == 1
        return was_killed and has_killed


def _exit_code(told: Any) -> int | None:
    """What the guest says of how a command exited, if it can be true."""
    is_code = isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= 255
    return told if is_code else None
