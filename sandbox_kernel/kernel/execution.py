"""Execute requests: from the content of one to its reply, with all that is broadcast.

Rule 1: whatever happens there is a reply, with `execution_count`, `user_expressions` and
        `payload`; our own failures become errors of the cell, in whole sentences.
Rule 2: only a request that stores history moves the counter, and a silent one shows nothing.
Rule 3: an interrupt ends a cell in every phase: while the sandbox starts, while a magic
        runs on the host (both are cancelled here), and inside (the session does that).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused, SandboxKernelError
from sandbox_kernel.kernel import answers, ask, magics, polyglot
from sandbox_kernel.kernel.history import History
from sandbox_kernel.kernel.iopub import Broadcast, Parent, error_content
from sandbox_kernel.kernel.requests import Inside
from sandbox_kernel.kernel.stdin import Stdin
from sandbox_kernel.kernel.wire import Json, Message, utc_now

if TYPE_CHECKING:
    from sandbox_kernel.kernel.drivers import DrivenCell, Drivers
    from sandbox_kernel.kernel.shown_words import Hear
    from sandbox_kernel.kernel.talk import Talk
    from sandbox_kernel.session import Outcome

T = TypeVar("T")

# A guest takes 16 MiB in one frame; bytes that are no text grow when they are escaped.
MAX_CODE_BYTES = 8 * 1024 * 1024
MAX_EXPRESSION_CHARACTERS = 100_000


class Refusal(Exception):
    """A cell ends here, with this error. Never leaves this module."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(name, value)
        self.name = name
        self.value = value


class Reply(NamedTuple):
    """What to answer to an execute request."""

    content: Json
    metadata: Json
    is_abort_wanted: bool  # what is queued behind it must not run


class Request(NamedTuple):
    """The content of an execute request, each field of its type."""

    code: str
    is_silent: bool
    store_history: bool
    allow_stdin: bool
    stop_on_error: bool
    user_expressions: dict[str, str]

    @classmethod
    def read(cls, content: Json) -> Request:
        """Missing fields have the specification's defaults; only `code` must be there.

        Raises:
            Refusal: the code is no text or too long.
        """
        code = content.get("code")
        if not isinstance(code, str):
            raise Refusal("BadRequest", "The execute request has no code.")
        if len(code) > MAX_CODE_BYTES or len(code.encode("utf-8", "replace")) > MAX_CODE_BYTES:
            raise Refusal(
                "CellTooLarge",
                f"The cell is over {MAX_CODE_BYTES >> 20} MiB. Put data into a file, and bring "
                "it in with %sandbox put.",
            )
        is_silent = bool(content.get("silent", False))
        return cls(
            code,
            is_silent,
            bool(content.get("store_history", True)) and not is_silent,
            bool(content.get("allow_stdin", False)),
            bool(content.get("stop_on_error", True)),
            _expressions(content.get("user_expressions")),
        )


def _expressions(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    texts = {k: v for k, v in value.items() if isinstance(v, str)}
    is_small = sum(len(k) + len(v) for k, v in texts.items()) <= MAX_EXPRESSION_CHARACTERS
    return texts if is_small and len(texts) <= answers.MAX_EXPRESSIONS else {}


class Executor:
    """Runs one execute request at a time, in what is `inside`.

    Args:
        share: gives who lets other programs in, for those who ask about it in a cell.
    """

    def __init__(
        self,
        inside: Inside,
        broadcast: Broadcast,
        stdin: Stdin,
        history: History,
        share: Callable[[], Drivers | None] = lambda: None,
    ) -> None:
        self.execution_count = 0
        self._inside = inside
        self._session = inside.session
        self._broadcast = broadcast
        self._stdin = stdin
        self._history = history
        session = inside.session
        self._magics = magics.Magics(session, share=share) if session is not None else None
        self._news: list[str] = []
        self._talk: Talk | None = None
        self._failed: ask.FailedCell | None = None  # the cell before
        self._host_work: asyncio.Task[Any] | None = None
        self._is_interrupted = False

    def interrupt(self) -> None:
        """End what runs on the host for the current cell, if that is where it is."""
        if self._host_work is not None:
            self._is_interrupted = True
            self._host_work.cancel()

    def tell(self, news: str) -> None:
        """Show `news` with the next cell: what another driver did to the session."""
        self._news.append(news)

    async def execute(self, message: Message, driven: DrivenCell | None = None) -> Reply:
        """Run the cell in `message`, or the one that a driver asked for by it."""
        started = utc_now()
        try:
            request = Request.read(message.content)
        except Refusal as refusal:
            if driven is not None:
                driven.refuse(RequestRefused(refusal.value))
            return self._refuse(message, refusal, started)
        cell = _Cell(self, message, request, driven)
        if driven is not None:
            driven.note_running()
        self._announce(cell)
        try:
            outcome = await self._run(cell)
        except Refusal as refusal:
            outcome = None
            cell.fail(_failure(refusal.name, refusal.value))
        except SandboxKernelError as error:
            outcome = None
            cell.fail(_failure(type(error).__name__, str(error)))
            if driven is not None:
                driven.refuse(error)
        finally:
            self._stdin.close()
        return self._conclude(cell, outcome, started)

    def _refuse(self, message: Message, refusal: Refusal, started: str) -> Reply:
        """Answer a request that is none; a front end shows what is broadcast, not the reply."""
        content = answers.error(refusal.name, refusal.value)
        if not message.content.get("silent"):
            shown = {name: content[name] for name in ("ename", "evalue", "traceback")}
            self._broadcast.send("error", shown, Parent(message.header))
        return self._reply(
            content, started, None, message.content.get("stop_on_error") is not False
        )

    # -- phases

    def _announce(self, cell: _Cell) -> None:
        # The counter is the number of the last cell that was stored; as in IPython the
        # others show the number that the next one will have.
        if cell.request.store_history and cell.request.code.strip():
            self.execution_count += 1
        if not cell.request.is_silent:
            content = {"code": cell.request.code, "execution_count": cell.parent.execution_count}
            self._broadcast.send("execute_input", content, cell.parent)

    async def _run(self, cell: _Cell) -> Outcome | None:
        """The outcome inside; None when everything happened on the host."""
        self._inside.refuse()
        assert self._session is not None
        if not self._session.is_ready:
            await self._interruptible(self._session.start())
        packages = self._inside.packages
        if packages is not None and packages.is_due:
            await self._interruptible(packages.prepare(cell.hear))
        self._tell_news(cell)
        if cell.driven is not None:
            return await self._run_driven(cell, cell.driven)
        comment = "#" if self._inside.language.name == "python" else ""
        lines, code = magics.split(cell.request.code, comment)
        asked = self._asked(code)
        routed = self._route(code) if asked is None else polyglot.Routed("", code)
        for line in lines:
            await self._run_magic(line, cell)
        if asked is not None:
            return await self._ask_model(asked, cell)
        if lines and magics.is_blank(code) and not cell.request.user_expressions:
            return None
        options: dict[str, Any] = {"runner": routed.runner} if routed.runner else {}
        return await self._run_inside(cell, routed.code, options)

    async def _run_driven(self, cell: _Cell, driven: DrivenCell) -> Outcome | None:
        """What a driver asked for goes inside as it is: no line of it is done on the host."""
        if driven.packages is None:
            return await self._run_inside(cell, driven.code, driven.options)
        packages = self._inside.packages
        if packages is None:
            raise Refusal("RequestRefused", "This kernel has no place for packages.")
        await self._interruptible(packages.install(driven.packages, cell.hear))
        return None

    def _asked(self, code: str) -> ask.Asked | None:
        try:
            return ask.require_prompt(ask.read(code)) if ask.is_asked(code) else None
        except magics.UsageError as error:
            raise Refusal("UsageError", str(error)) from None

    async def _ask_model(self, asked: ask.Asked, cell: _Cell) -> Outcome:
        from sandbox_kernel.kernel.talk import Talk  # only who asks pays

        self._talk = self._talk or Talk(self._inside)

        async def run(code: str, hear: Hear) -> Outcome:
            return await self._run_inside(cell, code, {"on_event": hear})

        return await self._interruptible(self._talk.ask(asked, run, cell.hear, self._failed))

    async def _run_inside(self, cell: _Cell, code: str, options: dict[str, Any]) -> Outcome:
        assert self._session is not None
        request = cell.request
        return await self._session.execute(
            code,
            on_cell=cell.remember,
            silent=request.is_silent,
            store_history=request.store_history,
            allow_stdin=request.allow_stdin,
            user_expressions=request.user_expressions,
            execution_count=cell.parent.execution_count,
            request_id=cell.message.msg_id,
            **{"on_event": cell.hear, **options},
        )

    def _tell_news(self, cell: _Cell) -> None:
        if cell.request.is_silent:
            return
        news, self._news = self._news, []
        for text in news:
            cell.hear(events.TextWritten(0, "stderr", f"[sandbox] {text}\n"))

    def _route(self, code: str) -> polyglot.Routed:
        try:
            return polyglot.route(code, self._inside.language.name)
        except magics.UsageError as error:
            raise Refusal("UsageError", str(error)) from None

    async def _run_magic(self, line: str, cell: _Cell) -> None:
        assert self._magics is not None
        if self._inside.packages is not None and line.split()[:1] == [magics.DEPENDENCIES]:
            names = line.removeprefix(magics.DEPENDENCIES)
            await self._interruptible(self._inside.packages.install(names, cell.hear))
            return
        try:
            shown = await self._interruptible(self._magics.run(line))
        except magics.UsageError as error:
            raise Refusal("UsageError", str(error)) from None
        if shown.html is None:
            cell.hear(events.TextWritten(0, "stdout", shown.text + "\n"))
        else:
            bundle = {"text/plain": shown.text, "text/html": shown.html}
            cell.hear(events.DisplayShown(0, bundle, {}, {}))

    async def _interruptible(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which an interrupt cancels.

        Raises:
            Refusal: it was interrupted.
        """
        self._is_interrupted = False
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._host_work = task
        try:
            return await task
        except asyncio.CancelledError:
            if not self._is_interrupted:
                raise
            raise Refusal("KeyboardInterrupt", "") from None
        finally:
            self._host_work = None

    def _conclude(self, cell: _Cell, outcome: Outcome | None, started: str) -> Reply:
        # What was shown as an error and handled inside, as by `%run`, is none of the cell's.
        failure = cell.failure if outcome is None else outcome.error
        if failure is not None:
            cell.fail(failure)
        if cell.driven is not None:
            cell.driven.conclude(outcome, failure)
        status: Json = {"status": "ok"}
        if failure is not None:
            status = {"status": "error", **error_content(failure)}
        if outcome is not None:
            admit = self._inside.admit
            status["user_expressions"] = answers.expressions(outcome.user_expressions, admit)
            status["payload"] = answers.pages(outcome.payload, admit)
        request = cell.request
        if request.store_history and request.code.strip():
            self._history.record(self.execution_count, request.code, cell.result_text)
            self._failed = ask.FailedCell(request.code, failure) if failure is not None else None
        is_abort_wanted = failure is not None and request.stop_on_error and not request.is_silent
        return self._reply(status, started, outcome, is_abort_wanted)

    def _reply(
        self, status: Json, started: str, outcome: Outcome | None, is_abort_wanted: bool
    ) -> Reply:
        metadata: Json = {
            "started": started,
            "dependencies_met": True,
            "engine": "sandbox-kernel",
            "status": status["status"],
        }
        if outcome is not None and outcome.receipt is not None:
            metadata["sandbox"] = outcome.receipt._asdict()
        return Reply(answers.execute_reply(status, self.execution_count), metadata, is_abort_wanted)

    # -- for cells

    def hear(self, cell: _Cell, event: events.Event) -> None:
        """One event of the running cell."""
        if cell.driven is not None:
            cell.driven.hear(event)
        if isinstance(event, events.InputRequested):
            if cell.driven is None:
                self._ask(cell, event)
            return
        self._broadcast.show(event, cell.parent)

    def _ask(self, cell: _Cell, event: events.InputRequested) -> None:
        self._stdin.ask(cell.message, event.prompt, is_password=event.is_password)

    def remember(self, number: int, parent: Parent) -> None:
        self._broadcast.remember(number, parent)


class _Cell:
    """One execute request on its way."""

    def __init__(
        self,
        executor: Executor,
        message: Message,
        request: Request,
        driven: DrivenCell | None = None,
    ) -> None:
        self.message = message
        self.request = request
        self.failure: events.CellFailed | None = None
        self.result_text: str | None = None
        self.driven = driven
        name = driven.driver if driven is not None else ""
        count = executor.execution_count + 1
        self.parent = Parent(message.header, request.is_silent, count, name)
        self._executor = executor

    def remember(self, number: int) -> None:
        if self.driven is not None:
            self.driven.begun(number)
        self._executor.remember(number, self.parent)

    def hear(self, event: events.Event) -> None:
        if isinstance(event, events.CellFailed):
            self.failure = event
        elif isinstance(event, events.ResultShown):
            text = event.bundle.get("text/plain")
            self.result_text = text if isinstance(text, str) else None
        self._executor.hear(self, event)

    def fail(self, failure: events.CellFailed) -> None:
        """It failed; shown once, however often it is said."""
        if self.failure is None:
            self.hear(failure)


def _failure(name: str, value: str) -> events.CellFailed:
    line = f"\x1b[31m{name}\x1b[0m: {value}" if value else f"\x1b[31m{name}\x1b[0m"
    return events.CellFailed(0, name, value, [line])
