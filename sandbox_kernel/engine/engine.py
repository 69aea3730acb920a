"""An engine holds sessions: how many there may be, how long they live, and the pools."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel import backends
from sandbox_kernel.backends.base import Backend, Mount, SandboxSpec
from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.engine.choices import UNSET, Choices, Strategy, Workspace, choose
from sandbox_kernel.engine.hearing import OnText
from sandbox_kernel.engine.lifetimes import Reaper
from sandbox_kernel.engine.packages import Packages
from sandbox_kernel.engine.places import Fresh, Kept, Place, start_fresh
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.engine.session import Session
from sandbox_kernel.errors import (
    NoSuchSession,
    SessionClosed,
    SessionLimitReached,
    SettingsError,
)
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from sandbox_kernel.settings import Settings

if TYPE_CHECKING:
    from sandbox_kernel.engine.pool import Pools
    from sandbox_kernel.session.tools import Toolbox

IDLE_TIMEOUT_S = 3600.0
POOL_SIZE = 4
# 122 bits of a random UUID are what others call unguessable; these are 128.
_ID_BYTES = 16


class Engine:
    """Makes sessions, and leaves nothing behind: an async context.

    What is left out comes from the settings (`SANDBOX_KERNEL_*`, the settings file).

    Args:
        backend: a name, or a backend of one's own.
        settings: in place of those that are found.
        max_sessions: how many may be open at once; None: no limit.
        when_full: "refuse", or "wait" for a session to be closed.
        wait_timeout_s: how long; None: for ever.
        idle_timeout_s: a session that is unused for so long is closed; None: never.
        lifetime_s: the same for its whole age.
        max_idle_sandboxes: unused ones in all pools together.

    Raises:
        SettingsError: names the setting, the value and the remedy.
    """

    def __init__(
        self,
        backend: str | Backend | None = None,
        *,
        settings: Settings | None = None,
        max_sessions: int | None = None,
        when_full: str = "refuse",
        wait_timeout_s: float | None = None,
        idle_timeout_s: float | None = IDLE_TIMEOUT_S,
        lifetime_s: float | None = None,
        max_idle_sandboxes: int = 16,
    ) -> None:
        if when_full not in ("refuse", "wait"):
            raise SettingsError(f"when_full is {when_full!r}; choose refuse or wait.")
        if max_sessions is not None and max_sessions < 1:
            raise SettingsError(f"max_sessions is {max_sessions}; give 1 or more, or None.")
        options = {"backend": backend} if isinstance(backend, str) else {}
        self.settings = settings or Settings.load(options)
        made = backend if isinstance(backend, Backend) else None
        self.backend = made or backends.get(
            backend if isinstance(backend, str) else self.settings.backend
        )
        self._max_sessions = max_sessions
        self._when_full = when_full
        self._wait_timeout_s = wait_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._lifetime_s = lifetime_s
        self._max_idle = max_idle_sandboxes
        self._sessions: dict[str, Session] = {}
        self._places = 0  # taken, by sessions or by those that are on their way
        self._waiting: deque[asyncio.Future[None]] = deque()  # for a place, who came first first
        self._reaper = Reaper(lambda: list(self._sessions.values()))
        self._pools: Pools | None = None
        self._is_closed = False

    # -- sessions

    async def create_session(
        self,
        language: str | None = None,
        *,
        strategy: Strategy | str = Strategy.PER_SESSION,
        workspace: Workspace | str | None = None,
        limits: Limits | None = None,
        image: str | None = None,
        python: str | None = None,
        runtime: str | None = None,
        mounts: Sequence[Mount] | None = None,
        environment: Mapping[str, str] | None = None,
        outputs: str | None = None,
        dependencies: Iterable[str] = (),
        dependency_policy: str | None = None,
        allowed_dependencies: Iterable[str] = (),
        on_dependency_output: OnText | None = None,
        tools: Toolbox | Mapping[str, Callable[..., Any]] | Iterable[Callable[..., Any]] = (),
        allow_forward: bool = False,
        preload: Sequence[str] = (),
        pool_size: int = POOL_SIZE,
        labels: Mapping[str, str] | None = None,
        idle_timeout_s: float | None = UNSET,
        lifetime_s: float | None = UNSET,
    ) -> Session:
        """A session whose sandbox is up, or whose pool is filling.

        Args:
            language: a name or an alias (default: the settings').
            strategy: how long a sandbox lives, see `Strategy`.
            workspace: "shared": files live from run to run; "isolated": each run begins with
                those only that the caller gave. Default: shared for PER_SESSION.
            limits: of a sandbox; a run may take `limits.timeout_s`, 60 s when that is None.
            image, runtime, mounts: for backends with images.
            python: whose environment it gets (bubblewrap).
            outputs: "safe" or "trusted": what a browser may be shown.
            dependencies: packages that are there from the start.
            dependency_policy: "any", "declared" or "none": which packages runs may ask for.
            tools: functions of this program that code inside may call, by name.
            allow_forward: whether `Session.forward` may reach a server inside.
            preload: modules of Python that a pool's sandboxes have imported already.
            pool_size: unused sandboxes that are kept ready (POOL only).
            labels: the caller's own, for `sessions`.
            idle_timeout_s, lifetime_s: in place of the engine's.

        Raises:
            BackendUnavailable: nothing can isolate here; the message has the remedy.
            DependencyFailed: a package is not to be had.
            SandboxDied: the sandbox did not come up.
            SessionLimitReached: there are `max_sessions` already.
            SettingsError: names what cannot be, and the remedy.
        """
        choices = choose(
            self.settings,
            language,
            strategy=strategy,
            workspace=workspace,
            limits=limits,
            image=image,
            python=python,
            runtime=runtime,
            mounts=mounts,
            environment=environment,
            outputs=outputs,
            dependencies=dependencies,
            dependency_policy=dependency_policy,
            allowed_dependencies=allowed_dependencies,
            preload=preload,
            allow_forward=allow_forward,
        )
        if preload and choices.strategy is not Strategy.POOL:
            raise SettingsError("preload is for pools: give strategy=Strategy.POOL, or leave it.")
        toolbox = _toolbox(tools)
        packages = Packages(self.backend, choices)
        async with self._place_for_one():
            spec = await packages.declared(on_dependency_output)
            place = await self._place(choices, spec, toolbox, pool_size)
            try:
                await place.start()
            except BaseException:
                await place.close()
                packages.close()
                raise
            return self._admit(
                choices,
                place,
                packages,
                labels or {},
                self._idle_timeout_s if idle_timeout_s is UNSET else idle_timeout_s,
                self._lifetime_s if lifetime_s is UNSET else lifetime_s,
            )

    async def attach(self, session_id: str, *, labels: Mapping[str, str] | None = None) -> Session:
        """The session of a live sandbox notebook of the same user, by the id that it shows.

        Its variables are shared, its cells take turns with the notebook's, and closing the
        session leaves the notebook's sandbox alone.

        Raises:
            NoSuchSession: no live notebook of this user has that id.
        """
        from sandbox_kernel.sharing.client import connect

        self._require_open()
        async with self._place_for_one():
            seat = await connect(session_id)
            choices = choose_for_attached(self.settings, seat.spec)
            place = Kept(seat)
            packages = Packages(self.backend, choices)
            return self._admit(choices, place, packages, labels or {}, None, None)

    def get(self, session_id: str) -> Session:
        """
        Raises:
            NoSuchSession: there is none with that id; it may have been ended for its age.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise NoSuchSession(f"There is no session {session_id!r}. Create one.")
        return session

    def sessions(self, labels: Mapping[str, str] | None = None) -> list[Session]:
        """Those that are open, oldest first; with `labels`, those that have all of these."""
        wanted = (labels or {}).items()
        return [one for one in self._sessions.values() if wanted <= one.labels.items()]

    async def close_session(
        self, session_id: str, *, keep_generated: str | Path | None = None
    ) -> None:
        """Close one by its id.

        Raises:
            NoSuchSession: there is none with that id.
        """
        await self.get(session_id).close(keep_generated=keep_generated)

    async def close(self) -> None:
        """Close everything. Safe to call twice."""
        self._is_closed = True
        await self._reaper.stop()
        open_ones = list(self._sessions.values())
        await asyncio.gather(*(one.close() for one in open_ones), return_exceptions=True)
        if self._pools is not None:
            await self._pools.close()
        while self._waiting:
            self._free_place()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- places for sessions

    def _place_for_one(self) -> _PlaceForOne:
        return _PlaceForOne(self)

    async def _take_place(self) -> None:
        self._require_open()
        most = self._max_sessions
        if most is None or self._places < most:
            self._places += 1
        elif self._when_full == "wait":
            await self._wait_for_place(most)
        else:
            raise SessionLimitReached(
                f"There are {most} sessions, as many as there may be (max_sessions). Close "
                'one, or make the engine with when_full="wait".'
            )

    async def _wait_for_place(self, most: int) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            async with asyncio.timeout(self._wait_timeout_s):
                await given
        except TimeoutError:
            raise SessionLimitReached(
                f"No place for a session became free within {self._wait_timeout_s:g} s "
                f"(wait_timeout_s); there may be {most} (max_sessions)."
            ) from None
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it came too late
                self._free_place()
            raise
        finally:
            if given in self._waiting:
                self._waiting.remove(given)
        if self._is_closed:
            self._free_place()
        self._require_open()

    def _free_place(self) -> None:
        """Hand it to whoever waits longest, or count one less."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(None)
                return
        self._places -= 1

    def _require_open(self) -> None:
        if self._is_closed:
            raise SessionClosed("The engine is closed. Make another one.")

    # -- parts

    def _admit(
        self,
        choices: Choices,
        place: Place,
        packages: Packages,
        labels: Mapping[str, str],
        idle_timeout_s: float | None,
        lifetime_s: float | None,
    ) -> Session:
        session = Session(
            secrets.token_hex(_ID_BYTES),
            self.backend.name,
            choices,
            place,
            packages,
            labels=labels,
            idle_timeout_s=idle_timeout_s,
            lifetime_s=lifetime_s,
            on_close=self._forget,
        )
        self._sessions[session.id] = session
        self._reaper.wake()
        return session

    def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            self._free_place()

    async def _place(
        self, choices: Choices, spec: SandboxSpec, toolbox: Toolbox | None, pool_size: int
    ) -> Place:
        def made() -> SandboxSession:
            return SandboxSession(self.backend, spec, policy=choices.outputs, **rights)

        rights: dict[str, Any] = {}
        if toolbox is not None:
            rights["tools"] = toolbox
        if choices.allow_forward:
            rights["allow_forward"] = True
        is_shared = choices.workspace is Workspace.SHARED
        if choices.strategy is Strategy.PER_SESSION:
            return Kept(made(), is_wiped=not is_shared)
        carried = Carried(spec.limits, is_shared=is_shared)
        if choices.strategy is Strategy.PER_EXECUTION:
            return Fresh(lambda: start_fresh(made()), carried)
        return Fresh(self._pooled(choices, spec, made, toolbox, pool_size), carried)

    def _pooled(
        self,
        choices: Choices,
        spec: SandboxSpec,
        made: Callable[[], SandboxSession],
        toolbox: Toolbox | None,
        size: int,
    ) -> Callable[[], Awaitable[Seat]]:
        from sandbox_kernel.engine.pool import Pools

        if self._pools is None:
            self._pools = Pools(max_idle=self._max_idle)
        # Sessions of one kind share a pool; a toolbox belongs to one session.
        key = (repr(spec), choices.outputs, choices.preload, choices.allow_forward, id(toolbox))
        pool = self._pools.open(key, made, size=size, preload=choices.preload)
        return pool.claim


class _PlaceForOne:
    """A place for one session, given back unless one was made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __aenter__(self) -> None:
        await self._engine._take_place()

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._engine._free_place()


def choose_for_attached(settings: Settings, spec: SandboxSpec) -> Choices:
    """For a session that somebody else made: its owner decided on everything."""
    choices = choose(
        settings,
        spec.language,
        strategy=Strategy.PER_SESSION,
        workspace=None,
        limits=spec.limits,
        image=None,
        python=None,
        runtime=None,
        mounts=None,
        environment=None,
        outputs=None,
        dependencies=(),
        dependency_policy=None,
        allowed_dependencies=(),
        preload=(),
        allow_forward=False,
    )
    return choices._replace(spec=spec)


def _toolbox(tools: Any) -> Toolbox | None:
    if not tools:
        return None
    from sandbox_kernel.session.tools import Toolbox

    return Toolbox.of(tools)
