"""What the tests of the scripting languages ask of a session."""

from __future__ import annotations

import asyncio

from sandbox_kernel import events
from tests.support.sessions import Cell, Driver


async def run(driver: Driver, *codes: str) -> Cell:
    """Run cells, all of which must succeed; the last one."""
    cell = Cell()
    for code in codes:
        cell = await driver.run(code)
        assert cell.outcome is not None
        assert cell.outcome.status == "ok", (code, cell.events)
    return cell


async def printed(driver: Driver, *codes: str) -> str:
    return (await run(driver, *codes)).text()


async def result(driver: Driver, *codes: str) -> str | None:
    """The plain text of the last cell's result, or None."""
    shown = (await run(driver, *codes)).of(events.ResultShown)
    assert len(shown) < 2
    return str(shown[0].bundle["text/plain"]) if shown else None


async def failure(driver: Driver, code: str, count: int = 9) -> events.CellFailed:
    return (await driver.run(code, execution_count=count)).error


async def bundles(driver: Driver, code: str) -> list[dict[str, object]]:
    """What a cell displayed, the result included."""
    cell = await run(driver, code)
    kinds = (events.DisplayShown, events.ResultShown)
    return [event.bundle for event in cell.events if isinstance(event, kinds)]


async def answered(driver: Driver, code: str, *answers: str) -> Cell:
    """Run a cell and answer its questions in turn."""
    left = list(answers)

    def hear(event: events.Event) -> None:
        if isinstance(event, events.InputRequested):
            driver.session.answer_input(left.pop(0))

    cell = await driver.run(code, on_event=hear, allow_stdin=True)
    assert not left
    return cell


async def interrupted(driver: Driver, code: str) -> Cell:
    """Run a cell that prints "up", and interrupt it then."""
    is_up = asyncio.Event()

    def hear(event: events.Event) -> None:
        if isinstance(event, events.TextWritten) and "up" in event.text:
            is_up.set()

    async with asyncio.timeout(60):
        running = asyncio.create_task(driver.run(code, on_event=hear))
        await is_up.wait()
        await driver.session.interrupt()
        return await running


async def described(driver: Driver, code: str) -> str:
    """What is said of the name at the end of the code; "" if nothing."""
    answer = await driver.session.inspect(code, len(code), 0)
    return str(answer["data"]["text/plain"]) if answer["found"] else ""


async def completions(driver: Driver, code: str) -> list[str]:
    answer = await driver.session.complete(code, len(code))
    return list(answer["matches"])


async def completeness(driver: Driver, code: str) -> str:
    return str((await driver.session.is_complete(code))["status"])
