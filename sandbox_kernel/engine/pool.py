"""Unused sandboxes, started and warmed up before somebody wants one.

    pool     those of one kind
    pools    the pools of one engine, with a budget for all of them
    traffic  when sandboxes may be made in advance
    warming  what is done in them before they are handed out

Rule 1: what was handed out never comes back. There is no method for it: a sandbox that ran
someone's code is destroyed, by whoever claimed it.
Rule 2: what is handed out has answered a moment ago, and nothing has happened in it since it
was warmed up.
Rule 3: whoever claims gets the first one that is there, made for them or for the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from sandbox_kernel.engine.traffic import Traffic
from sandbox_kernel.engine.warming import Warming
from sandbox_kernel.errors import SandboxKernelError, SessionClosed
from sandbox_kernel.session import SandboxSession, State

# A member is replaced at this age: what was true when it was made (packages, fonts) changes.
MAX_AGE_S = 1800.0
# Nobody has claimed for so long: then nothing is kept ready until somebody does.
UNUSED_S = 3600.0
# An answer takes 2 ms, on a machine that swaps some hundred.
ANSWER_TIMEOUT_S = 1.0
# A hundred claims at once: all at once would take as long, and none be there in time.
MOST_MADE_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))
# Between attempts to make one: doubled by each that fails.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.25, 30.0
# How often members that died are looked for; a claim looks by itself.
_LOOK_S = 5.0

Make = Callable[[], SandboxSession]


class _Member(NamedTuple):
    session: SandboxSession
    made_s: float


class Pool:
    """Up to `size` started, unused sandboxes of one kind. Needs a running event loop.

    Args:
        make: a new session, not started yet.
        size: how many are kept ready.
        preload: modules of Python that they have imported.
        warm_code: what else runs in them beforehand, in their language.
        max_age_s: of a member; older ones are replaced.
        traffic: shared with other pools of the engine.
        on_claim: called at each claim.

    Raises:
        SettingsError: `preload` names what cannot be; or as `make`.
    """

    def __init__(
        self,
        make: Make,
        *,
        size: int,
        preload: tuple[str, ...] = (),
        warm_code: str = "",
        max_age_s: float = MAX_AGE_S,
        traffic: Traffic | None = None,
        on_claim: Callable[[], None] | None = None,
    ) -> None:
        self.size = size
        self.failure: BaseException | None = None  # why the last one could not be made
        self._make = make
        self._warming = Warming(make().spec, preload, warm_code)
        self._max_age_s = max_age_s
        self._traffic = traffic or Traffic()
        self._on_claim = on_claim or (lambda: None)
        self._allowed = size
        self._idle: deque[_Member] = deque()
        self._making: set[asyncio.Task[SandboxSession]] = set()
        self._refilling: set[asyncio.Task[None]] = set()  # also those that wait until they may
        self._waiting: deque[asyncio.Future[SandboxSession]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._failures = 0
        self._retry_s = 0.0
        self._used_s = time.monotonic()
        self._is_closed = False

    @property
    def ready(self) -> int:
        """How many can be claimed at once."""
        return sum(_is_unused(member.session) for member in self._idle)

    @property
    def is_full(self) -> bool:
        return self.ready >= self._target

    @property
    def is_kept(self) -> bool:
        """Whether it has any, or may have: it has a share, and was used not too long ago."""
        return self._target > 0 or bool(self._making)

    def start(self) -> None:
        """Begin to fill it, on the side. Safe to call again."""
        self._require_open()
        if self._keeper is None:
            self._keeper = asyncio.ensure_future(self._keep_full())

    async def claim(self) -> SandboxSession:
        """A started sandbox that has run nobody's code, now the caller's to use and to close.

        Raises:
            BackendUnavailable, SandboxDied: there was none, and none could be made.
            SessionClosed: the pool was closed.
            SettingsError: `preload` or `warm_code` fails.
        """
        self.start()
        self._used_s = time.monotonic()
        self._on_claim()
        try:
            session = await self._living() or await self._next_made()
        finally:
            self._wake.set()
        self._traffic.note_claimed(session)
        return session

    async def destroy(self, session: SandboxSession) -> None:
        """Close what was claimed, once no other run would be slower for it (some 0.1 s).

        Await it on the side. `session.close()` is as good where nobody is in a hurry.
        """
        await self._traffic.destroy(session)

    async def wait_until_full(self, timeout_s: float) -> None:
        """
        Raises:
            TimeoutError: it was not full in time.
            SandboxKernelError: one could not be made; another attempt follows.
        """
        self.start()
        async with asyncio.timeout(timeout_s):
            while not self.is_full:
                self._require_open()
                if self.failure is not None:
                    raise self.failure
                await self._changed.wait()

    def resize(self, target: int) -> None:
        """Keep so many ready, at most `size`. What is too much goes, the oldest first."""
        self._allowed = max(0, min(target, self.size))
        self._tidy()
        self._wake.set()

    async def close(self) -> None:
        """Destroy all that was not claimed. Safe to call twice."""
        self._is_closed = True
        keeper = [self._keeper] if self._keeper is not None else []
        ours: list[asyncio.Task[Any]] = [*keeper, *self._refilling, *self._making]
        for task in ours:
            task.cancel()
        while self._waiting:
            _tell(self._waiting.popleft(), SessionClosed("The pool was closed."))
        self._tidy()
        self._note_change()
        if ours:
            await asyncio.wait(ours)
        if self._closing:
            await asyncio.wait(self._closing)

    # -- handing out -----------------------------------------------------------

    async def _living(self) -> SandboxSession | None:
        """The first member that still answers; None when there is none."""
        while self._idle:
            session = self._idle.popleft().session
            try:
                is_good = _is_unused(session) and await _answers(session)
            except BaseException:  # whoever claims was cancelled
                self._discard(session)
                raise
            if is_good and not self._is_closed:
                return session
            self._discard(session)
        return None

    async def _next_made(self) -> SandboxSession:
        """The next one that comes up. One that is on its way for the pool is as good."""
        self._require_open()
        waiting: asyncio.Future[SandboxSession] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._traffic.note_waiting(1)
        self._make_for_waiting()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._admit(waiting.result())
            raise
        finally:
            self._traffic.note_waiting(-1)
            with contextlib.suppress(ValueError):  # it was served
                self._waiting.remove(waiting)

    # -- making ----------------------------------------------------------------

    def _make_for_waiting(self) -> None:
        while len(self._making) < min(len(self._waiting), MOST_MADE_AT_ONCE):
            self._begin_making()

    def _begin_making(self) -> asyncio.Task[SandboxSession]:
        task = asyncio.ensure_future(self._made())
        self._making.add(task)
        task.add_done_callback(self._take)
        return task

    async def _made(self) -> SandboxSession:
        session = self._make()
        try:
            await session.start()
            # Somebody waits, and their code warms up as well as ours does.
            if self._warming.is_wanted or not self._waiting:
                await self._warming.warm_up(session)
        except BaseException:
            self._discard(session)
            raise
        return session

    def _take(self, task: asyncio.Task[SandboxSession]) -> None:
        """One was made, or could not be."""
        self._making.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.failure, self._failures, self._retry_s = None, 0, 0.0
            self._admit(task.result())
        else:
            self._note_failure(error)
        self._make_for_waiting()
        self._wake.set()
        self._note_change()

    def _admit(self, session: SandboxSession) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(session)
                return
        if self._is_closed or len(self._idle) >= self._target:
            self._discard(session)
        else:
            self._idle.append(_Member(session, time.monotonic()))

    def _note_failure(self, error: BaseException) -> None:
        """Tell one who waits, and let some time pass before the next attempt of our own."""
        self.failure = error
        wait_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._retry_s = time.monotonic() + wait_s
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                _tell(waiting, error)
                return

    # -- keeping it full -------------------------------------------------------

    async def _keep_full(self) -> None:
        while True:
            self._wake.clear()
            self._tidy()
            wait_s = _LOOK_S
            if self._lacks > 0:
                wait_s = min(wait_s, self._retry_s - time.monotonic())
                if wait_s <= 0:
                    self._begin(self._refill(), self._refilling)
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    @property
    def _lacks(self) -> int:
        """How many more have to be made; after failures one at a time is tried."""
        begun = len(self._refilling)
        lacks = self._target - len(self._idle) - begun
        return min(lacks, 1 - begun) if self._failures else lacks

    @property
    def _target(self) -> int:
        is_used = time.monotonic() - self._used_s < UNUSED_S
        return self._allowed if is_used and not self._is_closed else 0

    async def _refill(self) -> None:
        async with self._traffic.refill():
            # What a claimer has begun meanwhile, and does not need, comes here as well.
            spare = len(self._making) - len(self._waiting)
            is_due = time.monotonic() >= self._retry_s
            if is_due and len(self._idle) + spare < self._target:
                await asyncio.wait([self._begin_making()])

    def _tidy(self) -> None:
        """Let go of members that died or are too old."""
        oldest_s = time.monotonic() - self._max_age_s
        good = [m for m in self._idle if m.made_s > oldest_s and _is_unused(m.session)]
        kept = good[max(0, len(good) - self._target) :]
        for member in self._idle:
            if member not in kept:
                self._discard(member.session)
        self._idle = deque(kept)

    # -- parts

    def _discard(self, session: SandboxSession) -> None:
        self._begin(session.close(), self._closing)

    def _begin(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _task: self._wake.set())

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _require_open(self) -> None:
        if self._is_closed:
            raise SessionClosed("The pool was closed. Make another one.")


def _is_unused(session: SandboxSession) -> bool:
    """Up, and as its warm-up left it: what happened to it since then would be news."""
    return session.state is State.IDLE and not session.has_news


async def _answers(session: SandboxSession) -> bool:
    """Whether the runner takes a question; that the host has heard of no death is not enough."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await session.is_complete("")
    except (TimeoutError, SandboxKernelError):
        return False
    # A runner that is gone says nothing, before anybody knows that its sandbox is.
    return bool(answer) and _is_unused(session)


def _tell(waiting: asyncio.Future[SandboxSession], error: BaseException) -> None:
    if not waiting.done():
        waiting.set_exception(error)
