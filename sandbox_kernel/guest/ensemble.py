"""All runners of the sandbox: the main one, and up to `MAX_OTHERS` others beside it.

Rule 1: a request names its runner in `meta`; one that names none is the main runner's.
Rule 2: who a runner is, is known by its socket and its process, never by its own word.
Rule 3: the memory of the sandbox is one: who used most of it is killed, whoever's it is.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING:
    import signal

    from sandbox_kernel.guest import processes
    from sandbox_kernel.guest.commons import Commons
    from sandbox_kernel.guest.configuration import Configuration, ConfigurationError
    from sandbox_kernel.guest.conversation import Conversation
    from sandbox_kernel.guest.framing import Frame, FramingError, Kind, pack
    from sandbox_kernel.guest.lifecycle import Lifecycle
    from sandbox_kernel.guest.relay import RunnerLied
    from sandbox_kernel.guest.usage import Excess, MemoryWatch, sandbox_pids
else:
    import _signal as signal

    import processes
    from configuration import ConfigurationError
    from conversation import Conversation
    from framing import FramingError, Kind, pack
    from lifecycle import Lifecycle
    from relay import RunnerLied
    from usage import MemoryWatch, sandbox_pids

# Each is a process or two. Who needs more languages at once needs more memory than that.
MAX_OTHERS = 8
_MAX_NAME = 64
_MEMORY_TICK_S = 0.2
_NEVER = float("inf")


class RequestRefused(Exception):
    """What the host asks for cannot be done; the text says why in a whole sentence."""


class Seat:
    """The place of one runner, whichever process sits there now."""

    def __init__(self, configuration: Configuration, commons: Commons, name: str) -> None:
        self.name = name
        self.talk = Conversation(commons, name)
        self.life = Lifecycle(configuration, commons, self.talk)

    def advance(self, now_s: float) -> None:
        """Do what is due for this runner."""
        self.life.advance(now_s)
        try:
            self.talk.advance()
        except RunnerLied as error:
            self.life.condemn("protocol", str(error))

    def receive(self) -> None:
        """The runner sent something, or hung up."""
        try:
            if not self.talk.receive():
                self.life.hang_up()
        except RunnerLied as error:
            self.life.condemn("protocol", str(error))


class Ensemble:
    """The seats, and what concerns more than one of them."""

    def __init__(self, configuration: Configuration, commons: Commons) -> None:
        self._configuration = configuration
        self._commons = commons
        self.main = Seat(configuration, commons, "")
        self.seats = [self.main]
        self._is_init = processes.is_init()
        limits = configuration.limits
        self._memory: Optional[MemoryWatch] = None
        self._memory_s = _NEVER
        if configuration.watch_memory:
            bounds = limits["memory_bytes"], commons.workspace.fd, limits["workspace_bytes"]
            self._memory = MemoryWatch(*bounds)
            self._memory_s = time.monotonic() + _MEMORY_TICK_S

    # -- each turn of the loop

    def advance(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._memory_s:
            self._memory_s = now_s + _MEMORY_TICK_S
            self._check_memory()
        for seat in self.seats:
            seat.advance(now_s)

    def next_due_s(self) -> float:
        """When `advance` has something to do; 0 for at once, infinite for never."""
        due_s = self._memory_s
        for seat in self.seats:
            if seat.talk.can_advance:
                return 0.0
            due_s = min(due_s, seat.life.next_due_s())
        return due_s

    @property
    def is_ending(self) -> bool:
        """A cell's files are on their way; no runner is read until they are out."""
        return any(seat.talk.is_ending for seat in self.seats)

    def listen(self, is_full: bool) -> None:
        for seat in self.seats:
            seat.talk.listen(seat.life.is_listening, is_full)

    def find(self, fd: int) -> Optional[Seat]:
        """Whose socket `fd` is."""
        for seat in self.seats:
            if fd in (seat.talk.fd, seat.talk.inputs_fd):
                return seat
        return None

    def reap(self) -> None:
        """Collect the dead, and tell those whose they were."""
        dead, self._commons.has_children = processes.reap()
        for reaped in dead:
            for seat in self.seats:
                seat.life.note_death(reaped)

    def kill_all(self) -> None:
        """The end of the sandbox."""
        for seat in self.seats:
            processes.kill_all(seat.life.runner)

    # -- what the host asks for

    def request(self, frame: Frame) -> None:
        """Pass a request on to the runner that it names. Raises `RequestRefused`."""
        seat = self._seat_of(frame)
        if seat.life.refusal:
            raise RequestRefused(seat.life.refusal)
        seat.talk.request(frame)
        seat.life.wake()

    def _seat_of(self, frame: Frame) -> Seat:
        # The search spares most requests the reading of their metadata. As a key it stands
        # there with both its quotes; within a text they would be escaped.
        if b'"runner"' not in frame.meta:
            return self.main
        return self._named(_read(frame).get("runner", ""))

    def _named(self, name: Any) -> Seat:
        for seat in self.seats:
            if seat.name == name:
                return seat
        raise RequestRefused("There is no runner called %.80r in this sandbox." % (name,))

    def add(self, frame: Frame) -> None:
        """Make another runner known; it starts with its first request. Again is no error."""
        meta = _read(frame)
        name = meta.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise RequestRefused("A runner cannot be called %.80r." % (name,))
        try:
            configuration = self._configuration.for_runner(meta.get("argv"))
        except ConfigurationError as error:
            raise RequestRefused(str(error)) from None
        for seat in self.seats:
            if seat.name == name:
                if seat.life.argv != configuration.argv:
                    raise RequestRefused("The runner %r is another program already." % name)
                return
        if len(self.seats) > MAX_OTHERS:
            raise RequestRefused(
                "There are %d runners beside the main one, and no more can be. Restart the "
                "kernel for a sandbox with none." % MAX_OTHERS
            )
        self.seats.append(Seat(configuration, self._commons, name))

    def attach(self, frame: Frame) -> None:
        """Set the environment of runners to come, and tell those that live.

        The answer comes when the last of them has replied.
        """
        try:
            self._configuration.attach(_read(frame).get("environment", {}))
        except ConfigurationError as error:
            raise RequestRefused(str(error)) from None
        living = [seat for seat in self.seats if seat.life.is_alive]
        self._commons.await_attached(frame.cell, len(living))
        for seat in living:
            seat.talk.request(frame)

    def tell_tools(self, frame: Frame) -> None:
        """Tell all runners of the host's tools: those that live, and later those to come."""
        self._commons.tools = pack(Kind.TOOLS, 0, _read(frame))
        for seat in self.seats:
            seat.talk.tell_tools()

    def pass_tool_reply(self, frame: Frame) -> None:
        """To whoever was given that cell."""
        for seat in self.seats:
            seat.talk.pass_tool_reply(frame)

    def answer_input(self, frame: Frame) -> None:
        """To whoever has that cell; the others take no notice."""
        for seat in self.seats:
            seat.talk.answer_input(frame)

    def restart(self, frame: Frame) -> None:
        """Everything anew; or, where `meta` names one (the main one by ""), that runner."""
        meta = _read(frame)
        if "runner" in meta:
            seat = self._named(meta["runner"])
            own = seat.life.runner.pid if seat.life.runner is not None else -1
            seat.life.restart(frame.cell, self._commons.runners - {own})
            return
        for seat in self.seats[1:]:
            seat.life.retire()
        self.main.life.restart(frame.cell, set())

    def signal(self, meta: "Dict[str, Any]", number: int) -> None:
        """To the runner that `meta` names, else to the one that has a cell or will have one."""
        if "runner" in meta:
            self._named(meta["runner"]).life.signal(number)
            return
        busy = [seat for seat in self.seats if seat.talk.is_busy]
        busy += [seat for seat in self.seats if seat.talk.has_queued_cells]
        (busy or self.seats)[0].life.signal(number)

    def describe(self) -> "Dict[str, object]":
        """For STATUS; "runner" is the main one."""
        return {
            "peak_memory_bytes": sum(seat.talk.peak_bytes() for seat in self.seats),
            "runner": self.main.life.describe(),
            "runners": [{"name": seat.name, **seat.life.describe()} for seat in self.seats],
        }

    # -- memory

    def pids(self) -> List[int]:
        return sandbox_pids(self._is_init, self._commons.runners)

    def _check_memory(self) -> None:
        excess = self._memory.check(self.pids()) if self._memory is not None else None
        if excess is None:
            return
        try:
            group = os.getpgid(excess.pid)
        except ProcessLookupError:
            return  # gone by itself
        for seat in self.seats:
            if seat.life.runner is not None and seat.life.runner.pid == group:
                seat.life.condemn("memory", self._explain(excess))
                return
        # One that left its group; the next look finds the next.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

    def _explain(self, excess: Excess) -> str:
        return "Processes used %d bytes and files %d bytes, over the limit of %d bytes." % (
            excess.process_bytes,
            excess.file_bytes,
            self._configuration.limits["memory_bytes"],
        )


def _read(frame: Frame) -> "Dict[str, Any]":
    try:
        return frame.read_meta()
    except FramingError as error:
        raise RequestRefused(str(error)) from None
