"""Lua: what is its own beside what every language does."""

from __future__ import annotations

import pytest

from sandbox_kernel import events
from tests.languages import scripting
from tests.languages.scripting import bundles, failure, printed, result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def language_name() -> str:
    return "lua"


async def test_locals_outside_of_blocks_live_on(driver):
    await printed(
        driver,
        "local a, b = 1, 2\nlocal function f() return a + b end\nlocal c <const> = 3\nlocal d",
    )
    assert await result(driver, "f(), c, d") == "3\t3\tnil"


@pytest.mark.parametrize(
    "code",
    [
        "do local hidden = 1 end",
        "for i = 1, 2 do local hidden = i end",
        "local function g() local hidden = 1 return hidden end g()",
        "if false then local x = 1 elseif true then local hidden = 1 else local hidden = 2 end",
        "repeat local hidden = 1 until hidden",
        "s = 'local hidden = 1' --[[ local hidden = 2 ]] t = [[\nlocal hidden = 3]]",
    ],
)
async def test_locals_of_blocks_and_what_only_looks_like_one_stay_there(driver, code):
    assert await result(driver, code, "hidden") is None


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("6 * 7", "42"),
        ("1, 'two', nil", "1\ttwo\tnil"),
        ("local t = {1, k = {2}}\nt", "{1, k = {2}}"),
        ("x = 3\nmath.max(\n  x,\n  9\n)", "9"),
        ("x = 1\ny = 2", None),
        ("for i = 1, 2 do\n  x = i\nend", None),
        ("return 1, 2", "1\t2"),
        ("setmetatable({}, {__tostring = function() return 'own' end})", "own"),
        ("local loop = {} loop.me = loop\nloop", "{me = {...}}"),
        ("#'é'", "2"),
    ],
)
async def test_an_expression_at_the_end_is_the_result(driver, code, shown):
    assert await result(driver, code) == shown


async def test_a_block_at_the_end_runs_whole(driver):
    assert await printed(driver, "for i = 1, 3 do\n  print(i)\nend") == "1\n2\n3\n"


async def test_every_way_to_print_keeps_its_stream(driver):
    cell = await scripting.run(
        driver, "print(1, nil) io.write(2, 'a') io.stdout:write(3):write(4) io.stderr:write('e')"
    )
    assert cell.text() == "1\tnil\n2a34"
    assert cell.text("stderr") == "e"


async def test_a_trace_has_the_cells_frames_and_none_of_ours(driver):
    await printed(driver, "function inner()\n  error('no')\nend\nfunction outer() inner() end")
    error = await failure(driver, "\nouter()\nprint('after')")
    trace = "\n".join(error.traceback)
    assert ":2: no" in error.value
    assert "in function 'inner'" in trace
    assert "Cell[9]:2: in the cell" in trace
    assert "lua.lua" not in trace
    assert "pcall" not in trace


async def test_a_table_that_was_thrown_is_shown(driver):
    assert (await failure(driver, "error({code = 5})")).value == "{code = 5}"


async def test_interrupts_come_through_as_often_as_they_are_sent(driver):
    await printed(driver, "kept = 1")
    for code in (
        "print('up') while true do end",
        "print('up') os.execute('sleep 1000') print('on')",
    ) * 2:
        cell = await scripting.interrupted(driver, code)
        assert cell.error.name == "Interrupted"
        assert "on" not in cell.text().split()
    assert await result(driver, "kept") == "1"


@pytest.mark.parametrize(
    ("code", "status"), [("os.exit()", "ok"), ("os.exit(3)", "error"), ("os.exit(false)", "error")]
)
async def test_exit_ends_the_cell_alone(driver, code, status):
    await printed(driver, "kept = 1")
    assert (await driver.run(f"{code} print('on')")).outcome.status == status
    assert await result(driver, "kept") == "1"


async def test_children_print_to_the_cell_that_started_them(driver):
    for _ in range(2):
        cell = await scripting.run(
            driver,
            "os.execute('echo out; echo err >&2')\n"
            "local p = io.popen('cat', 'w') p:write('in') p:close()",
        )
        assert sorted(cell.text().split()) == ["in", "out"]
        assert cell.text("stderr") == "err\n"
    assert await result(driver, "io.popen('echo read'):read('a')") == "read\n"


async def test_every_way_to_read_asks(driver):
    code = (
        "local n = io.read('n')\nlocal rest = io.read()\n"
        "for line in io.lines() do return n, rest, line, io.stdin:read('L') end"
    )
    cell = await scripting.answered(driver, code, "42 left", "b", "c")
    (shown,) = cell.of(events.ResultShown)
    assert shown.bundle["text/plain"] == "42\t left\tb\tc\n"


async def test_rich_displays(driver):
    code = "Jupyter.json('{\"a\": 1}')\nrow = {to_html = function() return '<b>r</b>' end}\nrow"
    first, second = await bundles(driver, code)
    assert first == {"application/json": {"a": 1}}
    assert second["text/html"] == "<b>r</b>"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("tot", "total"),
        ("string.re", "rep"),
        ("conf.na", "name"),
        ("io.stdout:wr", "write"),
        ("whi", "while"),
    ],
)
async def test_completion_knows_globals_and_fields(driver, code, match):
    await printed(driver, "local total = 1 conf = {name = 1}")
    assert match in await scripting.completions(driver, code)


async def test_inspection_tells_signature_and_place(driver):
    await printed(driver, "function area(width, ...) return width end")
    assert "function area(width, ...)" in await scripting.described(driver, "area")
    assert await scripting.described(driver, "no_such_name") == ""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("if x then", "incomplete"),
        ("{1,", "incomplete"),
        ("[[a\nb", "incomplete"),
        ("end", "invalid"),
        ("local x = 1", "complete"),
    ],
)
async def test_lua_itself_says_what_is_unfinished(driver, code, status):
    assert await scripting.completeness(driver, code) == status
