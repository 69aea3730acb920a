"""One running sandbox, seen from the host: a stream, a lifeline and the launcher's word.

Rule 1: nothing blocks the event loop, and nothing is read ahead of who asks: a guest that
floods its stream stops at a full pipe.
Rule 2: the lifeline is the only way to end it. Whatever closes it (us, our death) ends it.
Rule 3: asyncio is imported when first used: `launch` comes before, in the kernel's start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sandbox_kernel.backends.base import Death, Sandbox, Usage
from sandbox_kernel.backends.bubblewrap import cgroups, diagnosis
from sandbox_kernel.backends.waiting import Readiness, until_ready, wake
from sandbox_kernel.errors import SandboxDied, SettingsError
from sandbox_kernel.limits import fit_cpus

if TYPE_CHECKING:
    import asyncio

READ_BYTES = 256 * 1024
# The guest's last words, for a reader. bwrap's errors are a line.
LAST_WORDS_BYTES = 4096
STATUS_BYTES = 4096


class BubblewrapSandbox(Sandbox):
    """Made by `BubblewrapBackend.launch`; owns the five descriptors and reaps the launcher."""

    def __init__(
        self,
        identity: str,
        boundary: str,
        launcher_pid: int,
        groups: dict[str, str],
        descriptors: dict[str, int],
    ) -> None:
        """`descriptors`: stdin, stdout, stderr, lifeline, status; ours from here on."""
        self.id = identity
        self.boundary = boundary
        self.needs_memory_watch = not groups
        self.launcher_pid = launcher_pid
        self.groups = groups
        self._fds = descriptors
        self._words = bytearray()
        self._status = bytearray()
        self._last_usage: dict[str, int] = {}
        self._has_spoken = False
        self._ending = ""  # "closed" or "killed" when it was us
        self._exit: asyncio.Task[Death] | None = None
        self._send_lock: asyncio.Lock | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._stream: Readiness | None = None
        for name in ("stdin", "stdout", "stderr", "status"):
            os.set_blocking(descriptors[name], False)

    def __del__(self) -> None:
        self._close_fds()

    def greet(self, data: bytes) -> None:
        # An empty pipe holds at least 64 KiB, so this is whole or the guest is gone.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fds["stdin"], data)

    async def receive(self) -> AsyncIterator[bytes]:
        import asyncio

        self._watch()
        watch = self._stream = Readiness(self._fds["stdout"])
        try:
            while True:
                try:
                    chunk = os.read(self._fds["stdout"], READ_BYTES)
                except BlockingIOError:
                    await watch.wait()
                    continue
                except (KeyError, OSError):
                    return  # closed meanwhile
                if not chunk:
                    return
                self._has_spoken = True
                yield chunk
                if len(chunk) == READ_BYTES:
                    await asyncio.sleep(0)  # a flood must not starve the loop's other tasks
        finally:
            watch.stop()
            self._stream = None

    async def send(self, data: bytes) -> None:
        import asyncio

        self._watch()
        if self._send_lock is None:
            self._send_lock = asyncio.Lock()
        view = memoryview(data)
        async with self._send_lock:
            while view:
                try:
                    view = view[os.write(self._fds["stdin"], view) :]
                except BlockingIOError:
                    await until_ready(self._fds["stdin"], is_writer=True, waiting=self._waiting)
                except (KeyError, OSError):
                    raise SandboxDied((await self.death()).detail) from None

    async def measure(self) -> Usage:
        if self.groups:
            # After the end the groups are gone, and the launcher's last reading counts.
            self._last_usage.update(cgroups.measure(self.groups))
        elif "lifeline" in self._fds:
            self._last_usage.update(diagnosis.measure_tree(self.launcher_pid, self._last_usage))
        found = self._last_usage
        cpu_us = found.get("cpu_us")
        return Usage(
            cpu_s=None if cpu_us is None else cpu_us / 1e6,
            memory_bytes=found.get("memory"),
            peak_memory_bytes=found.get("peak"),
            memory_kills=found.get("kills"),
        )

    async def update(self, *, memory_bytes: int | None = None, cpus: float | None = None) -> None:
        if not self.groups:
            raise SettingsError(
                "The limits of a running sandbox can only be changed where control groups may be "
                "made, which this user may not here. Give them when the session is made."
            )
        if cpus is not None:
            cpus = fit_cpus(cpus, len(os.sched_getaffinity(0)))
        try:
            cgroups.change(self.groups, memory_bytes, cpus)
        except OSError as error:
            raise SettingsError(
                f"The kernel refuses these limits for the running sandbox: {error.strerror}. It "
                "may use more memory already than is asked for."
            ) from None

    def kill(self) -> None:
        self._end("killed")

    async def close(self) -> None:
        import asyncio

        self._end("closed")
        await self.death()
        # Who still waits for a descriptor finds its end; a closed one would never wake them.
        while self._wake_all():  # noqa: ASYNC110 - one turn of the loop each
            await asyncio.sleep(0)
        if self._stream is not None:
            self._stream.stop()
        self._close_fds()

    def _wake_all(self) -> bool:
        """Let everybody who waits for a descriptor look again; False if nobody does."""
        for future in list(self._waiting):
            wake(future)
        is_reader_waiting = self._stream is not None and self._stream.release()
        return bool(self._waiting) or is_reader_waiting

    async def death(self) -> Death:
        import asyncio

        # Shielded: who waits may be cancelled, the exit is still to be noticed.
        return await asyncio.shield(self._watch())

    def _end(self, how: str) -> None:
        lifeline = self._fds.pop("lifeline", None)
        if lifeline is not None:
            self._ending = self._ending or how
            os.close(lifeline)

    def _watch(self) -> asyncio.Task[Death]:
        """The one task that follows the launcher and drains what would block the guest."""
        if self._exit is None:
            import asyncio

            self._exit = asyncio.get_running_loop().create_task(self._follow())
        return self._exit

    async def _follow(self) -> Death:
        import asyncio

        words = asyncio.ensure_future(self._drain("stderr", self._words, LAST_WORDS_BYTES))
        await self._drain("status", self._status, STATUS_BYTES)
        # Its status ends when the launcher does; by then all that could write is dead.
        _, wait_status = os.waitpid(self.launcher_pid, 0)  # noqa: ASYNC222 - it has exited
        await words
        self._end("")
        for _ in range(100):
            # The launcher did this, unless it was killed itself.
            if not self.groups or cgroups.remove(self.groups):
                break
            cgroups.kill(self.groups)
            await asyncio.sleep(0.01)
        report = diagnosis.parse_report(bytes(self._status))
        for key in ("cpu_us", "peak", "kills"):
            if key in report:
                self._last_usage[key] = int(report[key])
        self._last_usage["memory"] = 0
        return diagnosis.explain(
            report,
            ending=self._ending,
            last_words=bytes(self._words),
            has_spoken=self._has_spoken,
            launcher_status=wait_status,
        )

    async def _drain(self, name: str, kept: bytearray, limit: int) -> None:
        """Read to the end; `kept` holds the last `limit` bytes."""
        fd = self._fds[name]
        while True:
            try:
                chunk = os.read(fd, 65536)
            except BlockingIOError:
                await until_ready(fd, is_writer=False, waiting=self._waiting)
                continue
            if not chunk:
                return
            kept += chunk
            del kept[:-limit]

    def _close_fds(self) -> None:
        fds: dict[str, int] = getattr(self, "_fds", {})
        while fds:
            os.close(fds.popitem()[1])
