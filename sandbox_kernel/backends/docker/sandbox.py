"""One container, seen from the host: its stream, its end, and what the engine tells of it.

Rule 1: no call to the engine on the event loop: all are made in threads, with timeouts.
Rule 2: the connection is the lifeline. However it breaks, PID 1 sees its stdin end, goes, and
takes all with it; the engine then removes the container by itself.
Rule 3: why it ended is the engine's word (`events`), not the guest's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from sandbox_kernel import languages
from sandbox_kernel.backends.base import Death, Sandbox, SandboxSpec, Usage
from sandbox_kernel.backends.docker import bringup, container, diagnosis, engine, gvisor
from sandbox_kernel.backends.docker.stream import STDERR, STDOUT, Stream
from sandbox_kernel.errors import BackendUnavailable, SandboxDied, SandboxKernelError, SettingsError
from sandbox_kernel.limits import fit_cpus, fit_memory

LAST_WORDS_BYTES = 4096
# An engine that says nothing for this long is asked whether it lives; it is asked ever more
# rarely while nothing is sent to it either, since a notebook may be left open for days.
ASK_AFTER_S, ASK_RARELY_S = 5.0, 60.0
# Below gVisor: silence after a kill for memory that means that nothing goes on.
STUCK_AFTER_S = 2.0
# The engine takes 60 ms to end and remove a container. One that hangs must not hold us up.
CLOSE_TIMEOUT_S = 10.0


class DockerSandbox(Sandbox):
    """Made by `DockerBackend.launch`; owns one container."""

    def __init__(self, eng: engine.Engine, spec: SandboxSpec, identity: str, boundary: str) -> None:
        self.id = identity
        self.boundary = boundary
        self.container_id = ""
        self._engine = eng
        self._spec = spec
        self._greeting = b""
        self._started: Future[bringup.Started] = Future()
        self._began_s = time.time()
        self._ending = ""  # "closed" or "killed" when it was us
        self._lock = threading.Lock()
        self._words = bytearray()
        self._has_spoken = False
        self._last_heard_s = self._last_sent_s = 0.0
        self._usage = Usage(None, None, None, None)
        self._kills = self._last_kill_ns = 0
        self._exit: asyncio.Task[Death] | None = None
        self._removed: Future[None] = Future()
        self._is_ending = False
        self._stream_ended: asyncio.Event | None = None
        self._has_stream_ended = False
        self._shell: Any = None
        # A few: a guest that floods waits for its reader.
        self._for_host: asyncio.Queue[bytes] = asyncio.Queue(8)
        for future in (self._started, self._removed):
            # Who waits for one may be cancelled; a future that runs is not cancelled with them.
            future.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._bring_up, name="sandbox-start", daemon=True)

    # -- its beginning

    def begin(self) -> None:
        """Start it, on the side."""
        self._thread.start()

    def greet(self, data: bytes) -> None:
        with self._lock:
            if not self._started.done():
                self._greeting += data
            elif self._started.exception() is None:
                self._deliver(self._started.result(), data)

    def _bring_up(self) -> None:
        try:
            started = bringup.start(self._engine, self._spec, self.id, self._note_container)
            if not started.has_python:
                from sandbox_kernel.backends.docker.shell.guest import ShellGuest

                self._shell = ShellGuest(languages.get(self._spec.language))
            with self._lock:
                self._deliver(started, self._greeting)
                self._started.set_result(started)
        except SandboxKernelError as error:
            self._remove_quietly()
            self._started.set_exception(error)
        except BaseException as error:
            # A defect of ours; whoever waits must not wait for ever, and the log says more.
            self._remove_quietly()
            told = f"{type(error).__name__}: {error}. This is a mistake in sandbox-kernel."
            self._started.set_exception(BackendUnavailable(told))
            raise

    def _deliver(self, started: bringup.Started, data: bytes) -> None:
        started.stream.write_now(self._shell.hear_host(data) if self._shell else data)

    def _note_container(self, container_id: str) -> None:
        self.container_id = container_id
        if self._ending:
            raise SandboxDied("The sandbox was closed before it was there.")

    # -- its stream

    async def receive(self) -> AsyncIterator[bytes]:
        try:
            started = await asyncio.wrap_future(self._started)
        except SandboxKernelError:
            return
        self._watch()
        watches = [asyncio.ensure_future(self._ask_silent_engine())]
        if self._is_gvisor():
            watches.append(asyncio.ensure_future(self._end_when_stuck()))
        try:
            chunks = self._chunks(started) if self._shell is None else self._translated(started)
            async for chunk in chunks:
                yield chunk
            self._note_end()
        finally:
            for watch in watches:
                watch.cancel()

    def _note_end(self) -> None:
        self._has_stream_ended = True
        if self._stream_ended is not None:
            self._stream_ended.set()

    async def _chunks(self, started: bringup.Started) -> AsyncIterator[bytes]:
        for number, data in started.early:
            if text := self._sort(number, data):
                yield text
        while not self._ending:
            chunk = await started.stream.read()
            if not chunk:
                return
            self._last_heard_s = time.monotonic()
            out = [text for n, data in started.pieces.feed(chunk) if (text := self._sort(n, data))]
            if out:
                self._has_spoken = True
                yield b"".join(out)

    async def _translated(self, started: bringup.Started) -> AsyncIterator[bytes]:
        """As `_chunks`, with what the translator answers by itself, without the container."""
        pump = asyncio.ensure_future(self._pump(started))
        try:
            while chunk := await self._for_host.get():
                yield chunk
        finally:
            pump.cancel()

    async def _pump(self, started: bringup.Started) -> None:
        if first := self._shell.take_for_host():
            await self._for_host.put(first)
        async for chunk in self._chunks(started):
            await self._for_host.put(chunk)
        await self._for_host.put(b"")

    def _sort(self, number: int, data: bytes) -> bytes:
        """What of a piece is the guest's word to the host; the rest is kept as last words."""
        if self._shell is not None:
            return bytes(self._shell.hear_guest(number, data))
        if number == STDOUT:
            return data
        if number == STDERR:
            self._words += data
            del self._words[:-LAST_WORDS_BYTES]
        return b""

    async def send(self, data: bytes) -> None:
        try:
            stream = self._stream or (await asyncio.wrap_future(self._started)).stream
            self._last_sent_s = time.monotonic()
            if self._shell is not None:
                data = self._shell.hear_host(data)
                if due := self._shell.take_for_host():
                    await self._for_host.put(due)
            await stream.write(data)
        except (OSError, SandboxKernelError):
            raise SandboxDied((await self.death()).detail) from None

    async def _ask_silent_engine(self) -> None:
        """An engine that hangs breaks no connection. Two questions without an answer are enough."""
        missed, asked_s, patience_s = 0, 0.0, ASK_AFTER_S
        while missed < 2:
            await asyncio.sleep(ASK_AFTER_S)
            now_s = time.monotonic()
            if now_s - self._last_heard_s < ASK_AFTER_S:
                missed, patience_s = 0, ASK_AFTER_S
                continue
            is_waiting = missed or self._last_sent_s > self._last_heard_s
            if not is_waiting and now_s - asked_s < patience_s:
                continue
            asked_s, patience_s = now_s, min(2 * patience_s, ASK_RARELY_S)
            missed = 0 if await asyncio.to_thread(self._engine.answers) else missed + 1
        self._ending = self._ending or "hung"
        if self._stream is not None:
            self._stream.release()

    async def _end_when_stuck(self) -> None:
        """The memory limit below gVisor may take one of the processes that a guest's process
        is made of. Then gVisor ends, or that process does, or it waits for the lost one for ever.
        """
        while True:
            await asyncio.sleep(STUCK_AFTER_S)
            if time.monotonic() - self._last_heard_s < STUCK_AFTER_S:
                continue
            await asyncio.to_thread(self._count_kills)
            # Both by our monotonic clock.
            killed_s = self._engine.our_time_s(self._last_kill_ns) + time.monotonic() - time.time()
            if self._last_kill_ns and killed_s > self._last_heard_s:
                return self._end("stuck")

    def _is_gvisor(self) -> bool:
        with contextlib.suppress(BackendUnavailable):
            return gvisor.is_used(self._spec.runtime, self._engine.info())
        return False

    @property
    def _stream(self) -> Stream | None:
        is_there = self._started.done() and self._started.exception() is None
        return self._started.result().stream if is_there else None

    # -- what it uses

    async def measure(self) -> Usage:
        if not self.container_id or self._is_over:
            kills = await asyncio.to_thread(self._count_kills) if self.container_id else None
            self._usage = self._usage._replace(memory_kills=kills)
            return self._usage
        with contextlib.suppress(Exception):  # of the SDK: an engine that is gone
            self._usage = await asyncio.to_thread(self._measure)
        return self._usage

    @property
    def _is_over(self) -> bool:
        return self._exit is not None and self._exit.done()

    def _measure(self) -> Usage:
        api = self._engine.api()
        stats = api.stats(self.container_id, stream=False, one_shot=True)
        memory = stats.get("memory_stats", {})
        cpu_ns = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        kills = self._count_kills()
        # Where cgroups are version 2 an engine knows no peak; who was killed was at the limit.
        otherwise = memory.get("limit") if kills else self._usage.peak_memory_bytes
        return Usage(
            cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
            memory_bytes=memory.get("usage", self._usage.memory_bytes),
            peak_memory_bytes=memory.get("max_usage", otherwise),
            memory_kills=kills,
        )

    def _count_kills(self) -> int | None:
        """All that were ever seen: the engine forgets, and soon when a neighbour is busy."""
        found = self._events()
        if found is None:
            return None
        with self._lock:
            fresh = [e for e in found if e.action == "oom" and e.time_ns > self._last_kill_ns]
            self._kills += len(fresh)
            self._last_kill_ns = max([e.time_ns for e in fresh], default=self._last_kill_ns)
            return self._kills

    def _events(self) -> list[engine.Event] | None:
        return self._engine.events_of(self.container_id, self._began_s)

    async def update(self, *, memory_bytes: int | None = None, cpus: float | None = None) -> None:
        if self._is_gvisor():
            raise SettingsError(
                "gVisor (runsc) cannot change the limits of a running container. Give them when "
                "the session is made."
            )
        machine = container.Machine.from_info(self._engine.info())
        changes: dict[str, Any] = {}
        if memory_bytes is not None:
            changes["Memory"] = fit_memory(memory_bytes, machine.memory_bytes)
            changes["MemorySwap"] = changes["Memory"]
        if cpus is not None:
            changes["NanoCpus"] = round(fit_cpus(cpus, machine.cpus) * 1e9)
        if changes:
            await asyncio.to_thread(self._update, changes)

    def _update(self, changes: dict[str, Any]) -> None:
        try:
            self._engine.update(self.container_id, changes)
        except BackendUnavailable:
            raise
        except Exception as error:  # the SDK's: what is said is the engine's own reason
            raise SettingsError(
                f"The engine refuses the new limits {changes}: {error}. Ask for others."
            ) from None

    # -- its end

    def kill(self) -> None:
        self._end("killed")

    async def close(self) -> None:
        self._end("closed")
        await self.death()
        with contextlib.suppress(TimeoutError):  # of an engine that hangs: `gc` looks again
            await asyncio.wait_for(asyncio.wrap_future(self._removed), CLOSE_TIMEOUT_S)
        if (stream := self._stream) is not None:
            stream.close()

    def _end(self, how: str) -> None:
        with self._lock:
            if self._is_ending:
                return
            self._is_ending = True
        self._ending = self._ending or how
        threading.Thread(target=self._finish, name="sandbox-end", daemon=True).start()

    def _finish(self) -> None:
        """Remove the container, which ends all in it. In a thread, once."""
        self._thread.join()
        self._remove_quietly()
        self._removed.set_result(None)

    def _remove_quietly(self) -> None:
        if self.container_id:
            with contextlib.suppress(Exception):  # the SDK's, of many kinds; `gc` looks again
                self._engine.remove(self.container_id)

    async def death(self) -> Death:
        return await asyncio.shield(self._watch())

    def _watch(self) -> asyncio.Task[Death]:
        if self._exit is None:
            self._exit = asyncio.ensure_future(self._follow())
        return self._exit

    async def _follow(self) -> Death:
        try:
            stream = (await asyncio.wrap_future(self._started)).stream
        except SandboxKernelError as error:
            ours = diagnosis.by_us(self._ending)
            return ours or Death("failed to start", str(error))
        await self._until_over()
        stream.release()
        found = None
        if not self._ending:
            found = await asyncio.to_thread(self._events_to_the_end)
            self._end("")  # what is left of it
        return diagnosis.by_us(self._ending) or diagnosis.explain(
            found, self._spec.limits, last_words=bytes(self._words), has_spoken=self._has_spoken
        )

    async def _until_over(self) -> None:
        """Until its stream ended or we have removed it, whichever is first."""
        over = self._stream_ended = asyncio.Event()
        if self._has_stream_ended:
            over.set()
        waits: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(over.wait()),
            asyncio.wrap_future(self._removed),
        }
        timeout_s = CLOSE_TIMEOUT_S if self._ending else None
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=timeout_s)
        for wait in waits:
            wait.cancel()

    def _events_to_the_end(self) -> list[engine.Event] | None:
        """The engine tells of an end some milliseconds after the stream showed it."""
        end_s = time.monotonic() + 2.0
        while True:
            found = self._events()
            is_told = found is not None and any(event.action == "die" for event in found)
            if found is None or is_told or time.monotonic() > end_s:
                return found
            time.sleep(0.01)
