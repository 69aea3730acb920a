"""Cells that attack the adapter between them and the supervisor: THREATS 10, 16-18, 21, 22.

The adapter and its interpreter are one user's in one sandbox. So a cell may break its own
runner, or say something false of itself. It may not hang the session, grow the host, or reach
another language's variables; and nothing is gained by what it takes over.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import time

import pytest
import pytest_asyncio

from sandbox_kernel import events
from sandbox_kernel.limits import MIB
from tests.escape.test_resources import _processes_called
from tests.support.polyglots import polyglot, require_languages
from tests.support.sessions import BACKENDS
from tests.support.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

# Of an attack that never ends, and of one that ends by itself, as all that comes after it does.
ENDLESS_S = 2
PATIENCE_S = 60

# Opens the descriptor on which the runner's own file speaks to the adapter.
RUBY = "$events = IO.for_fd(4, 'w', autoclose: false)\n$events.sync = true\n"


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_driver(backend):
    """One session for all tests of a backend: each shows as well that what came before it
    did no lasting harm."""
    require_languages(backend, "ruby", "bash", "javascript", "perl")
    limits = {"timeout_s": PATIENCE_S, "interrupt_grace_s": 0.5, "displays": 50}
    async with polyglot(backend, workspace_bytes=64 * MIB, **limits) as driver:
        yield driver


@pytest.fixture
def driver(shared_driver):
    shared_driver.late.clear()
    return shared_driver


async def attack(driver, code, runner="ruby", **options):
    """Run `code` beside a Python session and a Bash session, which must not notice."""
    await driver.run("x = 'of Python'")
    await driver.run("x='of Bash'", runner="bash")
    cell = await driver.run(code, runner=runner, **options)
    assert (await driver.run("print(x)")).text() == "of Python\n"
    if runner != "bash":
        assert (await driver.run('echo "$x"', runner="bash")).text() == "of Bash\n"
    return cell


async def recovers(driver, runner="ruby"):
    """Within a few cells the language runs as ever: what was said falsely is used up."""
    say = {"ruby": "puts 'fine'", "bash": "echo fine", "javascript": "console.log('fine')"}
    for _ in range(3):
        cell = await driver.run(say[runner], runner=runner)
        if cell.text() == "fine\n" and cell.outcome.status == "ok":
            return
    raise AssertionError(cell.events)


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- what is said on the runner's own descriptor -----------------------------------------


LIES = {
    "an end that is none": "$events.write('done ok 0\\n' * 3)",
    "garbage": "$events.write((0..255).to_a.pack('C*') * 64)",
    "a header without an end": "$events.write('x' * 10_000)",
    "half a message": '$events.write("data text/html 1000\\nhalf")',
    "a length without end": "$events.write(\"data text/html #{'9' * 40}\\n\")",
    "a number that is none": '$events.write("out \u00b2 2\\nhi")',
    "another cell's text": '$events.write("out 1 4\\nfake" + "out 99999 4\\nfake")',
    "ready once more": '$events.write("ready 6.6.6 4\\nEvil" * 2)',
    "answers to what nobody asked": (
        '$events.write("completed \u00b2 0\\nchecked complete 0\\nattached - 0\\n")'
    ),
    "ten thousand types": (
        '10_000.times { |i| $events.write("data a/x#{i} 1\\nx") }\n$events.write("result - 0\\n")'
    ),
    "a million matches": '$events.write("match - 1\\nx" * 1_000_000)',
    "JSON nested without end": (
        "json = '[' * 50_000 + ']' * 50_000\n"
        '$events.write("data application/json #{json.bytesize}\\n#{json}display - 0\\n")'
    ),
    "JSON nested as deep as it is read": (
        "json = '[' * 900 + ']' * 900\n"
        '$events.write("data application/json #{json.bytesize}\\n#{json}display - 0\\n")'
    ),
    "its end": "$events.close; IO.for_fd(4).close rescue 0",
}


async def test_a_lie_to_the_adapter_hurts_only_its_own_language(driver):
    for lie, code in LIES.items():
        numbers = []
        cell = await attack(driver, RUBY + code, on_cell=numbers.append, timeout_s=1)
        assert len(cell.events) < 100, lie
        assert all(len(result.bundle) <= 33 for result in cell.of(events.ResultShown)), lie
        await recovers(driver)
        said = [event for event in driver.late if isinstance(event, events.TextWritten)]
        # Of the cells of this very interpreter it may say what it likes.
        assert {event.cell for event in said if "fake" in event.text} <= set(numbers), lie
    infos = [event.info for event in driver.late if isinstance(event, events.RunnerReady)]
    assert "6.6.6" not in str(infos)


async def test_what_is_said_by_the_rules_is_shown(driver):
    """The twin: on the same descriptor, by the same means."""
    cell = await attack(driver, RUBY + '$events.write("out - 3\\nhi\\n"); nil')
    assert cell.text() == "hi\n"


async def test_text_without_end_is_bounded_and_does_not_grow_the_host(driver):
    before = peak_kib()
    code = "$events.write(\"out - #{'9' * 15}\\n\")\nloop { $events.write('x' * 100_000) }"
    cell = await attack(driver, RUBY + code, timeout_s=ENDLESS_S)
    assert cell.error.name == "CellTimeout"
    assert len(cell.text()) <= 2.5 * MIB
    assert peak_kib() - before < 64 * 1024
    await recovers(driver)


async def test_a_flood_of_displays_is_cut_at_the_limit(driver):
    code = '5_000.times { $events.write("data text/plain 1\\nxdisplay - 0\\n") }'
    cell = await attack(driver, RUBY + code + "\nnil")
    assert len(cell.of(events.DisplayShown)) == 50
    assert "[sandbox]" in cell.text("stderr")
    await recovers(driver)


@pytest.mark.parametrize("allow_stdin", [True, False])
async def test_a_flood_of_questions_ends_with_its_cell(driver, allow_stdin):
    code = "loop { $events.write(\"input 0 100000\\n\" + 'x' * 100_000) }"
    await recovers(driver)  # it asks within its time, and not while its language starts
    cell = await attack(driver, RUBY + code, allow_stdin=allow_stdin, timeout_s=ENDLESS_S)
    assert cell.error.name == "CellTimeout"
    questions = cell.of(events.InputRequested)
    assert len(questions) == int(allow_stdin)
    assert all(len(question.prompt) <= 10_000 for question in questions)
    await recovers(driver)


async def test_a_huge_error_is_cut_and_variables_stay(driver):
    await driver.run("kept = 42", runner="ruby")
    cell = await driver.run("raise '\u2713' * 5_000_000", runner="ruby")
    assert cell.error.name == "RuntimeError"
    assert len(cell.error.value) <= MIB
    assert (await driver.run("puts kept", runner="ruby")).text() == "42\n"


async def test_who_holds_a_dead_interpreters_descriptor_cannot_hold_the_cell(driver):
    code = 'fork { Process.setsid; loop { $events.write("out - 9\\nfrom afar") } }\nexit!(3)'
    cell = await attack(driver, RUBY + code)
    assert cell.error.name == "RunnerExited"  # and no timeout was needed
    await recovers(driver)


async def test_writing_into_the_adapters_pipes_hurts_only_their_language(driver):
    code = (
        "for fd in /proc/$SANDBOX_ADAPTER/fd/*; do\n"
        "  [ -p $fd ] && timeout 1 bash -c \"printf 'done ok 0\\\\nout - 4\\\\nfakeinput 0 0\\\\n' "
        '>$fd" 2>/dev/null\ndone\necho written'
    )
    await attack(driver, code, runner="bash", timeout_s=10)
    await recovers(driver, "bash")


# --- what is done to the adapter's process -----------------------------------------------


@pytest.mark.parametrize("signal", ["STOP", "KILL", "TERM", "SEGV"])
async def test_an_adapter_that_its_cell_stops_is_replaced(driver, signal):
    code = f"kill -{signal} $SANDBOX_ADAPTER; sleep 600"
    timeout_s = ENDLESS_S if signal == "STOP" else PATIENCE_S
    cell = await attack(driver, code, runner="bash", timeout_s=timeout_s)
    assert cell.error.name == ("CellTimeout" if signal == "STOP" else "RunnerExited")
    assert "lost" in cell.error.value
    await recovers(driver, "bash")


async def test_an_adapter_stopped_between_cells_is_ended_by_an_interrupt(driver):
    await driver.run("rm -f go", runner="bash")
    stop = "(until [ -e go ]; do sleep 0.02; done; kill -STOP $SANDBOX_ADAPTER) & "
    adapter = (await driver.run(stop + "echo $SANDBOX_ADAPTER", runner="bash")).text().strip()
    await driver.run(
        "open('go', 'w').close()\n"
        f"while 'State:\\tT' not in open('/proc/{adapter}/status').read(): pass"
    )
    cell = await driver.run("echo in vain", runner="bash", timeout_s=ENDLESS_S)
    assert cell.error.name == "CellTimeout"
    await recovers(driver, "bash")


PEEK = """
import ctypes, os
adapter = int(os.environ["SANDBOX_ADAPTER"])
libc = ctypes.CDLL(None, use_errno=True)
for name, number, *arguments in (("ptrace", 101, 16, adapter, 0, 0), ("seize", 101, 0x4206, adapter,
        0, 0), ("process_vm_readv", 310, adapter, 0, 0, 0, 0, 0),
        ("process_vm_writev", 311, adapter, 0, 0, 0, 0, 0), ("pidfd_getfd", 438, 0, 0, 0)):
    print(name, libc.syscall(number, *map(ctypes.c_long, arguments)))
def rights(who):
    names = ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid")
    lines = open(f"/proc/{who}/status").read().splitlines()
    return [line for line in lines if line.partition(":")[0] in names]
print("same rights", rights(adapter) == rights("self"))
print("same view", all(os.readlink(f"/proc/{adapter}/ns/{name}") == os.readlink(
    f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid", "user", "ipc")))
found = [os.readlink(f"/proc/{adapter}/fd/{n}") for n in os.listdir(f"/proc/{adapter}/fd")]
print("files", sorted({name.partition(":")[0] for name in found} - {"pipe", "socket", "/dev/null"}))
"""


async def test_who_takes_over_the_adapter_gains_nothing(driver):
    await driver.session.files.write("peek.py", PEEK.encode())
    cell = await driver.run("python3 peek.py", runner="bash")
    lines = cell.text().splitlines()
    assert lines[:5] == [f"{line.split()[0]} -1" for line in lines[:5]], cell.events
    assert lines[5:] == ["same rights True", "same view True", "files []"]


# --- 18, 21, 22 in other languages -------------------------------------------------------

BECOMES_ANOTHER = {
    "bash": "exec sleep 0",
    "ruby": "exec 'true'",
    "perl": "exec 'true'",
    "javascript": "process.kill(process.pid, 'SIGKILL')",
}


@pytest.mark.parametrize("language", BECOMES_ANOTHER)
async def test_an_interpreter_that_becomes_another_program_is_replaced(driver, language):
    cell = await attack(driver, BECOMES_ANOTHER[language], runner=language)
    assert cell.outcome.status == "error"
    assert "lost" in cell.error.value
    if language != "perl":
        await recovers(driver, language)


IGNORES_ALL = {
    "bash": "trap '' INT TERM; echo up; while :; do :; done",
    "ruby": "trap('INT', 'IGNORE'); trap('TERM', 'IGNORE'); puts 'up'; $stdout.flush; loop {}",
    "javascript": (
        "for (const each of ['SIGINT', 'SIGTERM']) process.on(each, () => {});\n"
        "console.log('up'); while (true) { try { while (true); } catch {} }"
    ),
}


@pytest.mark.parametrize("language", IGNORES_ALL)
async def test_a_loop_that_ignores_signals_ends_within_the_grace_and_a_second(driver, language):
    took_s = [10.0]
    while min(took_s) > 0.5 + 1 and len(took_s) < 10:  # a busy machine is slow now and then
        took_s.append(await time_to_stop(driver, IGNORES_ALL[language], language))
        await recovers(driver, language)
    assert min(took_s) <= 0.5 + 1, took_s


async def time_to_stop(driver, code, language):
    asked_s = []

    def hear(event):
        if isinstance(event, events.TextWritten) and "up" in event.text:
            asked_s.append(time.monotonic())
            asyncio.get_running_loop().create_task(driver.session.interrupt())

    cell = await driver.run(code, hear, runner=language)
    assert cell.outcome.status == "error"
    return time.monotonic() - asked_s[0]


LATE = {
    "bash": (
        "(until [ -e go ]; do sleep 0.02; done; echo late; touch said) 2>/dev/null &\necho first"
    ),
    "ruby": (
        "fork { Process.setsid; sleep 0.02 until File.exist?('go'); $stdout.puts 'late from fork'\n"
        "$stdout.flush; $stdout = STDOUT; system('echo late'); File.write('said', '') }\n"
        "puts 'first'"
    ),
    "javascript": (
        "require('child_process').spawn('sh', ['-c', 'until [ -e go ]; do sleep 0.02; done; "
        "echo late; touch said'], {stdio: 'inherit', detached: true}).unref(); console.log('first')"
    ),
    "perl": (
        "unless (fork) { select(undef, undef, undef, 0.02) until -e 'go'; system('echo late; "
        "touch said'); require POSIX; POSIX::_exit(0) } print qq(first\\n);"
    ),
}
LATE_LINES = {"ruby": ["late from fork", "late"]}  # by two ways; one line in the others


@pytest.mark.parametrize("language", LATE)
async def test_late_output_is_never_another_cells(driver, language):
    await driver.run("rm -f go said", runner="bash")
    numbers = []
    first = await driver.run(LATE[language], runner=language, on_cell=numbers.append)
    assert first.text() == "first\n", first.events
    wait = "touch go; until [ -e said ]; do sleep 0.02; done; echo mine"
    code = {
        "bash": wait,
        "javascript": (
            f"require('child_process').execSync('{wait}', {{stdio: 'inherit'}}); undefined"
        ),
        "ruby": f"system('{wait}'); nil",
        "perl": f"system('{wait}');",
    }[language]
    second = await driver.run(code, runner=language)
    assert second.text() == "mine\n", second.events
    # All of it: what is still on its way would come among the next test's.
    await driver.heard_lines(*LATE_LINES.get(language, ["late"]))
    late = [event for event in driver.late if isinstance(event, events.TextWritten)]
    assert {event.cell for event in late} == set(numbers), late


DAEMON = {
    "bash": "(setsid bash -c 'exec -a {name} sleep 600' &) ; echo left",
    "ruby": (
        "fork {{ Process.setsid; fork {{ exec ['sleep', '{name}'], '600' }}; exit!(0) }}\n"
        "Process.wait; puts 'left'"
    ),
    "javascript": (
        "require('child_process').spawn('sleep', ['600'], {{argv0: '{name}', detached: true, "
        "stdio: 'ignore'}}).unref(); console.log('left')"
    ),
}


async def test_daemons_die_with_the_sandbox(backend):
    require_languages(backend, *DAEMON)
    names = {language: "canary-" + secrets.token_hex(8) for language in DAEMON}
    async with polyglot(backend) as driver:
        for language, name in names.items():
            cell = await driver.run(DAEMON[language].format(name=name), runner=language)
            assert cell.text() == "left\n", language
        for name in names.values():
            await asyncio.to_thread(until, lambda name=name: _processes_called(name), "a daemon")
    for name in names.values():
        gone = lambda name=name: not _processes_called(name)  # noqa: E731
        await asyncio.to_thread(until, gone, "its end")
