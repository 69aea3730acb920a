"""One run on a seat: callbacks, input, cancellation, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

from sandbox_kernel.engine.choices import check_is
from sandbox_kernel.engine.hearing import Answers, Hearing, OnDisplay, OnText, Stdin
from sandbox_kernel.engine.seat import Seat
from sandbox_kernel.session import Outcome
from sandbox_kernel.session.run import Sink


class Request(NamedTuple):
    """What is to run, and who wants to hear of it. See `Session.execute`."""

    code: str
    runner: str
    timeout_s: float | None
    memory_bytes: int | None
    cpus: float | None
    stdin: Stdin | None
    on_stdout: OnText | None
    on_stderr: OnText | None
    on_display: OnDisplay | None
    on_event: Sink | None


async def run_on(seat: Seat, request: Request, count: int) -> tuple[Outcome, Hearing]:
    """Run it to its end. Cancelled, it stops the code first, so that the seat is free after.

    Args:
        count: the number of the run, which tracebacks show.

    Raises:
        whatever a callback raised, when the code has stopped.
        BackendUnavailable, SandboxDied, SessionClosed, SettingsError: as
            `SandboxSession.execute`.
    """
    check_is("code", request.code, str, "a text")
    background: set[asyncio.Task[Any]] = set()

    def give_up() -> None:
        _spawn(background, seat.interrupt())

    stdin = request.stdin
    answers = Answers(stdin, seat.answer_input, give_up) if stdin is not None else None
    hearing = Hearing(
        on_stdout=request.on_stdout,
        on_stderr=request.on_stderr,
        on_display=request.on_display,
        on_event=request.on_event,
        ask=answers.ask if answers is not None else None,
        give_up=give_up,
        limits=seat.spec.limits,
    )
    sent: list[int] = []
    work = asyncio.ensure_future(
        seat.execute(
            request.code,
            on_event=hearing.hear,
            allow_stdin=answers is not None,
            execution_count=count,
            timeout_s=request.timeout_s,
            memory_bytes=request.memory_bytes,
            cpus=request.cpus,
            on_cell=sent.append,
            runner=request.runner,
        )
    )
    try:
        outcome = await asyncio.shield(work)
    except asyncio.CancelledError:
        await _stop(seat, work, has_begun=bool(sent))
        raise
    finally:
        if answers is not None:
            answers.close()
    raised = hearing.raised or (answers.raised if answers is not None else None)
    if raised is not None:
        raise raised
    return outcome, hearing


async def _stop(seat: Seat, work: asyncio.Future[Outcome], *, has_begun: bool) -> None:
    """End it by the same ladder as any interrupt, unless it never began.

    Who is cancelled once more meanwhile waits no longer. The ladder goes on, and the next run
    of the seat waits for its turn.
    """
    work.add_done_callback(_retrieve)
    if not has_begun:
        work.cancel()
    else:
        await seat.interrupt()
    await asyncio.wait([work])


def _retrieve(work: asyncio.Future[Outcome]) -> None:
    """Nobody else asks what became of it."""
    if not work.cancelled():
        work.exception()


def _spawn(tasks: set[asyncio.Task[Any]], work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
