"""One runner after another: started, watched, condemned, buried, replaced.

Rule 1: what a dead runner owed is settled in one order: its last words, RUNNER_EXITED,
refusals, the end of its cell; then RUNNER_STARTED, and the answers to restarts.
Rule 2: a death has one cause, the first that was known: who kills says why before.
Rule 3: a runner that cannot start is not started for ever.
Rule 4: a runner's death is its own: the others' sessions live on, unless the host asked
for a restart of everything, or nothing can be forked any more.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Set, Tuple

if TYPE_CHECKING:
    import signal

    from sandbox_kernel.guest import processes
    from sandbox_kernel.guest.commons import Commons
    from sandbox_kernel.guest.configuration import Configuration
    from sandbox_kernel.guest.conversation import Conversation
    from sandbox_kernel.guest.framing import Kind
    from sandbox_kernel.guest.processes import Reaped, Runner
    from sandbox_kernel.guest.relay import RunnerLied
else:
    import _signal as signal

    import processes
    from framing import Kind
    from relay import RunnerLied

# From a closed socket to SIGKILL: a runner that is exiting closes it a moment before, and on a
# machine that stands still for a while its own exit code would not be told.
_HANG_UP_GRACE_S = 0.5
# How long a restart waits for the killed to be gone: a fresh runner needs their memory.
_QUIET_S = 1.0
# Where the kernel forks nothing any more: all that is killed takes a moment to be gone.
_START_AGAIN_S = 0.2
_START_ATTEMPTS = 5
# From this attempt on the main runner's start spares nobody.
_RUTHLESS_ATTEMPT = 3
# A runner that died so often within so long before it was ready is broken.
_EARLY_DEATHS = 3
_EARLY_DEATHS_S = 10.0
_NEVER = float("inf")


class Lifecycle:
    """Holds one runner, and knows what is due next.

    The main one (it has no name) always runs; the others from their first request on.
    """

    def __init__(self, configuration: Configuration, commons: Commons, talk: Conversation) -> None:
        self.name = talk.name
        self.argv = configuration.argv
        self._configuration = configuration
        self._commons = commons
        self._outbox = commons.outbox
        self._talk = talk
        self._is_wanted = not self.name
        self.runner: Optional[Runner] = None
        self.generation = 0
        self.is_init = processes.is_init()
        self.is_listening = False  # whether the runner's socket is still worth reading
        self._dead: Optional[Reaped] = None
        self._is_heard = False
        self._is_start_due = False
        self._start_s = 0.0
        self._start_failures = 0
        self._cause: Optional[Tuple[str, str]] = None
        self._kill_s = _NEVER
        self._quiet_s = 0.0
        self._restarts: List[int] = []
        self._is_whole = False  # the restart is one of the whole sandbox
        self._early_deaths: Deque[float] = deque()
        self._broken = ""  # why there is no runner and none will be started

    @property
    def is_alive(self) -> bool:
        return self.runner is not None and self._dead is None

    @property
    def state(self) -> str:
        if self.runner is None or self._dead is not None:
            if self._broken:
                return "missing"
            return "restarting" if self._is_wanted else "waiting"
        if not self._talk.is_ready:
            return "starting"
        return "busy" if self._talk.is_busy else "idle"

    @property
    def refusal(self) -> str:
        """Why no request can be taken, or ""."""
        return self._broken

    def describe(self) -> Dict[str, Any]:
        """For STATUS."""
        pid = self.runner.pid if self.runner else None
        return {"generation": self.generation, "pid": pid, "state": self.state}

    def wake(self) -> None:
        """There is a request: a runner that nobody needed yet is needed now."""
        if self._is_wanted:
            return
        self._is_wanted = True
        if self.runner is None:
            self._is_start_due = True
            self._start_s = 0.0

    def adopt(self, runner: Runner) -> None:
        """A runner was started: tell the host, and whoever asked for it."""
        self.runner = runner
        self.generation = runner.generation
        self._cause = None
        self._is_heard = self._is_start_due = False
        self._kill_s = _NEVER
        self._broken = ""
        self._commons.has_children = self.is_listening = True
        self._commons.runners.add(runner.pid)
        if self._is_whole:
            self._is_whole = self._commons.is_restarting = False
        self._talk.attach(runner)
        started = self._named({"generation": self.generation})
        self._outbox.put_frame(Kind.RUNNER_STARTED, 0, started)
        for cell in self._restarts:
            self._outbox.put_frame(Kind.ANSWER, cell, {"generation": self.generation})
        self._restarts = []

    # -- what ends a runner

    def restart(self, cell: int, spared: Set[int]) -> None:
        """Kill and start again; the answer comes with the fresh runner.

        The main runner takes everything with it but the sessions `spared`, and with none
        spared it is a restart of the whole sandbox. Another one takes its own session.
        """
        self._restarts.append(cell)
        if self.name or spared:
            self._quiet_s = 0.0
        else:
            self._is_whole = self._commons.is_restarting = True
            self._quiet_s = time.monotonic() + _QUIET_S
        self._end_on_request()
        self._is_wanted = True
        if not self.name:
            processes.kill_all(self.runner, spared)
        elif self.is_alive and self.runner is not None:
            processes.kill_session(self.runner)
        if self.runner is None:
            self._close_pipes()
            self._is_start_due = True

    def retire(self) -> None:
        """The whole sandbox starts again: this runner does when somebody needs it."""
        self._end_on_request()
        self._broken = ""
        self._is_wanted = bool(self._restarts)  # who asked for it waits
        self._is_start_due = self._is_wanted and self.runner is None
        if self.is_alive and self.runner is not None:
            self.runner.signal(signal.SIGKILL)

    def _end_on_request(self) -> None:
        self._talk.hold()
        self._talk.refuse_queued("The runner was restarted.")
        self._early_deaths.clear()
        if self._cause is None and self.is_alive:
            self._cause = "restarted", ""

    def _close_pipes(self) -> None:
        """Of a sandbox that starts again, nothing old is heard any more."""
        if self._is_whole:
            self._commons.streams.close_all()

    def signal(self, number: int) -> None:
        """SIGINT before the runner took a cell cancels it; a start is not interrupted.

        Nor is a runner that has nothing to do: it takes a SIGINT for that of the request which
        it finds next, and may find it before the signal.
        """
        if number == signal.SIGINT and not self._talk.is_busy:
            self._talk.cancel_queued()
            if not self._talk.is_asked:
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

    def note_death(self, reaped: Reaped) -> None:
        """Some child of the supervisor's is dead: if it was the runner, its group goes, too."""
        if self.runner is not None and reaped.pid == self.runner.pid:
            self._dead = reaped
            # At once: while its group exists, its number cannot be another's.
            self.runner.kill_group()

    # -- what is due

    def next_due_s(self) -> float:
        """When `advance` has something to do; 0 for at once, infinite for never."""
        if self._talk.is_ending:
            return self._kill_s
        if self._is_start_due:
            return self._start_s if self._may_start else _NEVER
        if self._dead is not None:
            return min(self._kill_s, self._quiet_s if self._restarts else 0.0)
        return self._kill_s

    @property
    def _may_start(self) -> bool:
        return self._is_whole or not self._commons.is_restarting

    def advance(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._kill_s:
            self._kill_s = _NEVER
            self.condemn("protocol", "The runner closed its connection to the supervisor.")
        # A start follows its burial one round later: the poller has forgotten the old
        # runner's descriptor before its number can be a new one's.
        if self._is_start_due:
            if not self._talk.is_ending and now_s >= self._start_s and self._may_start:
                self._start(now_s)
        elif self._dead is not None:
            self._bury(now_s)

    def _start(self, now_s: float) -> None:
        """Start the next runner. Where processes are used up, the main one makes room."""
        try:
            runner = processes.spawn(self._configuration, self.generation + 1)
        except OSError as error:
            self._start_failures += 1
            if not self.name:
                is_patient = self._start_failures < _RUTHLESS_ATTEMPT
                processes.kill_all(None, self._commons.runners if is_patient else ())
            self._start_s = now_s + _START_AGAIN_S
            if self._start_failures >= _START_ATTEMPTS:
                self._give_up("It could not be forked: %s." % error.strerror)
                # Another one's next request tries again: there may be room by then.
                self._broken = "" if self.name else self._broken
            return
        self._start_failures = 0
        self.adopt(runner)

    def _give_up(self, detail: str) -> None:
        self._is_start_due = False
        self._is_wanted = not self.name
        self._start_failures = 0
        self._broken = "There is no runner, because it could not be started. " + detail
        self._talk.refuse_queued(self._broken)
        for cell in self._restarts:
            self._talk.refuse(cell, self._broken)
        self._restarts = []
        if self._is_whole:
            self._is_whole = self._commons.is_restarting = False

    def _bury(self, now_s: float) -> None:
        """Settle a death, as far as the host's reading allows."""
        if not self._is_heard:
            self._is_heard = True
            self.is_listening = False
            with suppress(RunnerLied):  # it is dead already
                self._talk.hear_last_words()
        if self._talk.is_ending:
            return
        has_children = self.is_init and self._commons.has_children
        if self._restarts and has_children and now_s < self._quiet_s:
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
        self._close_pipes()
        self._commons.runners.discard(runner.pid)
        runner.close()
        self.runner = self._dead = None
        self._kill_s = _NEVER
        if cause == "missing" and not self._restarts:
            self._give_up(detail)
        else:
            self._is_start_due = self._is_wanted

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
        self._outbox.put_frame(Kind.RUNNER_EXITED, 0, self._named(meta))

    def _named(self, meta: Dict[str, Any]) -> Dict[str, Any]:
        if self.name:
            meta["runner"] = self.name
        return meta

    def _note_early_death(self, now_s: float, cause: str) -> str:
        deaths = self._early_deaths
        deaths.append(now_s)
        while deaths[0] < now_s - _EARLY_DEATHS_S:
            deaths.popleft()
        return "missing" if len(deaths) >= _EARLY_DEATHS else cause
