"""An engine holds sessions: how many there may be, how long they live, and the pools."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel import backends
from sandbox_kernel.backends.base import Backend, Mount, SandboxSpec
from sandbox_kernel.engine.admission import CLOSED, Admission
from sandbox_kernel.engine.carried import Carried
from sandbox_kernel.engine.choices import (
    UNSET,
    Choices,
    Strategy,
    Workspace,
    check_count,
    check_is,
    check_seconds,
    choose,
)
from sandbox_kernel.engine.hearing import OnText, check_callback
from sandbox_kernel.engine.lifetimes import Reaper
from sandbox_kernel.engine.packages import Packages
from sandbox_kernel.engine.places import Fresh, Kept, Place, start_fresh
from sandbox_kernel.engine.session import Session
from sandbox_kernel.engine.underway import Underway
from sandbox_kernel.errors import NoSuchSession, SessionClosed, SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from sandbox_kernel.settings import Settings

if TYPE_CHECKING:
    from sandbox_kernel.engine.attached import NotebookPackages
    from sandbox_kernel.engine.pools import Pools
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
        self._admission = Admission(
            max_sessions, when_full=when_full, wait_timeout_s=wait_timeout_s
        )
        check_is("backend", backend, str | Backend | None, "the name of one, or a backend")
        check_is("settings", settings, Settings | None, "Settings.load()")
        check_count("max_idle_sandboxes", max_idle_sandboxes)
        check_seconds("wait_timeout_s", wait_timeout_s)
        check_seconds("idle_timeout_s", idle_timeout_s)
        check_seconds("lifetime_s", lifetime_s)
        options = {"backend": backend} if isinstance(backend, str) else {}
        settings = settings or Settings.load(options)
        made = backend if isinstance(backend, Backend) else None
        self.backend = made or backends.get(
            backend if isinstance(backend, str) else settings.backend
        )
        # What it is, whatever they say: some of what they ask for is for one backend only.
        self.settings = settings._replace(backend=self.backend.name)
        self._idle_timeout_s = idle_timeout_s
        self._lifetime_s = lifetime_s
        self._max_idle = max_idle_sandboxes
        self._sessions: dict[str, Session] = {}
        self._creating = Underway(CLOSED)
        self._closing: asyncio.Future[None] | None = None
        self._reaper = Reaper(lambda: list(self._sessions.values()))
        self._pools: Pools | None = None

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
        mounts: Sequence[Mount | str] | None = None,
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
            image, runtime: for backends with images.
            mounts: for these too; texts as the command line takes them, `HOST:GUEST[:ro|rw]`.
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
        check_callback(on_dependency_output)
        check_count("pool_size", pool_size)
        check_is("labels", labels, Mapping | None, "a mapping of names to texts")
        idle_timeout_s = self._idle_timeout_s if idle_timeout_s is UNSET else idle_timeout_s
        lifetime_s = self._lifetime_s if lifetime_s is UNSET else lifetime_s
        check_seconds("idle_timeout_s", idle_timeout_s)
        check_seconds("lifetime_s", lifetime_s)
        toolbox = _toolbox(tools)

        async def create() -> Session:
            packages = Packages(self.backend, choices)
            try:
                spec = await packages.declared(on_dependency_output)
                place = self._place(choices, spec, toolbox, pool_size)
                try:
                    await place.start()
                except BaseException:
                    await place.close()
                    raise
            except BaseException:
                packages.close()
                raise
            return self._admit(choices, place, packages, labels, idle_timeout_s, lifetime_s)

        return await self._in_a_place(create)

    async def attach(self, session_id: str, *, labels: Mapping[str, str] | None = None) -> Session:
        """The session of a live sandbox notebook of the same user, by the id that it shows.

        Its variables are shared, its cells take turns with the notebook's, and closing the
        session leaves the notebook's sandbox alone.

        Raises:
            NoSuchSession: no live notebook of this user has that id.
        """
        check_is("session_id", session_id, str, "the id that %sandbox status shows")
        check_is("labels", labels, Mapping | None, "a mapping of names to texts")
        from sandbox_kernel.engine.attached import NotebookPackages, choices_for
        from sandbox_kernel.sharing.client import connect

        async def attach() -> Session:
            seat = await connect(session_id)
            try:
                choices = choices_for(self.settings, seat.spec)
            except BaseException:
                await seat.close()
                raise
            packages = NotebookPackages(seat)
            backend = seat.backend_name
            return self._admit(choices, Kept(seat), packages, labels, None, None, backend=backend)

        return await self._in_a_place(attach)

    def get(self, session_id: str) -> Session:
        """
        Raises:
            NoSuchSession: there is none with that id; it may have been ended for its age.
        """
        session = self._sessions.get(session_id)
        if session is None or session.is_closed:
            raise NoSuchSession(f"There is no session {session_id!r}. Create one.")
        return session

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Until the pools are full, as far as `max_idle_sandboxes` allows.

        Raises:
            TimeoutError: they were not in time.
            SandboxKernelError: a sandbox could not be made, or not warmed up.
        """
        if self._pools is not None:
            await self._pools.wait_until_full(timeout_s)

    def sessions(self, labels: Mapping[str, str] | None = None) -> list[Session]:
        """Those that are open, oldest first; with `labels`, those that have all of these."""
        wanted = (labels or {}).items()
        return [
            one
            for one in self._sessions.values()
            if wanted <= one.labels.items() and not one.is_closed
        ]

    async def close_session(
        self, session_id: str, *, keep_generated: str | Path | None = None
    ) -> None:
        """Close one by its id.

        Raises:
            NoSuchSession: there is none with that id.
        """
        await self.get(session_id).close(keep_generated=keep_generated)

    async def close(self) -> None:
        """Close everything. Safe to call twice.

        Who is cancelled meanwhile waits for the end all the same; once more, and it goes on
        by itself.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            await asyncio.wait([self._closing])
            raise

    async def _close(self) -> None:
        self._admission.close()
        await self._reaper.stop()
        await self._creating.call_off()
        open_ones = list(self._sessions.values())
        await asyncio.gather(*(one.close() for one in open_ones), return_exceptions=True)
        if self._pools is not None:
            await self._pools.close()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- parts

    def _admit(
        self,
        choices: Choices,
        place: Place,
        packages: Packages | NotebookPackages,
        labels: Mapping[str, str] | None,
        idle_timeout_s: float | None,
        lifetime_s: float | None,
        *,
        backend: str = "",
    ) -> Session:
        session = Session(
            secrets.token_hex(_ID_BYTES),
            backend or self.backend.name,
            choices,
            place,
            packages,
            labels=labels or {},
            idle_timeout_s=idle_timeout_s,
            lifetime_s=lifetime_s,
            on_close=self._forget,
        )
        self._sessions[session.id] = session
        self._reaper.wake()
        return session

    def _forget(self, session_id: str) -> None:
        if self._sessions.pop(session_id, None) is not None:
            self._admission.free()

    async def _in_a_place(self, create: Callable[[], Coroutine[Any, Any, Session]]) -> Session:
        """What `create` makes, once there may be one more."""
        if self._closing is not None:
            raise SessionClosed(CLOSED)
        await self._admission.take()
        admitted: list[Session] = []

        async def made() -> Session:
            session = await create()
            admitted.append(session)  # from now on its end gives the place back
            return session

        try:
            return await self._creating.do(made())
        except BaseException:
            if not admitted:
                self._admission.free()
            for session in admitted:  # it was there when its caller was gone: nobody's
                session.begin_to_close()
            raise

    def _place(
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
            begins_anew = None if is_shared else Carried(spec.limits, is_shared=False)
            return Kept(made(), begins_anew)
        carried = Carried(spec.limits, is_shared=is_shared)
        if choices.strategy is Strategy.PER_EXECUTION:
            return Fresh(lambda: start_fresh(made()), carried)
        return self._pooled(choices, spec, made, toolbox, pool_size, carried)

    def _pooled(
        self,
        choices: Choices,
        spec: SandboxSpec,
        made: Callable[[], SandboxSession],
        toolbox: Toolbox | None,
        size: int,
        carried: Carried,
    ) -> Fresh:
        from sandbox_kernel.engine.pools import Pools

        if self._pools is None:
            self._pools = Pools(max_idle=self._max_idle)
        # Sessions of one kind share a pool; nobody comes again with the same toolbox.
        key = (repr(spec), choices.outputs, choices.preload, choices.allow_forward, id(toolbox))
        pools = self._pools
        pool = pools.open(key, made, size=size, preload=choices.preload)
        on_close = lambda: pools.release(key, is_last=toolbox is not None)  # noqa: E731
        return Fresh(pool.claim, carried, destroy=pool.destroy, on_close=on_close)


def _toolbox(tools: Any) -> Toolbox | None:
    if not tools:
        return None
    from sandbox_kernel.session.tools import Toolbox

    return Toolbox.of(tools)
