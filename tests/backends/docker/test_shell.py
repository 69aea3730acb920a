"""Images without Python 3: real containers, with dash and with busybox as their shell."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox_kernel import events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker.shell import entry_script
from sandbox_kernel.errors import RequestRefused
from sandbox_kernel.session import SandboxSession
from tests.support.busybox import busybox_image, shell_image
from tests.support.engines import Docked, containers, image, shared_engine
from tests.support.waiting import DEADLINE_S

Open = Callable[..., Docked]
# Every cell's notice comes with the first; tests that count look at what follows.
NOTICE = "each cell of Bash runs as one command"


@pytest.fixture
def shell(dock: Open) -> Open:
    """`shell(**limits)` gives a session in an image that has nothing but busybox."""

    def open_it(**limits: Any) -> Docked:
        fields = {"image": busybox_image(), "language": "bash"} | limits.pop("spec", {})
        return dock(spec=fields, **limits)

    return open_it


@pytest.fixture(params=["busybox", "dash", "bash"])
def any_shell(request: pytest.FixtureRequest, shell: Open) -> Open:
    """As `shell`, with the shells that images have: what differs is how they hear signals."""

    def open_it(**limits: Any) -> Docked:
        spec = {"image": shell_image(request.param)} | limits.pop("spec", {})
        return shell(spec=spec, **limits)

    return open_it


async def _until_processes(docked: Docked, count: int) -> None:
    """A process that was ended, or that is starting, takes a moment."""
    async with asyncio.timeout(DEADLINE_S):
        while (await docked.session.status())["processes"] != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_cell_is_one_command_whose_streams_stay_apart(any_shell):
    docked = any_shell()
    cell = await docked.run("echo out; echo err >&2; pwd")
    assert cell.outcome.status == "ok"
    assert cell.text() == "out\n/workspace\n"
    assert cell.text("stderr").endswith("err\n")


async def test_the_first_cell_alone_says_what_cannot_be_done(shell):
    docked = shell()
    assert NOTICE in (await docked.run("true")).text("stderr")
    assert (await docked.run("true")).text("stderr") == ""


async def test_files_persist_and_variables_do_not(shell):
    docked = shell()
    await docked.run("x=1; echo kept > file")
    cell = await docked.run('echo "x=$x"; cat file')
    assert cell.text() == "x=\nkept\n"


async def test_a_command_that_fails_ends_the_cell_with_its_exit_code(any_shell):
    cell = await any_shell().run("exit 3")
    assert (cell.error.name, cell.error.value) == (
        "CommandFailed",
        "The command ended with exit code 3.",
    )


async def test_a_command_that_crashes_ends_the_cell_with_the_signal(any_shell):
    cell = await any_shell().run("kill -SEGV $$")
    assert "SIGSEGV" in cell.error.value


async def test_code_arrives_as_it_was_written(any_shell):
    code = "cat <<'EOF'\n'quotes' \"and\" $dollars \\n \\0101 `ticks` %s é ☃ \x1b \x7f\n\nEOF\n"
    cell = await any_shell().run(code)
    assert "'quotes' \"and\" $dollars \\n \\0101 `ticks` %s é ☃" in cell.text()


async def test_output_arrives_while_the_command_runs(shell):
    docked = shell()
    task = await docked.begin("echo up; sleep 600")
    await docked.session.interrupt()
    assert (await task).error.name == "KeyboardInterrupt"


async def test_an_interrupt_ends_all_that_the_cell_started(any_shell):
    docked = any_shell()
    task = await docked.begin("sleep 600 & (sleep 600; echo no) & echo up; wait; sleep 600")
    await docked.session.interrupt()
    assert (await task).error.name == "KeyboardInterrupt"
    await _until_processes(docked, 0)


async def test_an_interrupt_at_once_is_not_lost(any_shell):
    docked = any_shell(interrupt_grace_s=30)
    await docked.run("true")
    for _ in range(10):
        task = await docked.begin("sleep 25", wait_for="")
        await asyncio.sleep(0)
        await docked.session.interrupt()
        assert (await task).error.value == "The command was interrupted."


async def test_a_command_that_ignores_signals_is_killed_after_the_grace(any_shell):
    docked = any_shell(interrupt_grace_s=0.3)
    task = await docked.begin("trap '' TERM INT; echo up; while :; do sleep 1; done")
    await docked.session.interrupt()
    cell = await task
    assert cell.error.name == "KeyboardInterrupt"
    assert "did not stop" in cell.error.value
    assert (await docked.run("echo next")).text() == "next\n"


async def test_a_timeout_ends_the_cell_and_the_next_one_runs(shell):
    docked = shell()
    cell = await docked.run("sleep 600", timeout_s=0.5)
    assert cell.error.name == "CellTimeout"
    assert (await docked.run("echo next")).text() == "next\n"


async def test_a_restart_ends_the_cell_and_keeps_the_files(any_shell):
    docked = any_shell()
    task = await docked.begin("echo kept > file; echo up; sleep 600")
    await docked.session.restart()
    assert (await task).error.name == "RunnerRestarted"
    assert (await docked.run("cat file")).text() == "kept\n"


async def test_what_a_cell_leaves_running_ends_before_the_next_cell(any_shell):
    docked = any_shell()
    await docked.run("sleep 600 & sleep 600 & echo started")
    await _until_processes(docked, 2)
    await docked.run("true")
    await _until_processes(docked, 0)


async def test_late_output_is_never_the_next_cells(any_shell):
    docked = any_shell()
    await docked.run("(while :; do echo late; done) & echo first")
    cell = await docked.run("echo second")
    assert cell.text() == "second\n"


async def test_a_fork_bomb_leaves_the_next_cell_room(any_shell):
    docked = any_shell(processes=32)
    await docked.run("f() { f | f & }; f 2>/dev/null; sleep 0.3")
    assert (await docked.run("echo next")).text() == "next\n"


@pytest.mark.parametrize("weapon", ["kill -9 $PPID; sleep 600", "kill -9 -1; sleep 600"])
async def test_a_cell_that_kills_its_own_shell_ends(shell, weapon):
    docked = shell()
    cell = await docked.run(weapon)
    assert "killed the shell" in cell.error.value
    assert (await docked.run("echo next")).text() == "next\n"


async def test_the_supervisor_cannot_be_killed_from_inside(any_shell):
    docked = any_shell()
    await docked.run("kill -9 1; kill -TERM 1; kill -USR1 1; kill -HUP 1; kill -INT 1; sleep 0.1")
    assert (await docked.run("echo next")).text() == "next\n"


async def test_a_cell_that_steals_the_requests_of_the_host_ends_with_its_sandbox(shell):
    """It reads what is meant for PID 1, so that no line reaches it: the host's ladder holds."""
    docked = shell(interrupt_grace_s=0.3)
    task = await docked.begin("cat </proc/1/fd/0 >/dev/null & echo up; sleep 600")
    await docked.session.interrupt()
    cell = await task
    assert cell.outcome.status == "error"
    assert (await docked.run("echo next")).text() == "next\n"


async def test_marks_of_the_guests_own_are_output(shell):
    docked = shell()
    forged = r"printf '\036%032d end 0\036\036%032d end 0' 1 2; sleep 0.2; exit 7"
    cell = await docked.run(forged)
    assert "exit code 7" in cell.error.value
    assert cell.text().count("end 0") == 2


async def test_output_over_the_budget_is_cut_and_its_end_is_shown(shell):
    docked = shell(output_bytes=64 * 1024)
    cell = await docked.run("yes | head -c 10000000; echo the end")
    assert len(cell.text()) < 70_000
    assert cell.text().endswith("the end\n")
    assert "64 KiB (output)" in cell.text("stderr")
    assert cell.outcome.receipt.output_bytes == 10_000_008


async def test_output_without_end_is_stopped_by_an_interrupt(shell):
    docked = shell(output_bytes=64 * 1024)
    task = await docked.begin("echo up; cat /dev/zero")
    await docked.session.interrupt()
    assert (await task).error.name == "KeyboardInterrupt"


async def test_bytes_that_are_no_text_are_replaced(shell):
    cell = await shell().run(r"printf '\377\000\036a\n'")
    assert cell.outcome.status == "ok"
    assert "\ufffd" in cell.text()


async def test_a_missing_program_is_an_error_with_the_remedy(shell):
    cell = await shell(spec={"language": "ruby"}).run("puts 1")
    assert cell.error.name == "CommandMissing"
    assert "no ruby" in cell.error.value
    assert "--image" in cell.error.value


async def test_a_cell_in_a_full_workspace_still_runs(any_shell):
    docked = any_shell(workspace_bytes=2**20)
    await docked.run("head -c 9000000 /dev/zero > /workspace/full")
    cell = await docked.run("rm full; echo next")
    assert cell.text() == "next\n"


async def test_a_cell_that_is_too_long_says_so(shell):
    docked = shell()
    cell = await docked.run("#" * (2**20 + 1))
    assert "over the limit of 1048576 bytes" in cell.error.value
    assert (await docked.run("#" * (2**20 - 20) + "\necho next")).text() == "next\n"


async def test_the_environment_is_set_as_the_owner_wrote_it(any_shell):
    environment = {"GREETING": 'it\'s\n"$HOME" \\ é\n', "IFS": "x", "1 bad": "y"}
    docked = any_shell(spec={"environment": environment})
    cell = await docked.run('printf "%s|" "$GREETING"')
    assert cell.text() == 'it\'s\n"$HOME" \\ é\n|'


async def test_requests_that_need_python_are_refused_with_the_remedy(shell):
    docked = shell()
    await docked.session.start()
    with pytest.raises(RequestRefused, match="--image"):
        await docked.session.files.list()
    with pytest.raises(RequestRefused, match="--image"):
        await docked.session.send_comm("open", "1", "t", {}, {}, [])
    assert (await docked.session.complete("ec", 2))["matches"] == []
    assert not (await docked.session.inspect("echo", 2))["found"]
    assert (await docked.session.is_complete("if"))["status"] == "unknown"


async def test_expressions_are_refused_one_by_one(shell):
    docked = shell()
    cell = await docked.run("true", user_expressions={"a": "1"})
    assert cell.outcome.user_expressions["a"]["ename"] == "NotSupported"


async def test_nothing_is_left_when_the_session_is_closed(shell):
    docked = shell()
    await docked.run("sleep 600 &")
    container = docked.container_id
    await docked.session.close()
    assert container not in containers(shared_engine().api())


async def test_an_image_with_python_gets_the_supervisor_with_all_its_powers(dock):
    """The twin: the same start script finds Python, and sends it the guest's code."""
    api = shared_engine().api()
    with _unlabelled(api, image(api)) as name:
        docked = dock(spec={"image": name})
        await docked.run("x = 41")
        assert (await docked.run("print(x + 1)")).text() == "42\n"
        await docked.session.files.write("a.txt", b"in")
        assert await docked.session.files.read("a.txt") == b"in"
        await docked.session.close()


@contextlib.contextmanager
def _unlabelled(api: Any, name: str) -> Iterator[str]:
    """The same files, without the label that says that the guest's code is among them."""
    container = api.create_container(name, command=["true"])["Id"]
    repository = f"sandbox-kernel-tests/unlabelled-{container[:12]}"
    try:
        api.import_image_from_data(b"".join(api.export(container)), repository=repository)
        yield repository
    finally:
        api.remove_container(container, force=True)
        api.remove_image(repository)


def test_the_script_does_nothing_where_it_is_not_the_first_process():
    """There `kill -1` would end all that its user runs."""
    script = "kill() { echo killed; }\n" + entry_script().replace("exec ", "false ")
    done = subprocess.run(
        ["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    assert done.returncode == 70
    assert b"killed" not in done.stdout


async def test_the_events_of_a_session_without_python_are_those_of_any(shell):
    docked = shell()
    heard: list[events.Event] = []
    spec = SandboxSpec(image=busybox_image(), language="bash")
    session = SandboxSession(docked.backend, spec, on_event=heard.append)
    try:
        info = await session.start()
        await session.restart()
        await session.execute("true", on_event=heard.append)
    finally:
        await session.close()
    assert info["implementation"] == "command"
    assert sum(isinstance(event, events.RunnerReady) for event in heard) == 2
