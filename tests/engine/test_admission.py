"""Places for sessions: who comes first gets one first, and none is lost."""

import asyncio

import pytest

from sandbox_kernel.engine.admission import Admission
from sandbox_kernel.errors import SessionClosed, SessionLimitReached, SettingsError


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_limit_everybody_gets_a_place():
    places = Admission(None)
    for _ in range(1000):
        await places.take()
    assert places.taken == 1000


async def test_one_too_many_is_refused_with_the_remedy():
    places = Admission(2)
    await places.take()
    await places.take()
    with pytest.raises(SessionLimitReached, match=r"2 sessions.*max_sessions.*when_full"):
        await places.take()
    places.free()
    await places.take()


async def test_who_waits_longest_comes_first_and_nobody_passes():
    places = Admission(1, when_full="wait")
    await places.take()
    came = []

    async def come(name):
        await places.take()
        came.append(name)

    tasks = [asyncio.create_task(come(number)) for number in range(3)]
    await settle()
    places.free()
    late = asyncio.create_task(come("late"))  # before the first has even noticed
    await settle()
    assert came == [0]
    for _ in range(3):
        places.free()
        await settle()
    assert came == [0, 1, 2, "late"]
    await asyncio.gather(*tasks, late)
    places.free()
    assert places.taken == 0


async def test_who_waits_too_long_is_told_and_takes_no_place_along():
    places = Admission(1, when_full="wait", wait_timeout_s=0.02)
    await places.take()
    with pytest.raises(SessionLimitReached, match=r"0\.02 s \(wait_timeout_s\).* Close one"):
        await places.take()
    places.free()
    assert places.taken == 0


async def test_who_gives_up_waiting_lets_the_next_one_come():
    places = Admission(1, when_full="wait")
    await places.take()
    impatient = asyncio.create_task(places.take())
    patient = asyncio.create_task(places.take())
    await settle()
    impatient.cancel()
    await settle()
    places.free()
    await asyncio.wait_for(patient, 20)
    assert places.taken == 1


async def test_a_place_that_comes_too_late_goes_on_to_the_next():
    places = Admission(1, when_full="wait")
    await places.take()
    impatient = asyncio.create_task(places.take())
    patient = asyncio.create_task(places.take())
    await settle()
    places.free()  # to the first, which is cancelled before it hears of it
    impatient.cancel()
    await asyncio.wait_for(patient, 20)
    assert places.taken == 1


async def test_a_place_that_comes_with_the_timeout_is_not_lost():
    places = Admission(1, when_full="wait", wait_timeout_s=0.01)
    await places.take()
    waiting = asyncio.create_task(places.take())
    await settle()
    loop = asyncio.get_running_loop()
    # In the turn of the loop in which the timeout is due.
    loop.call_at(loop.time() + 0.01, places.free)
    try:
        await asyncio.wait_for(waiting, 20)
    except SessionLimitReached:
        assert places.taken == 0
    else:
        assert places.taken == 1


async def test_when_it_is_closed_nobody_waits_any_more():
    places = Admission(1, when_full="wait")
    await places.take()
    tasks = [asyncio.create_task(places.take()) for _ in range(3)]
    await settle()
    places.close()
    places.close()
    for task in tasks:
        with pytest.raises(SessionClosed):
            await asyncio.wait_for(task, 20)
    with pytest.raises(SessionClosed):
        await places.take()


@pytest.mark.parametrize("options", [{"most": 0}, {"most": "3"}, {"most": 1, "when_full": "panic"}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(SettingsError):
        Admission(**options)
