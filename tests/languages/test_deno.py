"""Deno's own Jupyter kernel inside a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox_kernel import events
from sandbox_kernel.languages.deno import LANGUAGE
from tests.languages.bridged import bridged_session, interrupted
from tests.support.sessions import BACKENDS, Driver

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=BACKENDS)
async def deno(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    async with bridged_session(LANGUAGE, request.param) as driver:
        yield driver


async def test_typescript_runs_and_variables_stay(deno):
    await deno.run("const x: number = 6")
    cell = await deno.run("console.log('é'); x * 7")
    assert cell.text() == "é\n"
    (result,) = cell.of(events.ResultShown)
    assert "42" in result.bundle["text/plain"]


async def test_nothing_of_a_cell_comes_after_its_end(deno):
    code = "await Deno.jupyter.display({'text/plain': 'd'}, {raw: true}); console.log('t'); 5"
    for _ in range(30):
        cell = await deno.run(code)
        assert [type(event).__name__ for event in cell.events] == [
            *("DisplayShown", "TextWritten", "ResultShown"),
        ]


async def test_html_is_shown(deno):
    (result,) = (await deno.run("Deno.jupyter.html`<b>x</b>`")).of(events.ResultShown)
    assert "<b>x</b>" in result.bundle["text/html"]


async def test_an_error_names_itself(deno):
    cell = await deno.run("throw new TypeError('boom')")
    assert (cell.error.name, cell.error.value) == ("TypeError", "boom")


async def test_an_interrupt_ends_a_loop_and_variables_stay(deno):
    """Natively, SIGINT ends Deno."""
    await deno.run("const kept = 42")
    for _ in range(2):
        cell = await interrupted(deno, "console.log('up'); while (true) {}")
        assert cell.error.name == "Interrupted"
    assert (await deno.run("console.log(kept)")).text() == "42\n"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_what_cannot_be_interrupted_is_ended_and_told(backend):
    waiting = "await new Promise(() => { setTimeout(() => {}, 1e6); console.log('up'); })"
    async with bridged_session(LANGUAGE, backend, interrupt_grace_s=1) as deno:
        cell = await interrupted(deno, waiting)
        assert "variables" in cell.error.value
        assert (await deno.run("console.log(1)")).text() == "1\n"


async def test_files_of_the_workspace_are_there(deno):
    cell = await deno.run("Deno.writeTextFileSync('a.txt', 'x'); Deno.readTextFileSync('a.txt')")
    assert "x" in cell.of(events.ResultShown)[0].bundle["text/plain"]
    assert [entry.name for entry in (await deno.session.files.list())[:5]] == ["a.txt"]


async def test_the_end_of_the_process_is_told(deno):
    cell = await deno.run("Deno.exit(3)")
    assert "exit code 3" in cell.error.value
