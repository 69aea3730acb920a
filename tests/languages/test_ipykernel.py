"""Python by ipykernel inside a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox_kernel import events
from sandbox_kernel.languages.ipykernel import LANGUAGE
from tests.languages.bridged import bridged_session, interrupted
from tests.support.sessions import BACKENDS, Driver

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=BACKENDS)
async def python(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    async with bridged_session(LANGUAGE, request.param) as driver:
        yield driver


async def test_text_results_and_variables(python):
    await python.run("x = 6")
    cell = await python.run("print('é'); x * 7")
    assert cell.text() == "é\n"
    (result,) = cell.of(events.ResultShown)
    assert result.bundle["text/plain"] == "42"


async def test_an_error_has_its_traceback(python):
    cell = await python.run("1 / 0")
    assert (cell.error.name, cell.error.value) == ("ZeroDivisionError", "division by zero")


async def test_what_children_write_is_shown_once(python):
    cell = await python.run("import os; os.system('echo child'); print('after')")
    assert cell.text().count("child") == 1


async def test_what_a_fork_prints_is_shown(python):
    code = (
        "import os\nif not os.fork():\n    print('forked', flush=True)\n    os._exit(0)\nos.wait()"
    )
    cell = await python.run(code)
    if not cell.text():  # it comes by a way of its own
        await python.heard(events.TextWritten)
    late = [event.text for event in python.late if isinstance(event, events.TextWritten)]
    assert "forked" in cell.text() + "".join(late)


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(600)", "input()"])
async def test_an_interrupt_ends_the_cell_and_variables_stay(python, code):
    await python.run("kept = 42")
    cell = await interrupted(python, f"print('up', flush=True)\n{code}")
    assert cell.outcome.status == "error"
    assert (await python.run("print(kept)")).text() == "42\n"


async def test_displays_keep_their_ids(python):
    cell = await python.run(
        "from IPython.display import display, update_display\n"
        "display(1, display_id='d'); update_display(2, display_id='d')"
    )
    assert cell.of(events.DisplayShown)[0].transient == {"display_id": "d"}
    assert cell.of(events.DisplayUpdated)[0].bundle == {"text/plain": "2"}


async def test_a_name_is_completed_and_inspected(python):
    await python.run("import os")
    assert "getcwd" in str((await python.session.complete("os.getc", 7))["matches"])
    assert (await python.session.inspect("os.getcwd", 9, 0))["found"]


async def test_exit_says_that_variables_are_lost(python):
    await python.run("x = 1")
    cell = await python.run("exit")
    assert "lost" in cell.error.value
    (result,) = (await python.run("'x' in dir()")).of(events.ResultShown)
    assert result.bundle == {"text/plain": "False"}


async def test_the_end_of_the_process_is_told(python):
    cell = await python.run("import os; os._exit(3)")
    assert "exit code 3" in cell.error.value
