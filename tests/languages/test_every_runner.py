"""What a notebook may expect of every language: the same behaviour, said in each of them."""

from __future__ import annotations

import asyncio
import re

import pytest

from sandbox_kernel import events
from tests.support.sessions import Cell, Driver
from tests.support.snippets import Snippets
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


async def ask(driver: Driver, code: str, answer: str) -> Cell:
    """Run a cell and answer its question."""
    questions: list[events.InputRequested] = []

    def hear(event: events.Event) -> None:
        if isinstance(event, events.InputRequested):
            questions.append(event)
            driver.session.answer_input(answer)

    cell = await driver.run(code, on_event=hear, allow_stdin=True)
    assert len(questions) == 1
    return cell


async def interrupt_when_started(driver: Driver, code: str) -> Cell:
    started = asyncio.Event()

    def hear(event: events.Event) -> None:
        if isinstance(event, events.TextWritten) and "started" in event.text:
            started.set()

    async with asyncio.timeout(60):
        running = asyncio.create_task(driver.run(code, on_event=hear))
        await started.wait()
        await driver.session.interrupt()
        return await running


async def test_text_comes_out_as_it_was_printed(driver: Driver, snippets: Snippets):
    cell = await driver.run(snippets.say)
    assert cell.outcome.status == "ok", cell.events
    assert cell.text() == "héllo ✓ 𝄞\n"
    assert cell.text("stderr") == ""


async def test_variables_and_functions_live_from_cell_to_cell(driver, snippets):
    for _ in range(2):  # a cell can be run again, whatever it declares
        await_defined = await driver.run(snippets.remember)
        assert await_defined.outcome.status == "ok", await_defined.events
        cell = await driver.run(snippets.recall)
        assert cell.text().strip() == "42", cell.events


async def test_the_last_expression_is_the_result(driver, snippets):
    code, text = snippets.value
    if not code:
        pytest.skip("a shell's command has no value")
    cell = await driver.run(code, execution_count=7)
    (result,) = cell.of(events.ResultShown)
    assert result.bundle["text/plain"] == text


async def test_a_silent_cell_shows_no_result(driver, snippets):
    if not snippets.value[0]:
        pytest.skip("a shell's command has no value")
    cell = await driver.run(snippets.value[0], silent=True, store_history=False)
    assert cell.of(events.ResultShown) == []


async def test_ten_thousand_lines_arrive_whole_in_a_few_events(driver, snippets):
    cell = await driver.run(snippets.many)
    assert cell.text().splitlines() == [f"line {i}" for i in range(10_000)]
    # One each 10 ms at most, and a busy machine needs longer, which the receipt says.
    assert len(cell.events) < 200 + cell.outcome.receipt.wall_s / 0.008


async def test_a_failure_names_itself_and_its_line(driver, snippets):
    code, word = snippets.failure
    cell = await driver.run(code, execution_count=5)
    said = " ".join([cell.error.name, cell.error.value, *cell.error.traceback])
    said += cell.text("stderr")  # where a shell tells what went wrong
    assert word in said
    if driver.session.spec.language != "r":  # which knows no lines of what is typed
        assert re.search(r"(line |:|#)3\b", said), said


async def test_what_is_no_code_is_a_failure_and_the_next_cell_runs(driver, snippets):
    cell = await driver.run(snippets.syntax)
    assert cell.outcome.status == "error"
    assert cell.error.name
    assert "variables are lost" not in cell.error.value
    assert (await driver.run(snippets.say)).text() == "héllo ✓ 𝄞\n"


@pytest.mark.parametrize("what", ["busy", "sleep"])
async def test_an_interrupt_ends_the_cell_and_variables_stay(driver, snippets, what):
    await driver.run(snippets.remember)
    for _ in range(2):
        cell = await interrupt_when_started(driver, getattr(snippets, what))
        assert cell.outcome.status == "error"
        assert "lost" not in cell.error.value, cell.error
    assert (await driver.run(snippets.recall)).text().strip() == "42"


async def test_a_question_is_answered(driver, snippets):
    if snippets.ask is None:
        pytest.skip("the language reads nothing")
    cell = await ask(driver, snippets.ask, "Zoë")
    assert "Hello, Zoë!" in cell.text(), cell.events


async def test_a_question_that_nobody_can_answer_ends_the_cell(driver, snippets):
    if snippets.ask is None:
        pytest.skip("the language reads nothing")
    async with asyncio.timeout(DEADLINE_S):
        await driver.run(snippets.ask, allow_stdin=False)
    assert (await driver.run(snippets.say)).outcome.status == "ok"


async def test_what_another_program_prints_is_the_cells(driver, snippets):
    for _ in range(2):
        assert "from a child\n" in (await driver.run(snippets.child)).text()


async def test_output_and_errors_stay_apart(driver, snippets):
    cell = await driver.run(snippets.both)
    assert cell.text() == "to stdout\n"
    assert cell.text("stderr") == "to stderr\n"


async def test_a_picture_that_is_saved_is_shown(driver, snippets):
    cell = await driver.run(snippets.picture)
    assert cell.outcome.status == "ok", cell.events
    assert any("image/png" in display.bundle for display in cell.of(events.DisplayShown))
    await driver.session.files.remove("chart.png")


async def test_the_end_of_the_interpreter_is_told_and_a_fresh_one_follows(driver, snippets):
    await driver.run(snippets.remember)
    cell = await driver.run(snippets.leave)
    assert cell.outcome.status == "error"
    said = cell.error.value
    assert "variables" in said
    assert "lost" in said
    assert (await driver.run(snippets.say)).text() == "héllo ✓ 𝄞\n"


async def test_a_name_is_completed(driver, snippets):
    if snippets.complete is None:
        pytest.skip("the language has no completion")
    code, expected = snippets.complete
    answer = await driver.session.complete(code, len(code))
    start, end = answer["cursor_start"], answer["cursor_end"]
    whole = [code[:start] + match + code[end:] for match in answer["matches"]]
    assert any(expected in text for text in whole), answer


async def test_unfinished_code_is_told_from_finished_code(driver, snippets):
    if snippets.unfinished is None:
        pytest.skip("the language cannot tell")
    assert (await driver.session.is_complete(snippets.unfinished))["status"] == "incomplete"
    assert (await driver.session.is_complete(snippets.say))["status"] == "complete"


async def test_expressions_of_a_front_end_are_evaluated(driver, snippets):
    if snippets.expression is None:
        pytest.skip("the language has no expressions")
    code, text = snippets.expression
    asked = {"good": code, "bad": "no_such_name_here("}
    cell = await driver.run(snippets.say, user_expressions=asked)
    assert text in cell.outcome.user_expressions["good"]["data"]["text/plain"]
    assert cell.outcome.user_expressions["bad"]["status"] == "error"


async def test_cells_that_use_every_sort_of_byte_are_run_as_they_are(driver, snippets):
    """Tabs, carriage returns and a missing end of line."""
    cell = await driver.run(snippets.say + "\r\n\t\n")
    assert "héllo ✓ 𝄞" in cell.text()


async def test_a_receipt_counts_what_the_interpreter_used(driver, snippets):
    cell = await driver.run(snippets.many)
    receipt = cell.outcome.receipt
    assert receipt is not None
    # Bash alone has 3 MiB; the adapter, which is Python, more: both are in the sum.
    assert receipt.peak_memory_bytes > 8 * 1024**2
    assert receipt.cpu_s > 0
    assert receipt.output_bytes == len(cell.text().encode())
