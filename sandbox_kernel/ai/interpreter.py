"""`interpret(prompt)`: prompt -> code -> sandbox -> answer. `Interpreter` is its several turns.

Rule 1: the model's key is the client's alone. Nothing here puts anything of the host's
        environment into a session.
Rule 2: what the model reads of a run has passed `bounds`.
Rule 3: what was made here is closed here; a session, engine or model of the caller's is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from sandbox_kernel.ai.bounds import clean, marked, rendered
from sandbox_kernel.ai.reach import check_given
from sandbox_kernel.ai.transcript import Transcript
from sandbox_kernel.engine.choices import check_is
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.models.client import Answers, Model, OnText, called
from sandbox_kernel.models.code import code_tool, system_prompt
from sandbox_kernel.models.loop import Answer, Conversation, Mode, OnCode, ToolResult
from sandbox_kernel.models.replies import Json, ToolCall

if TYPE_CHECKING:
    from sandbox_kernel.engine import Display, Engine, GeneratedFile, Result, Session

MAX_ROUNDS, MAX_REPAIRS = 12, 3


@dataclass(frozen=True)
class Step:
    """One piece of code that was run."""

    code: str
    language: str
    result: Result


OnStep = Callable[[Step], Awaitable[object] | object]


@dataclass(frozen=True)
class Interpretation:
    """What came of a prompt.

    Args:
        answer: what the model said last; without words of its own, what its code printed.
        messages: the whole conversation so far, in the API's form.
        is_complete: False when it gave up; `error` says at what.
    """

    answer: str
    steps: list[Step] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list, repr=False)
    is_complete: bool = True
    error: str = ""
    transcript: Transcript = field(default_factory=Transcript, repr=False)

    @property
    def displays(self) -> list[Display]:
        """The rich outputs of all steps, in order."""
        return [display for step in self.steps for display in step.result.displays]

    @property
    def files(self) -> list[GeneratedFile]:
        """What the steps made or changed, as the last of them left it."""
        return list({item.name: item for step in self.steps for item in step.result.files}.values())

    def save(self, path: str | PathLike[str], *, allow_overwrite: bool = False) -> None:
        """Write the conversation so far as a runnable notebook. As `Transcript.save`."""
        self.transcript.save(path, allow_overwrite=allow_overwrite)


class Interpreter:
    """Several turns with a model that runs code in one session. Not for two tasks at once.

    Cancel `ask` to stop it: the code is interrupted, and the conversation can go on.
    """

    def __init__(
        self,
        session: Session,
        model: Answers,
        *,
        languages: Sequence[str] = (),
        mode: Mode = "auto",
        facts: str = "",
        max_rounds: int = MAX_ROUNDS,
        max_repairs: int = MAX_REPAIRS,
        on_text: OnText | None = None,
        on_code: OnCode | None = None,
        on_result: OnStep | None = None,
        **run_options: Any,
    ) -> None:
        """
        Args:
            languages: what the model may write beside the session's language.
            mode, max_rounds, max_repairs, on_text, on_code: as `Conversation`.
            facts: what else the model is told first.
            on_result: each step, when it has run.
            run_options: for every `session.execute`: timeout_s, on_stdout, on_display, …
        """
        self.session = session
        self.transcript = Transcript(session.language)
        self._run_options = run_options
        self._on_result = on_result
        self._steps: list[Step] = []
        self._facts = facts
        tool = code_tool(self._run_for_model, language=session.language, languages=languages)
        self.conversation = Conversation(
            model,
            [tool],
            system=system_prompt(session.language, facts=facts, languages=languages),
            mode=mode,
            max_rounds=max_rounds,
            max_repairs=max_repairs,
            on_text=on_text,
            on_code=on_code,
            on_result=self._tell,
        )

    async def ask(self, prompt: str) -> Interpretation:
        """One turn, until the model answers or gives up.

        Raises:
            ModelUnavailable: the endpoint failed. The conversation can go on afterwards.
            BackendUnavailable, SessionClosed: nothing could be run at all.
        """
        self._steps = []
        self.transcript.asked(prompt)
        answer = await self.conversation.ask(prompt)
        text = answer.text or _printed(self._steps)
        self.transcript.answered(text if answer.ok else f"{text}\n\n{_GAVE_UP}".strip())
        return self._interpretation(answer, text)

    async def run(self, code: str, language: str | None = None) -> Step:
        """Code that the person wrote. The model hears of it with the next prompt."""
        step = await self._run(code, language or self.session.language)
        seen = await rendered(step.result, files=self._spill())
        own = marked("code", code)
        self.conversation.note(f"Meanwhile the person ran code of their own.\n{own}\n{seen.text}")
        await called(self._on_result, step)
        return step

    async def give(self, files: Mapping[str, bytes | str]) -> None:
        """Write `files` into the workspace; the model hears of it with the next prompt."""
        for name, content in files.items():
            await self.session.files.write(name, content)
        self.transcript.gave(files)
        names = ", ".join(clean(name) for name in files)
        self.conversation.note(f"The working directory has these files: {names}.")

    def use(self, language: str) -> None:
        """Have the model write `language` from now on, and the session's own where it must."""
        own = self.session.language
        tool = code_tool(self._run_for_model, language=language, languages=[own])
        system = system_prompt(language, facts=self._facts, languages=[own])
        self.conversation.offer([tool], system=system)

    # --- parts

    async def _run_for_model(self, code: str, language: str) -> ToolResult:
        step = await self._run(code, language)
        seen = await rendered(step.result, files=self._spill())
        error = step.result.error
        summary = str(error) if error is not None else ""
        return ToolResult(seen.text, error is not None, step, is_marked=True, summary=summary)

    async def _run(self, code: str, language: str) -> Step:
        result = await self.session.execute(code, language=language, **self._run_options)
        step = Step(code, language, result)
        self._steps.append(step)
        self.transcript.ran(code, result, language)
        return step

    async def _tell(self, call: ToolCall, result: ToolResult) -> None:
        if isinstance(result.detail, Step):
            await called(self._on_result, result.detail)

    def _spill(self) -> Any:
        """Where long output goes, if the workspace lives on."""
        return self.session.files if self.session.info().workspace == "shared" else None

    def _interpretation(self, answer: Answer, text: str) -> Interpretation:
        messages = list(self.conversation.messages)
        steps, transcript = list(self._steps), self.transcript
        return Interpretation(text, steps, messages, answer.ok, answer.error, transcript)


_GAVE_UP = "*It gave up here.*"


def _printed(steps: Sequence[Step]) -> str:
    """What the last code showed, for models that say nothing afterwards."""
    if not steps:
        return ""
    result = steps[-1].result
    return (result.stdout or result.text or result.stderr).strip()


async def interpret(
    prompt: str,
    *,
    session: Session | None = None,
    engine: Engine | None = None,
    model: Answers | None = None,
    language: str | None = None,
    files: Mapping[str, bytes | str] | None = None,
    mode: Mode = "auto",
    max_rounds: int = MAX_ROUNDS,
    max_repairs: int = MAX_REPAIRS,
    on_text: OnText | None = None,
    on_code: OnCode | None = None,
    on_result: OnStep | None = None,
    keep_generated: str | PathLike[str] | None = None,
    **run_options: Any,
) -> Interpretation:
    """Let a model answer `prompt` with code that runs in a sandbox.

    Args:
        session: where the code runs; None makes one, and destroys it afterwards.
        engine: what makes it; None is one of its own, as the settings say.
        model: None is the one that the settings name, see `Model.from_settings`.
        language: of a session that is made here (default: the settings').
        files: written into the workspace first; the model is told their names.
        mode, max_rounds, max_repairs, on_text, on_code: as `Conversation`.
        on_result: each step, when it has run.
        keep_generated: a directory for the files that the code made. A session that was
            given keeps them until it is closed.
        run_options: for every `session.execute`: timeout_s, on_stdout, on_display, …

    Raises:
        BackendUnavailable, SandboxDied: no sandbox could be had.
        ModelUnavailable: the endpoint failed.
        SettingsError: no model or no key is set, or an argument is of another kind.
    """
    _check(prompt, session, engine, model, files)
    async with AsyncExitStack() as stack:
        settings = engine.settings if engine is not None else None
        if model is None:
            model = await stack.enter_async_context(Model.from_settings(settings))
        if session is None:
            session = await _made(stack, engine, language, keep_generated)
        interpreter = Interpreter(
            session,
            model,
            mode=mode,
            max_rounds=max_rounds,
            max_repairs=max_repairs,
            on_text=on_text,
            on_code=on_code,
            on_result=on_result,
            **run_options,
        )
        if files:
            await interpreter.give(files)
        return await interpreter.ask(prompt)


def _check(prompt: object, session: object, engine: object, model: object, files: object) -> None:
    check_is("prompt", prompt, str, "a text")
    check_given(session, engine)
    check_is("files", files, Mapping | None, "a mapping of names to contents")
    if model is not None and not callable(getattr(model, "answer", None)):
        raise SettingsError(
            f"model is {model!r:.80}; give a sandbox_kernel.models.Model, or leave it out and set "
            "SANDBOX_KERNEL_MODEL."
        )


async def _made(
    stack: AsyncExitStack,
    engine: Engine | None,
    language: str | None,
    keep_generated: str | PathLike[str] | None,
) -> Session:
    from sandbox_kernel.engine import Engine

    if engine is None:
        engine = await stack.enter_async_context(Engine())
    session = await engine.create_session(language)
    directory = fspath(keep_generated) if keep_generated is not None else None
    stack.push_async_callback(session.close, keep_generated=directory)
    return session
