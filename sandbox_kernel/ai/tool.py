"""A tool that runs code, for any model that can call functions.

    async with code_execution_tool(languages=["python", "bash"]) as tool:
        client.chat.completions.create(..., tools=[tool.schema])
        outcome = await tool.run(call.function.arguments)      # the JSON text as it came
        messages.append({"role": "tool", "tool_call_id": call.id, "content": outcome.text})

Rule 1: whatever a model sends is answered by a `ToolOutcome`. What its owner must repair (no
sandbox can be had here, a setting is wrong) raises.
Rule 2: a call names no session. A tool drives the session that it was given, or makes its
own: no other tool, and no other client, has that one.
Rule 3: a call widens nothing: neither time, nor packages, nor languages, beyond what the
tool's owner and the session's owner allow.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel import languages as registry
from sandbox_kernel.ai import arguments, bounds
from sandbox_kernel.ai.arguments import Arguments, InvalidCall
from sandbox_kernel.ai.bounds import Image
from sandbox_kernel.ai.reach import Reach, check_given
from sandbox_kernel.engine.choices import (
    TIMEOUT_S,
    UNSET,
    Strategy,
    Workspace,
    check_count,
    check_seconds,
    list_of,
)
from sandbox_kernel.errors import (
    BackendUnavailable,
    SandboxDied,
    SandboxKernelError,
    SessionClosed,
    SettingsError,
)

if TYPE_CHECKING:
    from sandbox_kernel.engine import Engine, GeneratedFile, Result, Session
    from sandbox_kernel.limits import Limits

# What the endpoints take.
_NAME = r"[A-Za-z0-9_-]{1,64}"
_REPLACED = (
    "The session had ended because nobody used it; this call ran in a new one: variables and "
    "files of earlier calls are gone."
)


class ToolOutcome(NamedTuple):
    """What came of one call.

    Args:
        text: for the model, bounded and marked as data.
        images: for the model, if it sees: pictures that the code showed or saved.
        files: made or changed by the code; read them by `session.files`.
        result: all of it, for the program; None when nothing ran.
        is_error: the call was refused, or the code failed.
    """

    text: str
    images: list[Image]
    files: list[GeneratedFile]
    result: Result | None
    is_error: bool

    def summary(self) -> dict[str, Any]:
        """What happened, as plain data for logs and histories; without text and pictures."""
        result = self.result
        return {
            "is_error": self.is_error,
            "exit_code": None if result is None else result.exit_code,
            "error": None if result is None or result.error is None else str(result.error),
            "duration_s": None if result is None else result.duration_s,
            "files": [{"name": item.name, "size": item.size} for item in self.files],
        }


def code_execution_tool(
    session: Session | None = None,
    *,
    engine: Engine | None = None,
    language: str | None = None,
    languages: Sequence[str] | None = None,
    name: str = "execute_code",
    description: str | None = None,
    max_output_chars: int = bounds.MAX_CHARS,
    max_timeout_s: float | None = UNSET,
    strategy: Strategy | str = Strategy.PER_SESSION,
    workspace: Workspace | str | None = None,
    **options: Any,
) -> CodeExecutionTool:
    """A tool for models that runs code in `session`, or in one that it makes when first called.

    Args:
        session: whose variables and files the model shares; closing it stays with its owner.
        engine: makes the session, when none is given; None: one of the tool's own.
        language: what is meant when a call names none (default: the session's, or Python).
        languages: those that a call may name. Default: all that can run, and those that are
            registered later.
        description: in place of ours, which says what lives from call to call.
        max_output_chars: of the text that a model gets for one call.
        max_timeout_s: the most that a call may ask for. Default: the session's own timeout.
        strategy, workspace, options: as `Engine.create_session`, for the tool's own session.

    Raises:
        ExtraMissing: pydantic is not installed.
        SettingsError: there is no such language, or options for a session that is there already.
    """
    return CodeExecutionTool(
        session,
        engine=engine,
        language=language,
        languages=languages,
        name=name,
        description=description,
        max_output_chars=max_output_chars,
        max_timeout_s=max_timeout_s,
        strategy=strategy,
        workspace=workspace,
        options=options,
    )


class CodeExecutionTool:
    """Made by `code_execution_tool`. An async context that closes what the tool made."""

    def __init__(
        self,
        session: Session | None,
        *,
        engine: Engine | None,
        language: str | None,
        languages: Sequence[str] | None,
        name: str,
        description: str | None,
        max_output_chars: int,
        max_timeout_s: float | None,
        strategy: Strategy | str,
        workspace: Workspace | str | None,
        options: Mapping[str, Any],
    ) -> None:
        check_given(session, engine)
        _check_name(name)
        check_count("max_output_chars", max_output_chars)
        if max_timeout_s is not UNSET:
            check_seconds("max_timeout_s", max_timeout_s)
        if session is not None and (options or workspace is not None):
            named = ", ".join(sorted([*options, *(["workspace"] if workspace else [])]))
            raise SettingsError(
                f"The session is there already: give {named} where it is created, or no session."
            )
        self.name = name
        self.max_output_chars = max_output_chars
        self._description = description
        self._max_timeout_s = max_timeout_s
        self._options = {**options, "strategy": strategy, "workspace": workspace}
        self._given = session
        self._engine = engine
        self._own_engine: Engine | None = None
        self._own: dict[str, Session] = {}  # by the language that its sandbox is made for
        self._turn = asyncio.Lock()
        self._is_closed = False
        main = language or (session.language if session is not None else "python")
        self.language = registry.named(main)
        wanted = None if languages is None else [*map(registry.named, list_of(languages))]
        self._reach = Reach(self.language, wanted, session, engine, options.get("image"))

    # -- what a model is told

    @property
    def schema(self) -> dict[str, Any]:
        """The function as the chat completions of OpenAI and its like take it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": True,
        }
        return {"type": "function", "function": function}

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments as JSON schema; newly made, with the languages that there are now."""
        return arguments.json_schema(self._reach.names(), self._without)

    @property
    def description(self) -> str:
        if self._description is not None:
            return self._description
        return " ".join(
            (
                "Run code in an isolated sandbox and see what it prints, shows and saves.",
                self._lasting(),
                "The value of the last expression is shown, as in a notebook. Saved and shown "
                "pictures are returned. There is no network unless the owner opened it.",
            )
        )

    def _lasting(self) -> str:
        strategy, workspace = self._strategy_and_workspace()
        shared = workspace is Workspace.SHARED
        if strategy is Strategy.PER_SESSION and shared:
            apart = " Each language has a sandbox of its own." if self._reach.is_apart else ""
            return f"Variables and files live on from call to call.{apart}"
        if strategy is Strategy.PER_SESSION:
            return "Variables live on from call to call, files do not."
        if shared:
            return "Files live on from call to call, variables do not."
        return "Each call starts anew: no variables and no files of earlier calls."

    # -- running

    async def run(self, call: Mapping[str, Any] | str) -> ToolOutcome:
        """Carry out one call. Cancelling it stops the code.

        Args:
            call: the arguments as the model sent them: JSON text, or a dict.

        Raises:
            BackendUnavailable: no sandbox can be had here.
            SettingsError: what the tool's owner asked for cannot be.
        """
        try:
            checked = arguments.read(
                call,
                known=self._reach.names(),
                default_language=self.language,
                max_timeout_s=self._timeout_limit(),
                without=self._without,
            )
        except InvalidCall as error:
            return ToolOutcome(str(error), [], [], None, is_error=True)
        return await self._carry_out(checked)

    async def __call__(self, /, **call: Any) -> ToolOutcome:
        """`run`, with the arguments by name."""
        return await self.run(call)

    async def session(self, language: str | None = None) -> Session:
        """The session that calls of `language` run in, for files; made if it is not there.

        Raises:
            as `Engine.create_session`; SessionClosed when the tool is closed.
        """
        if self._given is not None:
            return self._given
        home = self._reach.home(language or self.language)
        async with self._turn:
            if self._is_closed:
                raise SessionClosed("The tool is closed. Make another one.")
            found = self._own.get(home)
            if found is None or found.is_closed:
                found = await self._made_engine().create_session(home, **self._options)
                self._own[home] = found
            return found

    async def close(self) -> None:
        """Close the session and the engine that the tool made. Safe to call twice."""
        async with self._turn:
            self._is_closed = True
            for session in self._own.values():
                await session.close()
            self._own.clear()
            if self._own_engine is not None:
                await self._own_engine.close()

    async def __aenter__(self) -> CodeExecutionTool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- parts

    async def _carry_out(self, call: Arguments) -> ToolOutcome:
        home = self._reach.home(call.language)
        notes = [_REPLACED] if self._given is None and self._is_stale(home) else []
        try:
            session = await self._session_here(call.language)
            result = await self._execute(session, call)
        except (BackendUnavailable, SettingsError):
            raise
        except SandboxKernelError as error:
            told = bounds.rendered_error(error, max_chars=self.max_output_chars)
            return ToolOutcome(told.text, [], [], None, is_error=True)
        shown = await bounds.rendered(
            result,
            files=session.files if _keeps_files(session) else None,
            max_chars=self.max_output_chars,
            notes=notes,
        )
        return ToolOutcome(shown.text, shown.images, result.files, result, not result.ok)

    async def _session_here(self, language: str) -> Session:
        try:
            return await self.session(language)
        except SandboxDied as error:  # no code has run in it: an engine that is not there, say
            raise BackendUnavailable(str(error)) from None

    async def _execute(self, session: Session, call: Arguments) -> Result:
        limits: dict[str, Any] = {} if call.timeout_s is None else {"timeout_s": call.timeout_s}
        return await session.execute(
            call.code,
            language=call.language,
            dependencies=self._packages(session, call),
            files={file.name: file.text for file in call.files or ()},
            stdin=call.stdin,
            **limits,
        )

    def _packages(self, session: Session, call: Arguments) -> list[str]:
        """Those of another language than the session's get its prefix, as in `npm:lodash`."""
        ecosystem = registry.get(call.language).ecosystem
        if not ecosystem or ecosystem == registry.get(session.language).ecosystem:
            return call.dependencies or []
        return [name if ":" in name else f"{ecosystem}:{name}" for name in call.dependencies or ()]

    def _is_stale(self, home: str) -> bool:
        return home in self._own and self._own[home].is_closed

    def _made_engine(self) -> Engine:
        if self._engine is not None:
            return self._engine
        if self._own_engine is None:
            from sandbox_kernel.engine import Engine

            self._own_engine = Engine()
        return self._own_engine

    def _strategy_and_workspace(self) -> tuple[Strategy, Workspace]:
        if self._given is not None:
            info = self._given.info()
            return Strategy(info.strategy), Workspace(info.workspace)
        strategy = Strategy(self._options["strategy"])
        is_kept = strategy is Strategy.PER_SESSION
        default = Workspace.SHARED if is_kept else Workspace.ISOLATED
        return strategy, Workspace(self._options["workspace"] or default)

    def _timeout_limit(self) -> float | None:
        if self._max_timeout_s is not UNSET:
            return self._max_timeout_s
        if self._given is not None:
            return self._given.timeout_s
        opened = next(iter(self._own.values()), None)
        if opened is not None:
            return opened.timeout_s
        limits: Limits | None = self._options.get("limits")
        own = limits.timeout_s if limits is not None else None
        return TIMEOUT_S if own is None else own

    @property
    def _without(self) -> tuple[str, ...]:
        return ("dependencies",) if self._options.get("dependency_policy") == "none" else ()


def _check_name(name: object) -> None:
    if not isinstance(name, str) or re.fullmatch(_NAME, name) is None:
        raise SettingsError(
            f"The name of the tool is {name!r:.80}; give 1 to 64 letters, digits, _ and -."
        )


def _keeps_files(session: Session) -> bool:
    """Whether the next call finds a file that is written now."""
    return session.info().workspace == Workspace.SHARED.value
