"""Every request but execute: who asks what, and the content of its reply.

Rule 1: a handler returns the reply's content, or None for a message that has no reply. It
        sends nothing itself; `server` does, with busy and idle around it.
Rule 2: a question to the guest has a deadline and can be interrupted. What the guest
        answers goes through `answers`.

To add a request: a method here and a row in `shell` or `control`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel import events
from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.kernel import answers, ask, comms, magics, polyglot
from sandbox_kernel.kernel.history import History
from sandbox_kernel.kernel.iopub import Broadcast, Parent
from sandbox_kernel.kernel.sockets import Channel
from sandbox_kernel.kernel.usage import Usage
from sandbox_kernel.kernel.wire import Json, Message
from sandbox_kernel.languages import Language

if TYPE_CHECKING:
    from sandbox_kernel.kernel.dependencies import Packages
    from sandbox_kernel.kernel.drivers import DrivenCell
    from sandbox_kernel.session import SandboxSession
    from sandbox_kernel.settings import Settings

# The console asks before every line and waits for one second.
IS_COMPLETE_PATIENCE_S = 0.7
# Whoever types has given up by then; an interrupt ends the wait earlier.
QUESTION_PATIENCE_S = 20.0
STATUS_PATIENCE_S = 0.5
# A cell to complete in; longer ones are pasted data.
MAX_QUESTION_CHARACTERS = 1024 * 1024


class Request(NamedTuple):
    """A message, and the channel that its reply goes to.

    driven: the cell that another program asked for; it is told the outcome instead.
    """

    message: Message
    channel: Channel | DrivenCell
    parent: Parent
    arrived_s: float  # by the loop's clock
    driven: DrivenCell | None = None


Handler = Callable[[Request], Coroutine[Any, Any, Json | None]]


class Inside(NamedTuple):
    """What is on the other side, as far as the host knows.

    session: None when the settings are wrong, and then `failure` says how.
    version: of the language; "" when the host can't know before the guest says.
    admit: the output policy, for what isn't an event.
    packages: what cells ask for by `%dependencies`.
    is_shared: whether other programs of this user may attach to the session.
    settings: what the owner decided, for `%%ask`.
    """

    session: SandboxSession | None
    failure: SandboxKernelError | None
    language: Language
    version: str
    admit: answers.Admit
    packages: Packages | None = None
    is_shared: bool = False
    settings: Settings | None = None

    def refuse(self) -> None:
        """Raise what keeps every cell from running, if there is such a thing."""
        if self.failure is not None:
            raise self.failure
        if self.session is None:
            raise SettingsError("There is no sandbox. Start the kernel again.")


class Requests:
    """Handlers, by message type in `shell`, `at_once` and `control`.

    Args:
        complain: writes a bounded number of lines about messages that are wrong.
        ports: by channel, for connect requests.
    """

    def __init__(
        self,
        inside: Inside,
        broadcast: Broadcast,
        history: History,
        *,
        ports: dict[str, int],
        complain: Callable[[str], None],
        interrupt_host: Callable[[], None],
    ) -> None:
        self.comms = comms.Comms()
        self._session = inside.session
        self._inside = inside
        self._version = inside.version
        self._broadcast = broadcast
        self._history = history
        self._ports = ports
        self._complain = complain
        self._interrupt_host = interrupt_host
        self._usage = Usage()
        self._question: asyncio.Task[Json] | None = None
        anywhere: dict[str, Handler] = {
            "kernel_info_request": self.kernel_info,
            "comm_info_request": self.comm_info,
            "connect_request": self.connect,
            "history_request": self.history,
        }
        self.shell: dict[str, Handler] = {
            **anywhere,
            "complete_request": self.complete,
            "inspect_request": self.inspect,
            "is_complete_request": self.is_complete,
            "comm_open": self.comm,
            "comm_msg": self.comm,
            "comm_close": self.comm,
        }
        self.control: dict[str, Handler] = {
            **anywhere,
            "interrupt_request": self.interrupt,
            "usage_request": self.usage,
            "debug_request": self.debug,
        }

    def note_runner(self, event: events.RunnerReady) -> None:
        """A fresh runner: it knows none of the old one's comms."""
        if event.runner:  # the kernel's version is that of its own language
            return
        self.comms.clear()
        self._version = str(event.info.get("version") or self._version)

    # -- answered on the host

    async def kernel_info(self, _request: Request) -> Json:
        return answers.kernel_info(self._inside.language, self._version, self._banner())

    def _banner(self) -> str:
        name = self._inside.language.display_name
        if self._session is None or self._inside.failure is not None:
            return f"{name} (sandbox): no cell can run. {self._inside.failure or ''}".strip()
        boundary = self._session.boundary or "none, since no sandbox could be started yet"
        return (
            f"{f'{name} {self._version}'.strip()} in a sandbox. Boundary: {boundary}\n"
            "Files go in and out with %sandbox; %sandbox help says how.\n"
        )

    async def history(self, request: Request) -> Json:
        return {"status": "ok", "history": self._history.answer(request.message.content)}

    async def comm_info(self, request: Request) -> Json:
        found = self.comms.info(request.message.content.get("target_name"))
        return {"status": "ok", "comms": found}

    async def connect(self, _request: Request) -> Json:
        return {"status": "ok", **{f"{name}_port": port for name, port in self._ports.items()}}

    async def debug(self, request: Request) -> Json:
        return answers.debug_refusal(request.message.content)

    async def unknown(self, request: Request) -> Json:
        name = request.message.msg_type
        self._complain(f"There is no request of type {name!r} on {request.channel.name}.")
        return answers.error(
            "UnknownRequest", f"This kernel has no {name!r} on {request.channel.name}."
        )

    async def say_unknown(self, _request: Request) -> Json:
        """To an is_complete request that stands behind a running cell."""
        return answers.UNKNOWN

    # -- asked of the guest

    async def complete(self, request: Request) -> Json:
        code, cursor = _code_and_cursor(request.message.content)
        if ask.is_asked(magics.hide(code)):  # words for a model
            return answers.complete({}, code, cursor)
        where = self._route(code, cursor)
        answer = await self._ask(
            lambda session: session.complete(where.code, cursor, **_options(where))
        )
        return answers.complete(answer, code, cursor)

    async def inspect(self, request: Request) -> Json:
        code, cursor = _code_and_cursor(request.message.content)
        if ask.is_asked(magics.hide(code)):
            return answers.inspect({}, self._inside.admit)
        level = 1 if request.message.content.get("detail_level") == 1 else 0
        where = self._route(code, cursor)
        answer = await self._ask(
            lambda session: session.inspect(where.code, cursor, level, **_options(where))
        )
        return answers.inspect(answer, self._inside.admit)

    async def is_complete(self, request: Request) -> Json:
        code, _ = _code_and_cursor(request.message.content)
        if ask.is_asked(hidden := magics.hide(code)):
            status = "complete" if ask.has_prompt(hidden) else "incomplete"
            return answers.is_complete({"status": status, "indent": ""})
        where = self._route(code)
        if where.is_only_a_name:
            return {"status": "incomplete", "indent": ""}
        waited_s = asyncio.get_running_loop().time() - request.arrived_s
        patience_s = max(IS_COMPLETE_PATIENCE_S - waited_s, 0.05)
        answer = await self._ask(
            lambda session: session.is_complete(where.code, **_options(where)), patience_s
        )
        return answers.is_complete(answer)

    def _route(self, code: str, cursor: int | None = None) -> polyglot.Routed:
        """Who is asked; about the line that names the language, the notebook's own runner."""
        try:
            routed = polyglot.route(magics.hide(code), self._inside.language.name)
        except magics.UsageError:
            return polyglot.Routed("", code)
        is_within = cursor is None or cursor > routed.start
        return routed if is_within else polyglot.Routed("", code)

    async def _ask(
        self,
        question: Callable[[SandboxSession], Coroutine[Any, Any, Json]],
        patience_s: float = QUESTION_PATIENCE_S,
    ) -> Json:
        """Ask the guest about code; nothing when it can't say, or not in time."""
        if self._session is None:
            return {}
        asked = self._question = asyncio.ensure_future(question(self._session))
        try:
            await asyncio.wait([asked], timeout=patience_s)
            return asked.result() if asked.done() and not asked.cancelled() else {}
        except SandboxKernelError:
            return {}
        finally:
            asked.cancel()
            self._question = None

    async def usage(self, _request: Request) -> Json:
        found: Json = {}
        if self._session is not None and self._session.boundary:
            with contextlib.suppress(SandboxKernelError, TimeoutError):
                async with asyncio.timeout(STATUS_PATIENCE_S):
                    found = await self._session.status()
        return {"status": "ok", **self._usage.answer(found)}

    async def comm(self, request: Request) -> None:
        """A front end's comm message goes in; nobody waits for a reply to it."""
        message = request.message
        checked = comms.read(message)
        if checked is None:
            self._complain(f"A {message.msg_type} was dropped: malformed or too large.")
            return
        if self._session is None:
            return
        self.comms.note(checked)
        try:
            await self._session.send_comm(
                *checked,
                on_cell=lambda cell: self._broadcast.remember(cell, request.parent),
                request_id=message.msg_id,
            )
        except SandboxKernelError as error:
            self._complain(f"A {message.msg_type} did not reach the sandbox: {error}")

    async def interrupt(self, _request: Request) -> Json:
        await self.stop_everything()
        return {"status": "ok"}

    async def stop_everything(self) -> None:
        """Whatever runs, on the host and inside."""
        self._interrupt_host()
        if self._question is not None:
            self._question.cancel()
        if self._session is not None:
            await self._session.interrupt()


def _options(where: polyglot.Routed) -> dict[str, str]:
    return {"runner": where.runner} if where.runner else {}


def _code_and_cursor(content: Json) -> tuple[str, int]:
    """The code and a cursor within it, whatever the client sent."""
    code, cursor = content.get("code"), content.get("cursor_pos")
    if not isinstance(code, str) or len(code) > MAX_QUESTION_CHARACTERS:
        code = ""
    if not isinstance(cursor, int) or isinstance(cursor, bool):
        cursor = len(code)
    return code, min(max(cursor, 0), len(code))
