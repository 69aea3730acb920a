"""Programs of the same user that share the notebook's session: their cells, between its own.

A driver's cell is a request in the shell queue like any other, and is shown to every
client with a parent of its own, whose `username` is the driver's name.

Rule 1: no line of a driver's code is done on the host: `%sandbox` lines are the reader's.
Rule 2: a driver may do what the notebook may and no more: not over the kernel's limits, and
        packages by the kernel's own policy.
Rule 3: a failure of one driver's cell aborts nothing of another's.
"""

from __future__ import annotations

import asyncio
import math
import os
import shlex
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sandbox_kernel import events
from sandbox_kernel.errors import (
    RequestRefused,
    SandboxKernelError,
    SessionClosed,
    SettingsError,
)
from sandbox_kernel.kernel import answers
from sandbox_kernel.kernel.iopub import Parent
from sandbox_kernel.kernel.log import log_traceback
from sandbox_kernel.kernel.requests import Inside, Request
from sandbox_kernel.kernel.wire import PROTOCOL_VERSION, Json, Message, dump, utc_now
from sandbox_kernel.languages import SHELL
from sandbox_kernel.session import Outcome
from sandbox_kernel.sharing import values
from sandbox_kernel.sharing.server import Answer, Begun, Cell, Driver, Hear, Sharing

if TYPE_CHECKING:
    from sandbox_kernel.kernel.execution import Executor

_LIMITED = ("memory_bytes", "cpus")
_SHOWN = {SHELL: "sh"}  # by the cell magic that a reader would write


class DrivenCell:
    """A cell that a driver asked for. The reply's place in `Request.channel` is its, too.

    Args:
        driver: its name.
        options: for `SandboxSession.execute`.
        hear: gets its events; `begun` the number that they carry, when it goes inside.
        packages: what to install, as after `%dependencies`; None: run the code.
    """

    name = "shell"

    def __init__(
        self,
        driver: str,
        code: str,
        options: Json,
        hear: Hear,
        begun: Begun,
        packages: str | None = None,
    ) -> None:
        self.driver = driver
        self.code = code
        self.options = options
        self.hear = hear
        self.begun = begun
        self.packages = packages
        self.is_running = False
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def note_running(self) -> None:
        self.is_running = True

    def conclude(self, outcome: Outcome | None, failure: events.CellFailed | None = None) -> None:
        """It is over. Without an outcome it never got inside: all was done on the host."""
        self.is_running = False
        if outcome is None:
            outcome = Outcome("error" if failure else "ok", failure, None, {}, [])
        if not self._ended.done():
            self._ended.set_result(outcome)

    def refuse(self, error: SandboxKernelError) -> None:
        """It could not be run."""
        self.is_running = False
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # its driver may be gone, and that is no news

    def send(self, _parts: list[bytes]) -> None:
        """The reply to the request. Whoever was not told by then met a mistake of ours."""
        self.refuse(RequestRefused("The kernel failed; its log says more. Run the cell again."))

    async def ended(self) -> Json:
        outcome, _ = values.to_json(await asyncio.shield(self._ended))
        return {"outcome": outcome}


class Drivers:
    """Lets drivers in and does what they ask for.

    Args:
        enqueue, withdraw: put a request into the shell queue, and take it out again.
        interrupt: stops whatever runs.
    """

    def __init__(
        self,
        inside: Inside,
        executor: Executor,
        *,
        enqueue: Callable[[Request], None],
        withdraw: Callable[[Request], bool],
        interrupt: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        inside.refuse()
        assert inside.session is not None
        self._session = inside.session
        self._inside = inside
        self._executor = executor
        self._prefix = os.urandom(8).hex()  # of the requests' ids
        self._enqueue = enqueue
        self._withdraw = withdraw
        self._interrupt = interrupt
        self._requests: dict[DrivenCell, Request] = {}  # of those that are not answered yet
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = utc_now()
        self._sharing = Sharing(self)
        self._end = ""

    def open(self) -> None:
        self._sharing.open()

    def close(self, farewell: str) -> None:
        """Let nobody in any more. Safe to call twice."""
        self._end = self._end or farewell
        self._sharing.close(farewell)
        for cell in list(self._requests):
            self.stop(cell)

    # -- for a reader ----------------------------------------------------------

    def rows(self) -> list[tuple[str, ...]]:
        """For `%sandbox status`."""
        if not self._sharing.is_open:
            return [("session id", f"not shared: {self._why_closed()}")]
        names = [f"{driver.name} (process {driver.pid})" for driver in self._sharing.drivers]
        return [
            ("session id", self._sharing.session_id),
            ("attached", ", ".join(names) or "no program"),
            ("cells of programs", str(self._count)),
        ]

    def sentence(self) -> str:
        """For `%sandbox share`."""
        if not self._sharing.is_open:
            return f"This session is not shared: {self._why_closed()}"
        return (
            "Programs of yours, and nobody else's, attach to this session by its id:\n"
            f"{self._sharing.session_id}\n"
            f'In Python: session = await engine.attach("{self._sharing.session_id}")'
        )

    def _why_closed(self) -> str:
        return self._end or f"there is no private directory ({self._sharing.problem})."

    # -- for `sharing.server` --------------------------------------------------

    def describe(self) -> Json:
        spec = self._session.spec
        return {
            "language": self._inside.language.name,
            "backend": self._session.backend.name,
            "notebook": os.environ.get("JPY_SESSION_NAME", ""),
            "pid": os.getpid(),
            "started": self._started,
            "limits": self._session.limits._asdict(),
            "spec": {
                name: getattr(spec, name)
                for name in ("network", "python", "image", "runtime", "shows_layers")
            },
        }

    def now(self) -> Json:
        session = self._session
        return {
            "state": session.state.value,
            "boundary": session.boundary,
            "sandbox_id": session.sandbox_id,
        }

    def begin(self, driver: Driver, wanted: Json, hear: Hear, begun: Begun) -> DrivenCell:
        """
        Raises:
            SettingsError: its limits are above the kernel's.
        """
        if self._end:
            raise SessionClosed(self._end)
        cell, shown = self._cell(driver, wanted, hear, begun)
        content = {
            "code": shown,
            "silent": wanted.get("silent", False),
            "store_history": wanted.get("store_history", True),
            "allow_stdin": wanted.get("allow_stdin", False),
            "stop_on_error": False,
        }
        request = self._requests[cell] = self._request(cell, content)
        self._count += 1
        self._enqueue(request)
        return cell

    def _cell(
        self, driver: Driver, wanted: Json, hear: Hear, begun: Begun
    ) -> tuple[DrivenCell, str]:
        """The cell, and what is shown of it: what a reader would write."""
        if "packages" in wanted:
            names = wanted["packages"]
            if not names or not all(isinstance(name, str) for name in names):
                raise RequestRefused("To install packages, give their names as texts.")
            line = shlex.join(names)
            return DrivenCell(driver.name, "", {}, hear, begun, line), f"%dependencies {line}"
        code, runner = wanted["code"], wanted.get("runner", "")
        is_own = runner in ("", self._inside.language.name)
        shown = code if is_own else f"%%{_SHOWN.get(runner, runner)}\n{code}"
        return DrivenCell(driver.name, code, self._options(wanted), hear, begun), shown

    def _options(self, wanted: Json) -> Json:
        limits = self._session.limits
        options: Json = {name: wanted[name] for name in _LIMITED if wanted.get(name) is not None}
        for name, value in options.items():
            own = getattr(limits, name)
            if not value <= own:  # NaN is not either
                raise SettingsError(
                    f"{name} is {value}, but this notebook's kernel allows {own}. Ask for less."
                )
        if runner := wanted.get("runner", ""):
            options["runner"] = runner
        if "timeout_s" in wanted:
            options["timeout_s"] = _timeout(wanted["timeout_s"], limits.timeout_s)
        return options

    def _request(self, cell: DrivenCell, content: Json) -> Request:
        msg_id = f"{self._prefix}_{self._count}"
        header = {
            "msg_id": msg_id,
            "username": cell.driver,
            "session": f"{self._prefix}_{cell.driver}",
            "date": utc_now(),
            "msg_type": "execute_request",
            "version": PROTOCOL_VERSION,
        }
        raw = dump(header)
        message = Message([], "execute_request", msg_id, "", {}, content, [], raw, len(raw))
        parent = Parent(raw, driver=cell.driver)
        now_s = asyncio.get_running_loop().time()
        return Request(message, cell, parent, now_s, cell)

    def stop(self, cell: Cell) -> None:
        assert isinstance(cell, DrivenCell)
        request = self._requests.get(cell)
        if request is not None and self._withdraw(request):
            told = "KeyboardInterrupt"
            cell.conclude(None, events.CellFailed(0, told, "", [told]))
        elif cell.is_running:
            self._spawn(self._stop_running(cell))

    async def _stop_running(self, cell: DrivenCell) -> None:
        if cell.is_running:  # or the reader's may be by now
            await self._interrupt()

    async def interrupt(self) -> None:
        await self._interrupt()

    def answer_input(self, text: str | None) -> None:
        self._session.answer_input(text)

    async def ask(self, driver: Driver, verb: str, wanted: Json, data: bytes) -> Answer:
        session, code = self._session, str(wanted.get("code", ""))
        cursor = min(max(wanted.get("cursor_pos", 0), 0), len(code))
        options = {"runner": wanted["runner"]} if wanted.get("runner") else {}
        match verb:
            case "start":
                return Answer(await session.start())
            case "status":
                return Answer(await session.status())
            case "complete":
                found = await session.complete(code, cursor, **options)
                return Answer(answers.complete(found, code, cursor))
            case "inspect":
                level = 1 if wanted.get("detail_level") == 1 else 0
                found = await session.inspect(code, cursor, level, **options)
                return Answer(answers.inspect(found, self._inside.admit))
            case "is_complete":
                return Answer(answers.is_complete(await session.is_complete(code, **options)))
            case "file":
                answer = await session.files.pass_on(wanted["kind"], wanted["meta"], data)
                return Answer(answer.content, getattr(answer, "data", b""))
            case "packages":
                packages = self._inside.packages
                return Answer({"packages": packages.packages if packages is not None else []})
            case "restart":
                return Answer(await self._restart(driver))
        raise RequestRefused(f"This kernel has no answer to {verb}.")

    async def _restart(self, driver: Driver) -> Json:
        await self._session.restart()
        self._executor.tell(
            f"{driver.name} restarted this session: the variables are gone, the files are there."
        )
        return {}

    def log_failure(self, text: str) -> None:
        log_traceback(text)

    def forget(self, cell: Cell) -> None:
        if isinstance(cell, DrivenCell):
            self._requests.pop(cell, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _timeout(wanted_s: float | None, own_s: float | None) -> float | None:
    """The shorter of the two; the kernel's holds for everybody.

    Raises:
        SettingsError: it is no time.
    """
    if wanted_s is not None and not (math.isfinite(wanted_s) and wanted_s > 0):
        raise SettingsError(f"timeout_s is {wanted_s}, which is not a number of seconds above 0.")
    given = [limit for limit in (wanted_s, own_s) if limit is not None]
    return min(given, default=None)
