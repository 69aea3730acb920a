"""Sessions end when nobody uses them or when they are too old, and never while they run."""

import asyncio
from itertools import count

import pytest

from sandbox_kernel.engine.lifetimes import LOOK_AGAIN_S, Reaper, verdict
from tests.support.waiting import DEADLINE_S


class Life:
    """A session as the reaper sees it."""

    is_closed = False

    def __init__(self, *, idle=None, lifetime=None, idle_s=0.0, age_s=0.0, is_busy=False):
        self.idle_timeout_s = idle
        self.lifetime_s = lifetime
        self.idle_s = idle_s
        self.age_s = age_s
        self.is_busy = is_busy
        self.ended = asyncio.Event()
        self.reason = ""

    def begin_to_close(self, *, reason=""):
        assert not self.is_busy
        self.is_closed = True
        self.reason = reason
        self.ended.set()
        return asyncio.get_running_loop().create_future()  # it takes for ever


@pytest.mark.parametrize(
    ("life", "reason", "wait_s"),
    [
        (Life(), "", None),
        (Life(idle=10, idle_s=4), "", 6),
        (Life(idle=10, idle_s=10), "unused for 10 s (idle_timeout_s)", None),
        (Life(lifetime=10, age_s=4), "", 6),
        (Life(lifetime=10, age_s=10), "age of 10 s (lifetime_s)", None),
        (Life(lifetime=10, age_s=4, idle=3, idle_s=1), "", 2),
        (Life(lifetime=10, age_s=11, is_busy=True), "", LOOK_AGAIN_S),
        (Life(idle=10, idle_s=11, is_busy=True), "", LOOK_AGAIN_S),
        (Life(idle=0.2, idle_s=0.1), "", 0.1),
    ],
)
def test_a_session_ends_in_time_and_is_looked_at_when_it_could(life, reason, wait_s):
    said, wait = verdict(life)
    assert reason in said
    assert bool(said) == bool(reason)
    assert wait == pytest.approx(wait_s) if wait_s is not None else wait is None


def test_one_that_is_closed_already_is_nobodys_concern():
    life = Life(idle=1, idle_s=5)
    life.is_closed = True
    assert verdict(life) == ("", None)


async def test_the_reaper_ends_each_in_its_time_and_one_that_hangs_holds_up_no_other():
    class Aging(Life):
        def __init__(self, lifetime):
            super().__init__(lifetime=lifetime)
            self.born = asyncio.get_running_loop().time()

        @property
        def age_s(self):
            return asyncio.get_running_loop().time() - self.born

        @age_s.setter
        def age_s(self, _value):
            pass

    lives = [Aging(3600), Aging(0.05), Aging(None)]
    reaper = Reaper(lambda: lives)
    reaper.wake()
    async with asyncio.timeout(DEADLINE_S):
        await lives[1].ended.wait()
        assert not lives[0].ended.is_set()
        lives[0].lifetime_s = lives[0].age_s + 0.05
        reaper.wake()
        await lives[0].ended.wait()
        assert lives[0].age_s >= lives[0].lifetime_s
    await reaper.stop()
    assert not lives[2].ended.is_set()


async def test_a_new_session_wakes_the_reaper():
    lives = []
    looks = count()
    reaper = Reaper(lambda: [next(looks)] and lives)
    reaper.wake()
    await asyncio.sleep(0)
    lives.append(Life(idle=1, idle_s=2))
    reaper.wake()
    async with asyncio.timeout(DEADLINE_S):
        await lives[0].ended.wait()
    await reaper.stop()
    await reaper.stop()
