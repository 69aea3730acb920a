"""Limits that hold for one cell only."""

import pytest

from sandbox_kernel.errors import SettingsError

MIB = 2**20
FILL = "x = bytearray({count} * 2**20); print(len(x) >> 20); del x"


async def test_a_cell_may_be_given_more_memory_and_the_next_has_the_old_limit(open_session):
    driver = await open_session(memory_bytes=192 * MIB)
    roomy = await driver.run(FILL.format(count=300), memory_bytes=512 * MIB)
    assert roomy.outcome.status == "ok"
    assert roomy.text() == "300\n"
    cell = await driver.run(FILL.format(count=300))
    assert cell.error.name in ("MemoryLimitExceeded", "MemoryError")
    assert "192 MiB" in cell.error.value


async def test_a_cell_that_fails_at_its_own_limit_is_told_that_limit(open_session):
    driver = await open_session(memory_bytes=512 * MIB)
    cell = await driver.run(FILL.format(count=300), memory_bytes=128 * MIB)
    assert cell.error.name in ("MemoryLimitExceeded", "MemoryError")
    assert "128 MiB" in cell.error.value
    assert (await driver.run(FILL.format(count=300))).text() == "300\n"


# A tenth more than 0.3 can be within half a second: a quota is for tenths of a second.
BORDER = 0.45
# The largest share of a CPU that it gets in half a second, looked for until it is over that.
SHARE = """
import time
def share(best=0, end=time.monotonic() + {patience_s}):
    while best < {border} and time.monotonic() < end:
        wall, cpu = time.monotonic(), time.process_time()
        while time.monotonic() < wall + 0.5: pass
        best = max(best, (time.process_time() - cpu) / (time.monotonic() - wall))
    return best
print(share())
"""


async def test_a_cell_may_be_given_less_cpu(open_session):
    driver = await open_session()
    held = await driver.run(SHARE.format(border=BORDER, patience_s=2), cpus=0.3)
    assert 0 < float(held.text()) < BORDER
    # Others may need the machine: it is free in the end.
    free = await driver.run(SHARE.format(border=BORDER, patience_s=60))
    assert float(free.text()) >= BORDER


async def test_limits_that_make_no_sense_are_refused_and_the_session_goes_on(open_session):
    driver = await open_session()
    with pytest.raises(SettingsError, match="memory_bytes is 1"):
        await driver.run("1", memory_bytes=1)
    with pytest.raises(SettingsError, match="cpus"):
        await driver.run("1", cpus=100_000)
    assert (await driver.run("print('on')")).text() == "on\n"
