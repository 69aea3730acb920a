"""Work that is called off has cleaned up before whoever called it off goes on."""

import asyncio

import pytest

from sandbox_kernel.engine.underway import Underway
from sandbox_kernel.errors import SessionClosed


async def long_work(begun, log):
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        log.append("clean")


async def test_what_comes_of_work_is_handed_on():
    works = Underway("closed")

    async def fail():
        raise ValueError("mine")

    assert await works.do(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="mine"):
        await works.do(fail())


async def test_who_calls_off_waits_and_who_waited_is_told():
    works, log, begun = Underway("It is closed."), [], asyncio.Event()
    waiting = asyncio.create_task(works.do(long_work(begun, log)))
    await begun.wait()
    await works.call_off()
    assert log == ["clean"]
    with pytest.raises(SessionClosed, match="It is closed"):
        await waiting
    with pytest.raises(SessionClosed, match="It is closed"):
        await works.do(asyncio.sleep(0))


async def test_who_is_cancelled_is_cancelled_and_the_work_has_cleaned_up():
    works, log, begun = Underway("closed"), [], asyncio.Event()
    waiting = asyncio.create_task(works.do(long_work(begun, log)))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert log == ["clean"]
    await works.call_off()


async def test_what_is_cleaning_up_already_is_left_to_do_so():
    works, log, begun = Underway("closed"), [], asyncio.Event()
    waiting = asyncio.create_task(works.do(long_work(begun, log)))
    await begun.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    await works.call_off()
    assert log == ["clean"]
    with pytest.raises(asyncio.CancelledError):
        await waiting
