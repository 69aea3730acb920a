"""Shell commands beside a session's language: their exit codes, and what lives on."""

import asyncio

import pytest

from sandbox_kernel import events
from sandbox_kernel.languages import SHELL
from sandbox_kernel.limits import MIB
from sandbox_kernel.session.run import _exit_code
from tests.support import docker_engine
from tests.support.busybox import busybox_image


@pytest.mark.parametrize(
    ("command", "exit_code", "said"),
    [
        ("exit 0", 0, ""),
        ("exit 3", 3, "exit code 3"),
        ("false | true", 0, ""),
        ("no-such-program", 127, "exit code 127"),
        ("kill -KILL $$", 137, "SIGKILL"),
        ("kill -TERM $$", 143, "SIGTERM"),
        ("exit 255", 255, "exit code 255"),
    ],
)
async def test_a_commands_exit_code_is_told(open_session, command, exit_code, said):
    driver = await open_session()
    cell = await driver.run(command, runner=SHELL)
    assert cell.outcome.exit_code == exit_code
    assert (cell.outcome.status == "ok") == (exit_code == 0)
    assert not said or said in cell.error.value


async def test_streams_stay_apart_and_nothing_is_added_to_them(open_session):
    driver = await open_session()
    cell = await driver.run("echo out; echo err >&2", runner=SHELL)
    assert (cell.text(), cell.text("stderr")) == ("out\n", "err\n")


async def test_commands_share_files_with_the_language_and_keep_no_variables(open_session):
    driver = await open_session()
    await driver.run("x = 5; open('made', 'w').write('by python')")
    cell = await driver.run(
        "X=7; export X; cat made; echo shell > made; ls -A | wc -l", runner=SHELL
    )
    assert cell.text() == "by python1\n"
    assert (await driver.run("echo [$X]", runner=SHELL)).text() == "[]\n"
    assert (await driver.run("print(x, open('made').read())")).text() == "5 shell\n\n"


async def test_a_timeout_ends_a_command_and_the_variables_live_on(open_session):
    driver = await open_session(interrupt_grace_s=0.3)
    await driver.run("x = 5")
    for command in ("sleep 60", "trap '' INT TERM; while :; do sleep 0.01; done"):
        cell = await driver.run(command, runner=SHELL, timeout_s=0.3)
        assert cell.error.name == "CellTimeout"
        assert "variables survived" in cell.error.value
        assert cell.outcome.exit_code is None
    assert (await driver.run("print(x)")).text() == "5\n"
    assert (await driver.run("echo next", runner=SHELL)).text() == "next\n"


async def test_an_interrupt_ends_a_command(open_session):
    driver = await open_session()

    def stop(event):
        if isinstance(event, events.TextWritten) and "on" in event.text:
            asyncio.get_running_loop().create_task(driver.session.interrupt())

    cell = await driver.run("echo on; sleep 60", stop, runner=SHELL)
    assert cell.error.name == "KeyboardInterrupt"
    assert (await driver.run("echo next", runner=SHELL)).text() == "next\n"


async def test_a_command_longer_than_one_argument_runs(open_session):
    driver = await open_session()
    cell = await driver.run(f"X={'x' * 300_000}\necho ${{#X}}; exit 4", runner=SHELL)
    assert cell.text() == "300000\n"
    assert cell.outcome.exit_code == 4


async def test_a_full_workspace_can_be_cleared_by_a_command(open_session):
    driver = await open_session(workspace_bytes=8 * MIB)
    cell = await driver.run("cat /dev/zero > full 2>/dev/null; echo x > y", runner=SHELL)
    assert cell.outcome.exit_code != 0
    assert (await driver.run("rm full && echo cleared", runner=SHELL)).text() == "cleared\n"


async def test_a_runner_killed_hard_is_told_without_the_shell_as_a_language(open_session):
    driver = await open_session()
    await driver.run("true", runner=SHELL)
    cell = await driver.run("import os; os._exit(3)")
    assert "variables are lost" in cell.error.value
    assert "Shell" not in cell.error.value


async def test_an_image_without_python_runs_commands_beside_its_language(open_session, backend):
    if backend != "docker":
        pytest.skip("bubblewrap: the guest's Python is the host's own, and always there")
    docker_engine.require()
    driver = await open_session(image=busybox_image(), language="bash")
    cell = await driver.run("echo out; exit 3", runner=SHELL)
    assert (cell.text(), cell.text("stderr")) == ("out\n", "")
    assert cell.outcome.exit_code == 3
    assert "one command" in (await driver.run("true")).text("stderr")


@pytest.mark.parametrize("told", [None, True, "0", -1, 256, 2**70, 1.0, [0], {}])
def test_an_exit_code_that_is_none_is_not_believed(told):
    assert _exit_code(told) is None
    assert _exit_code(255) == 255
