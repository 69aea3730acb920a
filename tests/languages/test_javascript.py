"""What JavaScript does beyond what every language does (see `test_every_runner`)."""

from __future__ import annotations

import asyncio
import json

import pytest

from sandbox_kernel import events
from tests.languages.test_every_runner import ask, interrupt_when_started
from tests.support.sessions import Driver

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90),
    pytest.mark.parametrize("language_name", ["javascript"], indirect=True),
]


async def result_of(driver: Driver, code: str) -> str | None:
    cell = await driver.run(code, execution_count=3)
    assert cell.outcome is not None
    assert cell.outcome.status == "ok", cell.error
    results = cell.of(events.ResultShown)
    return results[0].bundle["text/plain"] if results else None


# --- state ----------------------------------------------------------------------------


async def test_every_declaration_outlives_its_cell_and_can_be_made_again(driver):
    code = "const a = 1; let b = [2]; var c = 3; class D { e() { return a } } "
    code += "function f() { return b }"
    for _ in range(2):
        await driver.run(code)
        assert await result_of(driver, "[a, b, c, new D().e(), f()]") == "[ 1, [ 2 ], 3, 1, [ 2 ] ]"
        await driver.run(f"await null; {code}")
        assert await result_of(driver, "[a, b, c, new D().e(), f()]") == "[ 1, [ 2 ], 3, 1, [ 2 ] ]"


async def test_a_function_sees_what_a_later_cell_makes_of_a_variable(driver):
    await driver.run("let rate = 2; const price = (n) => n * rate")
    await driver.run("let rate = 10")
    assert await result_of(driver, "price(3)") == "30"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("const {p, ...q} = {p: 1, r: 2}; [p, q]", "[ 1, { r: 2 } ]"),
        ("const [s, t = 5] = await Promise.resolve([4]);\n[s, t]", "[ 4, 5 ]"),
        ("if (true) { var inner = await 6 }\ninner", "6"),
        ("for (var i of [1, 2]) await i\ni", "2"),
        ("await 0\nlet none\n(7)", "7"),
        ("await 0\nconst g = () => {}\n(8)", "8"),
        ("await 0; const h = early(); function early() { return 9 }\nh", "9"),
        ("{a: 1}", "{ a: 1 }"),
        ("let x1 = 5", None),
        ("for (let n = 0; n < 3; n++) { n }", None),
        ("const crypto = 12; crypto", "12"),
        ("export const shared = 13; export default shared + 1", "14"),
        ("10n ** 20n", "100000000000000000000n"),
    ],
)
async def test_cells_mean_what_they_say(driver, code, expected):
    assert await result_of(driver, code) == expected


async def test_modules_are_imported_and_required_from_the_workspace(driver):
    await driver.session.files.write("tool.mjs", b"export const two = 2; export default 'whole'")
    await driver.session.files.write("old.js", b"module.exports = { three: 3 }")
    code = "import whole, { two as zwei } from './tool.mjs'\nimport * as path from 'node:path'\n"
    code += "const { three } = require('./old'); const fs = await import('fs');\n"
    code += "[whole, zwei, three, path.sep, typeof fs.statSync]"
    assert await result_of(driver, code) == "[ 'whole', 2, 3, '/', 'function' ]"


async def test_an_import_that_is_not_there_says_so(driver):
    cell = await driver.run("import { nothing } from 'fs'")
    assert "does not provide an export named 'nothing'" in cell.error.value
    cell = await driver.run("import 'no-such-package'")
    assert cell.error.value == "Cannot find package 'no-such-package'"


# --- errors ---------------------------------------------------------------------------


async def test_an_error_shows_its_line_and_the_cells_own_frames(driver):
    code = "function fails() {\n  throw new RangeError('too far')\n}\nfails()"
    error = (await driver.run(code, execution_count=4)).error
    assert (error.name, error.value) == ("RangeError", "too far")
    assert error.traceback == [
        "Cell[4]:2:9",
        "  throw new RangeError('too far')",
        "        ^",
        "",
        "RangeError: too far",
        "    at fails (Cell[4]:2:9)",
        "    at Cell[4]:4:1",
    ]


async def test_columns_are_those_of_the_cell_where_it_was_rewritten(driver):
    error = (await driver.run("await 1\nlet z = 2, y = null.x", execution_count=4)).error
    assert error.traceback[:3] == ["Cell[4]:2:21", "let z = 2, y = null.x", " " * 20 + "^"]


async def test_a_syntax_error_shows_where(driver):
    error = (await driver.run("let fine = 1\nlet = = 2", execution_count=4)).error
    assert error.name == "SyntaxError"
    assert error.traceback[:3] == ["Cell[4]:2:7", "let = = 2", "      ^"]


async def test_what_background_work_throws_is_told_and_variables_stay(driver):
    await driver.run("var kept = 1")
    code = "setTimeout(() => { throw new Error('later') }, 1); Promise.reject(new Error('lost'))\n"
    cell = await driver.run(code + "await new Promise((done) => setTimeout(done, 100))")
    assert cell.outcome.status == "ok"
    assert "Error: later" in cell.text("stderr")
    assert "Uncaught (in promise)" in cell.text("stderr")
    assert await result_of(driver, "kept") == "1"


@pytest.mark.parametrize(
    ("code", "status"), [("process.exit()", "ok"), ("process.exit(3)", "error")]
)
async def test_an_exit_ends_the_cell_and_nothing_else(driver, code, status):
    await driver.run("var kept = 2")
    cell = await driver.run(f"{code}; console.log('not reached')")
    assert cell.outcome.status == status
    assert cell.text() == ""
    assert await result_of(driver, "kept") == "2"


# --- output ---------------------------------------------------------------------------


async def test_console_and_displays_keep_their_order(driver):
    code = "console.log('one'); display.html('<b>two</b>'); console.log('three')"
    cell = await driver.run(code)
    kinds = [type(event) for event in cell.events]
    assert kinds == [events.TextWritten, events.DisplayShown, events.TextWritten]


async def test_values_are_shown_as_what_they_say_they_are(driver):
    code = "const look = () => ({'text/markdown': '*m*', 'application/json': {k: 1}});\n"
    code += "({[Symbol.for('Jupyter.display')]: look})"
    (result,) = (await driver.run(code)).of(events.ResultShown)
    assert result.bundle["text/markdown"] == "*m*"
    assert json.dumps(result.bundle["application/json"]) == '{"k": 1}'


async def test_bytes_of_a_picture_are_shown_as_one(driver, snippets):
    await driver.run(snippets.picture)
    cell = await driver.run("display.image('chart.png'); require('fs').readFileSync('chart.png')")
    assert all("image/png" in shown.bundle for shown in cell.of(events.DisplayShown))
    assert "image/png" in cell.of(events.ResultShown)[0].bundle
    await driver.session.files.remove("chart.png")


async def test_a_display_is_updated_by_its_handle(driver):
    cell = await driver.run("const bar = display('0 %', {id: true}); bar.update('100 %')")
    shown, updated = cell.of(events.DisplayShown)[0], cell.of(events.DisplayUpdated)[0]
    assert shown.transient == updated.transient
    assert updated.bundle["text/plain"] == "'100 %'"


async def test_what_a_timer_prints_later_is_not_lost(driver):
    driver.late.clear()
    code = "const late = setInterval(() => { if (require('fs').existsSync('go')) {"
    await driver.run(code + " clearInterval(late); console.log('late') } }, 10); null")
    await driver.session.files.write("go", b"")
    await driver.heard_lines("late")
    await driver.session.files.remove("go")
    driver.late.clear()


# --- interrupts -----------------------------------------------------------------------

_BUSY = {
    "behind an await": "await 1; for (;;);",
    "in a storm of promises": "for (;;) await null",
    "in a timer's callback": "setTimeout(() => { for (;;); }); await new Promise(() => {})",
    "in a promise's callback": "Promise.resolve().then(() => { for (;;); })",
    "printing": "for (;;) console.log('x'.repeat(100))",
    "in a child": (
        "require('child_process').execSync('echo it started; sleep 1000', {stdio: 'inherit'})"
    ),
    "in a function that sleeps": (
        "const nap = () => new Promise((done) => setTimeout(done, 20));\n"
        "const loop = async () => { for (;;) { await nap(); console.log('tick') } }; await loop()"
    ),
}


@pytest.mark.parametrize("where", _BUSY)
async def test_an_interrupt_reaches_the_program_wherever_it_is(driver, where):
    await driver.run("var kept = 3")
    # A child says itself that it is there: one that is just being made would hear nothing.
    say = "" if "started" in _BUSY[where] else "console.log('started'); "
    cell = await interrupt_when_started(driver, say + _BUSY[where])
    assert cell.error.name == "Interrupted", cell.error
    after = await driver.run("await new Promise((done) => setTimeout(done, 80)); kept")
    assert after.of(events.ResultShown)[0].bundle["text/plain"] == "3"
    assert after.text() == ""


async def test_a_question_can_be_interrupted(driver):
    asked = asyncio.Event()

    def hear(event: events.Event) -> None:
        if isinstance(event, events.InputRequested):
            asked.set()

    async with asyncio.timeout(60):
        running = asyncio.create_task(
            driver.run("prompt('Well?')", on_event=hear, allow_stdin=True)
        )
        await asked.wait()
        await driver.session.interrupt()
        assert (await running).error.name == "Interrupted"
    assert await result_of(driver, "1 + 1") == "2"


# --- questions ------------------------------------------------------------------------


async def test_standard_input_is_asked_of_the_reader(driver):
    code = (
        "const lines = require('readline').createInterface({input: process.stdin});\n"
        "lines.question('Who? ', (who) => { console.log(`It is ${who}`); lines.close() })"
    )
    assert "It is Ada" in (await ask(driver, code, "Ada")).text()


async def test_standard_input_ends_where_nobody_can_answer(driver):
    code = "let all = ''; for await (const part of process.stdin) all += part; [all]"
    cell = await driver.run(code, allow_stdin=False)
    assert cell.of(events.ResultShown)[0].bundle["text/plain"] == "[ '' ]"


# --- completion -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("console.lo", "log"),
        ("point.", "norm"),
        ("'text'.toUpper", "toUpperCase"),
        ("const longName = 1; longN", "longName"),
        ("require('child_p", "child_process"),
        ("import x from 'node:f", "node:fs"),
        ("await Prom", "Promise"),
    ],
)
async def test_names_are_completed(driver, code, expected):
    await driver.run("class Point { norm() {} }; const point = new Point()")
    assert expected in (await driver.session.complete(code, len(code)))["matches"]


async def test_completion_runs_nothing_of_the_program(driver):
    code = "const trap = { get deep() { console.log('ran'); return {} } };\n"
    code += "const traps = { get() { console.log('ran') }, ownKeys() { console.log('ran') } };\n"
    code += "const proxy = new Proxy({}, traps)"
    await driver.run(code)
    driver.late.clear()
    for text in ("trap.", "trap.deep.", "proxy.", "proxy.deep."):
        await driver.session.complete(text, len(text))
        await driver.session.inspect(text, len(text))
    assert (await driver.run("0")).text() == ""
    assert driver.late == []


async def test_a_function_is_inspected(driver):
    await driver.run("function area(width, height = 2) { return width * height }")
    answer = await driver.session.inspect("area(3, ", 8)
    assert answer["found"]
    assert answer["data"]["text/plain"] == "area: function area(width, height = 2)"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("await fetch(", "incomplete"),
        ("`text", "incomplete"),
        ("if (a) {\n  b", "incomplete"),
        ("a +", "incomplete"),
        ("'text", "invalid"),
        ("}", "invalid"),
        ("let a; let a", "invalid"),
        ("import a from 'a'; await a", "complete"),
        ("// only a remark", "complete"),
    ],
)
async def test_whether_code_is_complete(driver, code, status):
    assert (await driver.session.is_complete(code))["status"] == status


# --- what cells may do to each other -------------------------------------------------


async def test_a_cell_may_call_its_own_things_as_globals_are_called(driver):
    await driver.run(
        "class Map {}; class Promise2 {}; var setTimeout = 1, Buffer = 2, process2 = 3"
    )
    assert await result_of(driver, "await 1; [typeof Map, Buffer]") == "[ 'function', 2 ]"
    assert (await driver.run("null.x")).error.name == "TypeError"
    await driver.session.restart()


async def test_children_get_none_of_our_pipes(driver):
    code = "require('child_process').execSync('ls /proc/self/fd', {stdio: 'inherit'}); null"
    for _ in range(3):
        numbers = (await driver.run(code)).text().split()
        assert set(numbers) <= {"0", "1", "2", "3"}, numbers  # 3: what ls reads
