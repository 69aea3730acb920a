"""One runner after another: started, watched, condemned, buried, replaced.

Rule 1: what a dead runner owed is settled in one order: its last words, RUNNER_EXITED,
refusals, the end of its cell; then RUNNER_STARTED, and the answers to restarts.
Rule 2: a death has one cause, the first that was known: who kills says why before.
Rule 3: a runner that cannot start is not started for ever.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Deque, List, Optional, Tuple

if TYPE_CHECKING:
    import signal

    from sandbox_kernel.guest import processes
    from sandbox_kernel.guest.configuration import Configuration
    from sandbox_kernel.guest.conversation import Conversation
    from sandbox_kernel.guest.framing import Kind
    from sandbox_kernel.guest.outbox import Outbox
    from sandbox_kernel.guest.processes import Reaped, Runner
    from sandbox_kernel.guest.relay import RunnerLied
    from sandbox_kernel.guest.usage import Excess, MemoryWatch, sandbox_pids
else:
    import _signal as signal

    import processes
    from framing import Kind
    from relay import RunnerLied
    from usage import MemoryWatch, sandbox_pids

# From a closed socket to SIGKILL: a runner that is exiting closes it a moment before.
_HANG_UP_GRACE_S = 0.1
# How long a restart waits for the killed to be gone: a fresh runner needs their memory.
_QUIET_S = 1.0
_MEMORY_TICK_S = 0.2
# Where the kernel forks nothing any more: all that is killed takes a moment to be gone.
_START_AGAIN_S = 0.2
_START_ATTEMPTS = 5
# A runner that died so often within so long before it was ready is broken.
_EARLY_DEATHS = 3
_EARLY_DEATHS_S = 10.0
_NEVER = float("inf")


class Lifecycle:
    """Holds the runner there is, and knows what is due next."""

    def __init__(
        self, configuration: Configuration, outbox: Outbox, talk: Conversation, workspace: int
    ) -> None:
        self._configuration = configuration
        self._outbox = outbox
        self._talk = talk
        self.runner: Optional[Runner] = None
        self.generation = 0
        self.is_init = processes.is_init()
        self.is_listening = False  # whether the runner's socket is still worth reading
        self._dead: Optional[Reaped] = None
        self._is_heard = False
        self._has_children = True
        self._is_start_due = False
        self._start_s = 0.0
        self._start_failures = 0
        self._cause: Optional[Tuple[str, str]] = None
        self._kill_s = _NEVER
        self._quiet_s = 0.0
        self._restarts: List[int] = []
        self._early_deaths: Deque[float] = deque()
        self._broken = ""  # why there is no runner and none will be started
        self._memory = _make_watch(configuration, workspace)
        self._memory_s = time.monotonic() + _MEMORY_TICK_S if self._memory else _NEVER

    @property
    def state(self) -> str:
        if self.runner is None or self._dead is not None:
            return "missing" if self._broken else "restarting"
        if not self._talk.is_ready:
            return "starting"
        return "busy" if self._talk.is_busy else "idle"

    @property
    def refusal(self) -> str:
        """Why no request can be taken, or ""."""
        return self._broken

    def pids(self) -> List[int]:
        return sandbox_pids(self.is_init, self.runner.pid if self.runner else -1)

    def adopt(self, runner: Runner) -> None:
        """A runner was started: tell the host, and whoever asked for it."""
        self.runner = runner
        self.generation = runner.generation
        self._cause = None
        self._is_heard = self._is_start_due = False
        self._kill_s = _NEVER
        self._broken = ""
        self._has_children = self.is_listening = True
        self._talk.attach(runner)
        self._outbox.put_frame(Kind.RUNNER_STARTED, 0, {"generation": self.generation})
        for cell in self._restarts:
            self._outbox.put_frame(Kind.ANSWER, cell, {"generation": self.generation})
        self._restarts = []

    # -- what ends a runner

    def restart(self, cell: int) -> None:
        """Everything in the sandbox but this process dies; the answer comes with the next."""
        self._restarts.append(cell)
        self._talk.hold()
        self._talk.refuse_queued("The runner was restarted.")
        self._early_deaths.clear()
        self._quiet_s = time.monotonic() + _QUIET_S
        if self.runner is None:
            processes.kill_all(None)
            self._talk.streams.close_all()
            self._is_start_due = True
            return
        if self._cause is None and self._dead is None:
            self._cause = "restarted", ""
        processes.kill_all(self.runner)

    def signal(self, number: int) -> None:
        """SIGINT before the runner took a cell cancels it; a start is not interrupted."""
        if number == signal.SIGINT and not self._talk.is_busy:
            self._talk.cancel_queued()
            if not self._talk.is_ready:
                return
        if self.runner is not None and self._dead is None:
            self.runner.signal(number)

    def condemn(self, cause: str, detail: str) -> None:
        """Kill the runner's group, and say why when it is dead."""
        if self.runner is None or self._dead is not None:
            return
        if self._cause is None:
            self._cause = cause, detail
        self._talk.hold()
        self.is_listening = False
        self.runner.signal(signal.SIGKILL)

    def hang_up(self) -> None:
        """The runner closed its socket: it is exiting, or useless from now on."""
        self._talk.hold()
        self.is_listening = False
        self._kill_s = time.monotonic() + _HANG_UP_GRACE_S

    def reap(self) -> None:
        dead, self._has_children = processes.reap()
        for reaped in dead:
            if self.runner is not None and reaped.pid == self.runner.pid:
                self._dead = reaped
                # At once: while its group exists, its number cannot be another's.
                self.runner.kill_group()

    # -- what is due

    def next_due_s(self) -> float:
        """When `advance` has something to do; 0 for at once, infinite for never."""
        due_s = min(self._kill_s, self._memory_s)
        if self._talk.is_ending:
            return due_s
        if self._is_start_due:
            return self._start_s
        if self._dead is not None:
            return min(due_s, self._quiet_s if self._restarts else 0.0)
        return due_s

    def advance(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._kill_s:
            self._kill_s = _NEVER
            self.condemn("protocol", "The runner closed its connection to the supervisor.")
        if now_s >= self._memory_s:
            self._memory_s = now_s + _MEMORY_TICK_S
            self._check_memory()
        # A start follows its burial one round later: the poller has forgotten the old
        # runner's descriptor before its number can be a new one's.
        if self._is_start_due:
            if not self._talk.is_ending and now_s >= self._start_s:
                self._start(now_s)
        elif self._dead is not None:
            self._bury(now_s)

    def _start(self, now_s: float) -> None:
        """Start the next runner. Where processes are used up, all others are killed first."""
        try:
            runner = processes.spawn(self._configuration, self.generation + 1)
        except OSError as error:
            self._start_failures += 1
            processes.kill_all(None)
            self._start_s = now_s + _START_AGAIN_S
            if self._start_failures >= _START_ATTEMPTS:
                self._give_up("It could not be forked: %s." % error.strerror)
            return
        self._start_failures = 0
        self.adopt(runner)

    def _give_up(self, detail: str) -> None:
        self._is_start_due = False
        self._start_failures = 0
        self._broken = "There is no runner, because it could not be started. " + detail
        self._talk.refuse_queued(self._broken)
        for cell in self._restarts:
            self._talk.refuse(cell, self._broken)
        self._restarts = []

    def _bury(self, now_s: float) -> None:
        """Settle a death, as far as the host's reading allows."""
        if not self._is_heard:
            self._is_heard = True
            self.is_listening = False
            with suppress(RunnerLied):  # it is dead already
                self._talk.hear_last_words()
        if self._talk.is_ending:
            return
        if self._restarts and self.is_init and self._has_children and now_s < self._quiet_s:
            return
        self._settle(now_s)

    def _settle(self, now_s: float) -> None:
        assert self.runner is not None
        assert self._dead is not None
        reaped, runner = self._dead, self.runner
        was_ready = self._talk.is_ready
        cause, detail = self._cause or self._explain(reaped, runner)
        if cause != "restarted" and not was_ready:
            cause = self._note_early_death(now_s, cause)
        self._put_exit(cause, detail, reaped)
        self._talk.lose(reaped, "The runner went away (%s)." % cause)
        if self._restarts:
            self._talk.streams.close_all()
        runner.close()
        self.runner = self._dead = None
        self._kill_s = _NEVER
        if cause == "missing" and not self._restarts:
            self._give_up(detail)
        else:
            self._is_start_due = True

    def _explain(self, reaped: Reaped, runner: Runner) -> Tuple[str, str]:
        """Cause and detail of a death that nobody here wanted."""
        reason = runner.read_exec_error()
        if reason:
            return "missing", reason
        cause = "signalled" if reaped.signal is not None else "exited"
        return cause, "" if self._talk.is_ready else self._talk.read_chatter()

    def _put_exit(self, cause: str, detail: str, reaped: Reaped) -> None:
        meta = {
            "generation": self.generation,
            "cause": cause,
            "exit_code": reaped.exit_code,
            "signal": reaped.signal,
            "detail": detail,
        }
        self._outbox.put_frame(Kind.RUNNER_EXITED, 0, meta)

    def _note_early_death(self, now_s: float, cause: str) -> str:
        deaths = self._early_deaths
        deaths.append(now_s)
        while deaths[0] < now_s - _EARLY_DEATHS_S:
            deaths.popleft()
        return "missing" if len(deaths) >= _EARLY_DEATHS else cause

    def _check_memory(self) -> None:
        if self._memory is None or self.runner is None or self._dead is not None:
            return
        excess = self._memory.check(self.pids())
        if excess is None:
            return
        try:
            group = os.getpgid(excess.pid)
        except ProcessLookupError:
            return  # gone by itself
        if group == self.runner.pid:
            self.condemn("memory", _describe(excess, self._configuration))
        else:  # a daemon that left the group; the next look finds the next
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


def _make_watch(configuration: Configuration, workspace: int) -> Optional[MemoryWatch]:
    if not configuration.watch_memory:
        return None
    limits = configuration.limits
    return MemoryWatch(limits["memory_bytes"], workspace, limits["workspace_bytes"])


def _describe(excess: Excess, configuration: Configuration) -> str:
    return "Processes used %d bytes and files %d bytes, over the limit of %d bytes." % (
        excess.process_bytes,
        excess.file_bytes,
        configuration.limits["memory_bytes"],
    )
