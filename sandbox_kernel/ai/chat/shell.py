"""One line after another: to the model, into the sandbox, or a command.

An interrupt stops what is going on and nothing else: code by the session's ladder, which
keeps the variables where it can and says so; the model by hanging up.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel import languages
from sandbox_kernel.ai.chat import lines
from sandbox_kernel.ai.chat.commands import COMMANDS, Commands, Quit
from sandbox_kernel.ai.chat.keyboard import Keyboard, open_keyboard
from sandbox_kernel.ai.chat.pictures import Pictures
from sandbox_kernel.ai.chat.screen import Screen
from sandbox_kernel.ai.interpreter import Interpreter, Step
from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.models.replies import Json, Reply
from sandbox_kernel.outputs.plain import seen
from sandbox_kernel.outputs.streams import clean_name

if TYPE_CHECKING:
    from sandbox_kernel.engine import Display, Session
    from sandbox_kernel.limits import Limits
    from sandbox_kernel.models import Answers

DONE, FAILED, TIMED_OUT, INTERRUPTED = 0, 1, 124, 130

# Nobody waits longer for a menu.
COMPLETION_PATIENCE_S = 10.0
MAX_MATCHES = 200

_FACTS = """\
You talk with the person at a terminal. Pictures that code shows or saves are kept for them \
under a name. They may run code of their own between what they say to you."""
_FIX = "My code failed, as you have seen. Say in a sentence or two why, then run it repaired."
_TRY_AGAIN = "That did not work. Say in a sentence or two why, then try another way."


class Options(NamedTuple):
    """What the command line says of a chat.

    Args:
        is_asked_first: code that the model wrote runs only when the person says so.
        transcript: a notebook that is written after every line; "" for none.
    """

    is_asked_first: bool = False
    transcript: str = ""


class NoModel:
    """In a model's place, where none is set."""

    name = ""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def close(self) -> None:
        pass

    async def answer(
        self, messages: Sequence[Json], tools: Sequence[Json] = (), *, on_text: Any = None
    ) -> Reply:
        raise SettingsError(self.reason)


class Chat:
    """One person's talk with one model about one session. `run` has a whole one."""

    def __init__(self, session: Session, model: Answers, limits: Limits, options: Options) -> None:
        self.screen = Screen()
        self.pictures = Pictures()
        self.limits = limits
        self.language = session.language
        self.model_name = str(getattr(model, "name", "the model"))
        self._options = options
        self._reason = model.reason if isinstance(model, NoModel) else ""
        self._keyboard: Keyboard = open_keyboard(self._is_unfinished, self._complete)
        self.interpreter = Interpreter(
            session,
            model,
            facts=_FACTS,
            on_text=self.screen.words,
            on_code=self._show_code,
            on_result=self._end_run,
            on_stdout=self.screen.stdout,
            on_stderr=self.screen.stderr,
            on_display=self._show,
            stdin=self._input if self._keyboard.is_person else None,
        )
        self._commands = Commands(self)
        self._task: asyncio.Task[int] | None = None
        self._is_running = False  # code, inside
        self._is_stopped = False  # by the person
        self._is_talk = False  # with the model
        self._interrupting: asyncio.Future[None] | None = None
        self._can_fix = ""  # what the model would be asked

    # --- a whole talk -----------------------------------------------------------------

    async def run(self, prompts: Sequence[str] = ()) -> int:
        """The prompts, or else what is typed until its end. Gives the exit code."""
        if prompts:
            return max([await self._attended(self.ask(prompt)) for prompt in prompts])
        if self._keyboard.is_person:
            self._greet()
        code = DONE
        while True:
            try:
                text = await self._keyboard.line(self._prompt())
            except KeyboardInterrupt:
                if not self._keyboard.is_person:
                    raise
                self.screen.say("Ctrl-D or /quit leaves.")
                continue
            except EOFError:
                break
            try:
                code = await self._attended(self.do(text), code)
            except Quit:
                break
        return DONE if self._keyboard.is_person else code

    async def do(self, text: str) -> int | None:
        """What one line says; None for a blank one."""
        match lines.read(text, has_model=not self._reason):
            case lines.Prompt(prompt):
                return await self.ask(prompt)
            case lines.Code(code, language, is_guessed):
                return await self.run_code(code, language, is_guessed=is_guessed)
            case lines.Shell(command):
                return await self.run_code(command, languages.SHELL)
            case lines.Command(name, rest):
                return await self._commands.do(name, rest)
        return None

    async def ask(self, prompt: str) -> int:
        """
        Raises:
            ModelUnavailable, SettingsError: no model answers; with the remedy.
        """
        self._is_talk = True
        self._wait()
        try:
            found = await self.interpreter.ask(prompt)
        finally:
            self._is_talk = False
            self.screen.end_words()
        self._can_fix = "" if found.is_complete else _TRY_AGAIN
        if found.is_complete:
            if not found.answer.strip() and not found.steps:
                self.screen.say("The model answered with nothing. Say it in other words.")
            return DONE
        last = found.steps[-1].result if found.steps else None
        self.screen.say(f"It gave up: {seen(found.error)[:500]} /fix has it try again.")
        return TIMED_OUT if last is not None and last.exit_code == TIMED_OUT else FAILED

    async def run_code(self, code: str, language: str = "", *, is_guessed: bool = False) -> int:
        """Code of the person's."""
        self._is_running = True
        try:
            step = await self.interpreter.run(code, language or self.language)
        finally:
            self._is_running = False
        result = step.result
        if result.error is not None and result.exit_code != INTERRUPTED:
            self._can_fix = _FIX
            if not self._reason and self._keyboard.is_person:
                self.screen.say("/fix has the model explain and repair it.")
        if is_guessed and _is_rather_words(code, step):
            self.screen.say(f"That was run as code. {self._reason}")
        return result.exit_code if result.exit_code in (DONE, TIMED_OUT, INTERRUPTED) else FAILED

    async def fix(self, hint: str) -> int:
        if not self._can_fix:
            self.screen.say("Nothing has failed since the model answered last.")
            return DONE
        return await self.ask(f"{self._can_fix}\n{hint}".strip())

    # --- for commands -----------------------------------------------------------------

    def use(self, language: str) -> None:
        self.language = language
        self.interpreter.use(language)

    async def put(self, path: Path, name: str = "") -> str:
        """Copy a file of this machine in; the model hears of it. Gives its name there."""
        chosen = await self.interpreter.session.files.copy_in(path, name or None)
        self.interpreter.conversation.note(
            f"The person put a file into the working directory: {clean_name(chosen)}"
        )
        return chosen

    def note_restart(self) -> None:
        self.interpreter.conversation.note(
            "The person restarted the session: the variables are gone, the files are there."
        )

    # --- interrupts -------------------------------------------------------------------

    async def _attended(self, work: Coroutine[Any, Any, int | None], before: int = DONE) -> int:
        """Do `work`, which Ctrl-C stops; its errors are told. Gives the exit code so far."""
        self._is_stopped = False
        self._task = asyncio.ensure_future(_as_code(work, before))
        self._listen()
        try:
            return await self._task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            self.screen.end_words()
            self.screen.say("Stopped.")
            return INTERRUPTED
        except SandboxKernelError as error:
            self.screen.complain(error)
            return FAILED
        finally:
            self._task = None
            self._is_running = False
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            self._write_transcript()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def _interrupt(self) -> None:
        self._is_stopped = True
        if self._is_running and self.interpreter.session.is_busy:
            # Not cancelled: whether its variables survived is told by its own end.
            self._interrupting = asyncio.ensure_future(self.interpreter.session.interrupt())
        elif self._task is not None:
            self._task.cancel()

    async def _answer(self, question: str) -> str:
        """Ask the person in the middle of something; raises as a keyboard does."""
        self.screen.end_words()
        self.screen.end_line()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        try:
            return await self._keyboard.answer(question)
        finally:
            self._listen()

    # --- what happens meanwhile -------------------------------------------------------

    async def _show_code(self, code: str, language: str) -> bool:
        """The model is about to run this."""
        words = self.screen.end_words()
        is_asked = self._options.is_asked_first
        self.screen.code(code, language, whole=is_asked, unless_in=words)
        if is_asked and not await self._is_allowed():
            return False
        self._is_running = True
        return True

    async def _is_allowed(self) -> bool:
        while True:
            try:
                answer = (await self._answer("Run it? [y/n] ")).strip().lower()
            except EOFError:
                return False
            except KeyboardInterrupt:
                raise asyncio.CancelledError from None
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")

    def _show(self, display: Display) -> None:
        self.screen.display(display, "" if display.is_update else self.pictures.take(display))

    async def _end_run(self, step: Step) -> None:
        self._is_running = False
        self.screen.end_run(step.result)
        if self._is_talk and self._is_stopped:
            raise asyncio.CancelledError  # or the model would repair it
        if self._is_talk:
            self._wait()

    def _wait(self) -> None:
        if not self._reason:
            self.screen.wait(f"{seen(self.model_name)} …")

    async def _input(self, prompt: str) -> str | None:
        """Code inside asks. That it is not us who ask must be plain."""
        question = " ".join(seen(prompt[:1_000]).split())
        try:
            return await self._answer(f"[the sandbox asks] {question} ")
        except EOFError:
            return None
        except KeyboardInterrupt:
            self._interrupt()
            return await asyncio.Future()  # until the code has stopped; an answer would be one

    # --- at the prompt ----------------------------------------------------------------

    def _prompt(self) -> str:
        return f"{self.language}> " if self._reason else "you> "

    def _greet(self) -> None:
        info = self.interpreter.session.info()
        name = languages.get(self.language).display_name
        self.screen.say(f"{name} in a sandbox. Boundary: {seen(info.boundary)}")
        if self._reason:
            self.screen.say(f"{self._reason} Until then every line is code.", style="yellow")
        else:
            self.screen.say(f"Say what you want of {seen(self.model_name)}, or >>> code, !command.")
        self.screen.say("/help says more; Ctrl-D leaves.")

    def _is_unfinished(self, text: str) -> bool:
        return lines.is_unfinished(text, language=self.language, has_model=not self._reason)

    async def _complete(self, text: str, cursor: int) -> tuple[int, list[str]]:
        """Commands here; code inside, whose suggestions are only shown."""
        before = text[:cursor]
        if before.startswith("/"):
            found = [f"/{name}" for name in COMMANDS if f"/{name}".startswith(before)]
            return len(before), found
        line = lines.read(text, has_model=not self._reason)
        if not isinstance(line, lines.Code) or not text.endswith(line.code):
            return 0, []
        start = len(text) - len(line.code)
        session = self.interpreter.session
        language = line.language or self.language
        try:
            async with asyncio.timeout(COMPLETION_PATIENCE_S):
                answer = await session.complete(line.code, cursor - start, language=language)
        except (SandboxKernelError, TimeoutError):
            return 0, []
        return _matches(answer, cursor - start)

    def _write_transcript(self) -> None:
        if not self._options.transcript:
            return
        try:
            transcript = self.interpreter.transcript
            transcript.save(self._options.transcript, allow_overwrite=True)
        except SandboxKernelError as error:
            self.screen.complain(error)


async def _as_code(work: Coroutine[Any, Any, int | None], before: int) -> int:
    found = await work
    return before if found is None else found


def _is_rather_words(code: str, step: Step) -> bool:
    """IPython takes a question mark for its own."""
    error = step.result.error
    return (error is not None and error.name == "SyntaxError") or (
        " " in code.strip() and code.rstrip().endswith("?")
    )


def _matches(answer: Json, cursor: int) -> tuple[int, list[str]]:
    """What the guest suggests, as far as it can be shown."""
    start, found = answer.get("cursor_start"), answer.get("matches")
    if not isinstance(start, int) or not 0 <= start <= cursor or not isinstance(found, list):
        return 0, []
    texts = [text for text in found if isinstance(text, str) and text.isprintable()]
    return cursor - start, [text for text in texts[:MAX_MATCHES] if len(text) <= 200]
