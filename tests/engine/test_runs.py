"""One run: what is heard of it while it goes on, and what ends it."""

import asyncio
import os

import pytest

from sandbox_kernel import Limits
from sandbox_kernel.engine import Strategy
from sandbox_kernel.errors import SandboxKernelError, SessionClosed, SettingsError
from tests.support.waiting import DEADLINE_S

MIB = 2**20
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
async def session(engine):
    return await engine.create_session("python")


async def begun(session, code, **options):
    """A task that runs `code`, which has printed "up"."""
    up = asyncio.Event()

    def hear(text):
        if "up" in text:
            up.set()

    task = asyncio.create_task(session.execute(code, on_stdout=hear, **options))
    waiting = asyncio.create_task(up.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S)
    waiting.cancel()
    assert up.is_set()
    return task


async def turns(count=20):
    """Whoever can go on without waiting for a sandbox has done so."""
    for _ in range(count):
        await asyncio.sleep(0)


def joined(heard):
    """What was heard, neighbours of a stream as one: text comes in whatever pieces."""
    found = []
    for kind, text in heard:
        if found and kind in ("out", "err") and found[-1][0] == kind:
            text = found.pop()[1] + text
        found.append((kind, text))
    return found


async def test_what_is_no_code_is_refused_and_the_session_goes_on(session):
    for code in (5, None, b"1"):
        with pytest.raises(SettingsError, match="give a text"):
            await session.execute(code)
    assert (await session.execute("1")).text == "1"


# --- hearing ----------------------------------------------------------------------------


async def test_callbacks_hear_in_order_and_while_it_runs(session):
    heard = []

    def answer(prompt):  # the code goes on when it was heard
        heard.append(("question", prompt))
        return ""

    result = await session.execute(
        "import sys\n"
        "print('a', flush=True); print('b', file=sys.stderr, flush=True)\n"
        "from IPython.display import display\n"
        "display({'text/plain': 'c'}, raw=True)\n"
        "go = input('go on?'); print('d'); 40 + 2",
        stdin=answer,
        on_stdout=lambda text: heard.append(("out", text)),
        on_stderr=lambda text: heard.append(("err", text)),
        on_display=lambda shown: heard.append(("display", shown.text)),
    )
    assert joined(heard) == [
        *[("out", "a\n"), ("err", "b\n"), ("display", "c"), ("question", "go on?")],
        *[("out", "d\n"), ("display", "42")],
    ]
    assert (result.ok, result.stdout, result.stderr) == (True, "a\nd\n", "b\n")
    assert (result.text, result.exit_code, result.error) == ("42", 0, None)
    assert [shown.is_result for shown in result.displays] == [False, True]
    assert result.usage.wall_s > 0
    assert result.duration_s >= result.usage.wall_s


async def test_a_callback_that_raises_stops_the_code_and_the_session_lives_on(session):
    await session.execute("kept = 7")

    def fail(_text):
        raise LookupError("of the caller's")

    with pytest.raises(LookupError, match="of the caller's"):
        await session.execute(
            "import time\nprint('a', flush=True)\ntime.sleep(600)", on_stdout=fail
        )
    assert (await session.execute("kept")).text == "7"


async def test_what_code_raises_is_a_result(session):
    result = await session.execute("print('before')\n1 / 0")
    assert not result.ok
    assert (result.error.name, result.error.value) == ("ZeroDivisionError", "division by zero")
    assert any("ZeroDivisionError" in line for line in result.error.traceback)
    assert (result.stdout, result.exit_code) == ("before\n", 1)
    assert (await session.execute("raise SystemExit(3)")).exit_code == 3
    assert (await session.execute("exit()")).ok


# --- time -------------------------------------------------------------------------------


async def test_a_timeout_stops_the_code_and_the_variables_survive(session):
    await session.execute("kept = 7")
    result = await session.execute("while True: pass", timeout_s=0.3)
    assert (result.ok, result.error.name, result.exit_code) == (False, "CellTimeout", 124)
    assert "0.3 s (timeout)" in result.error.value
    assert "survived" in result.error.value
    assert (await session.execute("kept")).text == "7"


async def test_the_sessions_own_timeout_holds_and_a_run_may_have_none(engine):
    session = await engine.create_session(limits=Limits(timeout_s=0.3))
    assert session.timeout_s == 0.3
    code = "import time; time.sleep(0.6)"
    assert (await session.execute(code)).exit_code == 124
    assert (await session.execute(code, timeout_s=None)).ok
    with pytest.raises(SettingsError, match="timeout_s is 0"):
        await session.execute(code, timeout_s=0)


async def test_code_that_ignores_it_is_killed_and_the_result_says_what_is_lost(engine):
    session = await engine.create_session(limits=Limits(interrupt_grace_s=0.2))
    await session.execute("kept = 7")
    for timeout_s in (1, 5, 20):  # on a slow machine it may not have begun to ignore anything
        result = await session.execute(STUBBORN, timeout_s=timeout_s)
        if "up" in result.stdout:
            break
    assert result.exit_code == 124
    assert "variables are lost" in result.error.value
    assert (await session.execute("'kept' in globals()")).text == "False"


# --- limits for one run -----------------------------------------------------------------


async def limited(session, code, **limits):
    """A run with limits of its own, where this user may change those of a running sandbox."""
    try:
        return await session.execute(code, **limits)
    except SettingsError as error:
        if os.geteuid() == 0:
            raise
        pytest.skip(str(error))


async def test_a_run_may_have_less_memory_and_the_next_one_has_its_own_again(session):
    hungry = "x = bytearray(300 * 2**20); x[::4096] = b'x' * len(x[::4096]); len(x)"
    result = await limited(session, hungry, memory_bytes=150 * MIB)
    assert not result.ok
    assert result.error.name in ("MemoryLimitExceeded", "MemoryError")
    assert "150 MiB (memory)" in result.error.value or result.error.name == "MemoryError"
    assert (await session.execute(hungry)).ok


async def test_a_run_may_have_less_of_the_processor(session):
    busy = (
        "import time\nend = time.monotonic() + 0.8\n"
        "while time.monotonic() < end: pass\n"
        "round(time.process_time() - start, 2)"
    )
    code = f"import time; start = time.process_time()\n{busy}"
    slow = await limited(session, code, cpus=0.1)
    assert float(slow.text) < 0.4, slow
    with pytest.raises(SettingsError, match="cpus is 5000"):
        await session.execute("1", cpus=5000)


async def test_a_limit_that_cannot_be_is_no_result(session):
    with pytest.raises(SettingsError, match="memory_bytes is 5"):
        await session.execute("1", memory_bytes=5)


# --- input ------------------------------------------------------------------------------

ASK = "a = input('first? '); b = input('second? '); print([a, b])"


async def answer(prompt):
    await asyncio.sleep(0)
    return prompt.upper()


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        ("one\ntwo\n", "['one', 'two']"),
        (["one", "two"], "['one', 'two']"),
        (lambda prompt: prompt[:3], "['fir', 'sec']"),
        (answer, "['FIRST? ', 'SECOND? ']"),
    ],
    ids=["text", "lines", "function", "coroutine function"],
)
async def test_input_is_answered(session, stdin, expected):
    assert (await session.execute(ASK, stdin=stdin)).stdout.splitlines()[-1] == expected


@pytest.mark.parametrize("stdin", ["one\n", lambda prompt: "one" if "first" in prompt else None])
async def test_input_ends_as_a_file_does(session, stdin):
    result = await session.execute(
        f"try:\n    {ASK}\nexcept EOFError: print('end', a)", stdin=stdin
    )
    assert result.stdout.splitlines()[-1] == "end one"


async def test_without_anybody_to_ask_input_fails_at_once(session):
    assert (await session.execute("input()")).error.name == "StdinNotImplementedError"


async def test_an_answerer_that_raises_stops_the_code(session):
    def fail(_prompt):
        raise LookupError("nobody there")

    await session.execute("kept = 7")
    with pytest.raises(LookupError, match="nobody there"):
        await session.execute("try: input()\nfinally: after = 1", stdin=fail)
    assert (await session.execute("kept, after")).text == "(7, 1)"


# --- stopping ---------------------------------------------------------------------------


async def test_an_interrupt_from_another_task_stops_it(session):
    task = await begun(session, "kept = 7\nprint('up', flush=True)\nimport time; time.sleep(60)")
    assert session.info().state == "busy"
    await session.interrupt()
    result = await asyncio.wait_for(task, DEADLINE_S)
    assert (result.error.name, result.exit_code) == ("KeyboardInterrupt", 130)
    assert (await session.execute("kept")).text == "7"
    await session.interrupt()  # nothing runs
    assert session.info().state == "idle"


async def test_a_cancelled_run_has_stopped_and_the_variables_are_there(session):
    await session.execute("kept = 7\nimport time")
    code = "stopped = 0\nprint('up', flush=True)\ntime.sleep(600)\nstopped = 1"
    task = await begun(session, code)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, DEADLINE_S)
    assert (await session.execute("kept, stopped")).text == "(7, 0)"


async def test_a_run_that_is_cancelled_before_it_began_never_runs(session):
    may_end = asyncio.Event()

    async def answer(_prompt):
        await may_end.wait()
        return ""

    first = await begun(session, "print('up', flush=True)\n_ = input()", stdin=answer)
    waiting = asyncio.create_task(session.execute("ran = 1"))
    never = asyncio.create_task(session.execute("ran = 2"))
    never.cancel()  # not even its first step
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting, never], timeout=DEADLINE_S)
    assert waiting.cancelled()
    assert never.cancelled()
    may_end.set()
    assert (await first).ok
    assert (await session.execute("'ran' in globals()")).text == "False"


async def test_who_is_cancelled_twice_waits_no_longer_and_the_code_stops_all_the_same(engine):
    session = await engine.create_session(limits=Limits(interrupt_grace_s=0.5))
    task = await begun(session, STUBBORN)
    task.cancel()
    await turns()
    assert not task.done()  # it sees to the end of the code
    task.cancel()
    await turns()
    assert task.cancelled()
    # The next run waits for the end of the one before, and is not mistaken for it.
    assert (await asyncio.wait_for(session.execute("1 + 1"), DEADLINE_S)).text == "2"


async def test_who_is_cancelled_while_a_file_is_sent_leaves_a_session_that_works(session):
    content = b"x" * (40 * MIB)
    for delay_s in (0.001, 0.01, 0.03):
        await asyncio.wait([asyncio.create_task(session.execute("kept = 7"))])
        task = asyncio.create_task(session.files.write("big", content))
        await asyncio.wait([task], timeout=delay_s)
        task.cancel()
        await asyncio.wait([task])
        assert (await session.execute("kept")).text == "7"


async def test_a_session_that_is_closed_while_it_runs_says_so(session):
    task = await begun(session, "print('up', flush=True)\nimport time; time.sleep(60)")
    await asyncio.gather(session.close(), session.close(), session.close())
    with pytest.raises(SessionClosed, match="while this ran"):
        await asyncio.wait_for(task, DEADLINE_S)


# --- crashes ----------------------------------------------------------------------------

CRASHES = [
    ("import os; os._exit(3)", 3, "RunnerExited", "exit code 3"),
    ("import os; os._exit(0)", 1, "RunnerExited", "exit code 0"),
    ("import os; os.kill(os.getpid(), 11)", 139, "RunnerExited", "SIGSEGV"),
    ("x = [bytearray(2**20) for _ in range(400)]", None, "Memory", "memory"),
]


@pytest.mark.parametrize("strategy", [Strategy.PER_SESSION, Strategy.PER_EXECUTION])
async def test_a_crash_is_a_result_and_the_session_lives_on(engine, strategy):
    limits = Limits(memory_bytes=200 * MIB)
    session = await engine.create_session(strategy=strategy, limits=limits)
    await session.files.write("kept.txt", "7")
    for code, exit_code, name, words in (
        CRASHES if strategy is Strategy.PER_SESSION else CRASHES[:1]
    ):
        result = await session.execute(code)
        assert not result.ok
        assert result.exit_code == exit_code or (name == "Memory" and result.exit_code in (1, 137))
        assert result.error.name.startswith(name), result
        assert words in result.error.value or name == "Memory"
        assert (await session.execute("open('kept.txt').read()")).text == "'7'"


async def test_a_sandbox_that_is_killed_is_replaced_and_the_result_says_what_is_lost(session):
    await session.files.write("a.txt", "1")
    task = await begun(session, "print('up', flush=True)\nimport time; time.sleep(60)")
    session._place.seats[0]._guest.sandbox.kill()
    result = await asyncio.wait_for(task, DEADLINE_S)
    assert (result.error.name, result.exit_code, result.usage) == ("SandboxDied", 137, None)
    assert "next cell gets a new sandbox" in result.error.value
    assert session.info().state == "dead"
    assert (await session.execute("1 + 1")).text == "2"
    assert await session.files.list() == []
    first, second = session.info().sandboxes
    assert first.ended is not None
    assert second.ended is None
    assert (first.runs, second.runs) == (1, 1)


async def test_errors_are_all_of_one_family(session):
    await session.close()
    with pytest.raises(SandboxKernelError):
        await session.execute("1")
