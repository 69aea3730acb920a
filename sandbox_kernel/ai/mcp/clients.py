"""What one MCP client may use: its sessions, one of which is its default.

Rule 1: a session is looked up among this client's, never in the engine: an id that somebody
else's client has is as good as none.
Rule 2: work outlives a request that is cancelled, until the code has stopped: the SDK cancels
again and again, and would tear the session's own clean-up apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from sandbox_kernel.engine import Engine, Session
from sandbox_kernel.errors import (
    NoSuchSession,
    SessionClosed,
    SessionLimitReached,
)

T = TypeVar("T")

REPLACED = (
    "Your default session had ended (it was unused for too long, or closed); this is a new one. "
    "Variables and files of the earlier one are gone."
)


class Client:
    """One of those who are connected."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[str, Session] = {}
        self._default: Session | None = None
        self._making_default = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    # -- sessions

    async def session(
        self, session_id: str | None, *, language: str | None = None
    ) -> tuple[Session, list[str]]:
        """The session that is meant, and sentences that its user should hear.

        Args:
            session_id: None means the default one, made when it isn't there.
            language: of a default session that is made now.

        Raises:
            NoSuchSession: this client has none with that id.
            BackendUnavailable, SandboxDied, SessionLimitReached, SettingsError: none can be made.
        """
        if session_id is not None:
            return self.get(session_id), []
        async with self._making_default:
            old = self._default
            if old is not None and not old.is_closed:
                return old, []
            self._default = await self.create(language, {})
            return self._default, [REPLACED] if old is not None else []

    def get(self, session_id: str) -> Session:
        """
        Raises:
            NoSuchSession: this client has none with that id.
        """
        session = self._sessions.get(session_id)
        if session is None or session.is_closed:
            self._sessions.pop(session_id, None)
            raise NoSuchSession(
                f"You have no session {session_id[:128]!r}; it may have ended because it was "
                "unused for too long. list_sessions names yours, create_session makes one."
            )
        return session

    def sessions(self) -> list[Session]:
        """Those that are open, oldest first."""
        self._sessions = {key: one for key, one in self._sessions.items() if not one.is_closed}
        return list(self._sessions.values())

    def is_default(self, session: Session) -> bool:
        return session is self._default

    async def create(self, language: str | None, labels: Mapping[str, str]) -> Session:
        """
        Raises:
            BackendUnavailable, SandboxDied, SessionLimitReached, SettingsError: as
                `Engine.create_session`.
        """
        return await self._admitted(self._engine.create_session(language, labels=labels))

    async def attach(self, notebook_id: str) -> Session:
        """
        Raises:
            NoSuchSession: no live notebook of this user has that id.
            SessionLimitReached: as `create`.
        """
        return await self._admitted(self._engine.attach(notebook_id))

    async def _admitted(self, making: Coroutine[Any, Any, Session]) -> Session:
        try:
            session = await making
        except SessionLimitReached:
            raise SessionLimitReached(
                "This server has as many sessions as it may have (--max-sessions). Close one of "
                "yours with close_session, or ask its owner for more."
            ) from None
        if self._is_closed:
            await session.close()
            raise SessionClosed("The client went away meanwhile.")
        self._sessions[session.id] = session
        return session

    # -- work

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in a task of its own; cancelled, it is told once, and ends in its own time.

        Every request is done so, or it would be torn from what it has begun.

        Raises:
            SessionClosed: it was given up because the client is going.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise SessionClosed("The connection was closed meanwhile.") from None
            task.cancel()
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard; whoever waited has it, or is gone

    async def close(self) -> None:
        """Close all its sessions. Safe to call twice."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(one.close() for one in sessions), return_exceptions=True)
