"""PHP: what is its own beside what every language does."""

from __future__ import annotations

import pytest

from sandbox_kernel import events
from tests.languages import scripting
from tests.languages.scripting import bundles, failure, printed, result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def language_name() -> str:
    return "php"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("6 * 7", "42"),
        ("6 * 7;", None),
        ("null", None),
        ("'it' . \"'s\"", r"'it\'s'"),
        ("[1, 'k' => [true, null]]", "[1, 'k' => [true, null]]"),
        ("if (1) { $y = 2; }", None),
        ("$f = function ($x) { return $x * 2; };\n$f(4) // doubled", "8"),
        ("return 5;", "5"),
        ("<?php $t = 3;\n$t", "3"),
        ("match (true) { default => 'm' }", "'m'"),
    ],
)
async def test_a_value_is_shown_where_no_semicolon_ends_it(driver, code, shown):
    assert await result(driver, code) == shown


async def test_a_cell_may_be_a_template(driver):
    await printed(driver, "$name = 'you';")
    assert (
        await printed(driver, "<h1>Hi <?= $name ?></h1>\n<?php $seen = 1; ?>\nend")
        == "<h1>Hi you</h1>\nend"
    )
    assert await result(driver, "$seen") == "1"


async def test_a_definition_runs_again_unchanged(driver):
    for _ in range(2):
        assert (
            await result(
                driver,
                "function same() { return 1; }\nclass Same { const A = 2; }\nsame() + Same::A",
            )
            == "3"
        )


async def test_a_function_that_was_defined_anew_is_what_older_code_calls(driver):
    await printed(
        driver, "function part($n) { return $n; }\nfunction whole() { return part(1) . '!'; }"
    )
    assert await result(driver, "part(1) . whole()") == "'11!'"
    await printed(driver, "function part($n, $m = 5) { return $n + $m; }")
    assert (
        await result(driver, "part(1) . whole() . part(1, 1) . call_user_func('part', 2)")
        == "'66!27'"
    )


@pytest.mark.parametrize(
    ("first", "second", "use", "shown"),
    [
        (
            "function g1() { yield 1; }",
            "function g1() { yield 2; yield 3; }",
            "iterator_to_array(old())",
            "[2, 3]",
        ),
        (
            "function v1(): void { echo 1; }",
            "function v1(): void { echo 2; }",
            "ob_start(); old(); ob_get_clean()",
            "'2'",
        ),
    ],
)
async def test_generators_and_functions_without_value_are_defined_anew_too(
    driver, first, second, use, shown
):
    name = first.split("(")[0].split()[-1]
    await printed(driver, first, f"$old = fn() => {name}();", second)
    assert await result(driver, use.replace("old()", "$old()")) == shown


async def test_references_pass_through_to_the_newer_function(driver):
    await printed(
        driver,
        "function fill(array &$a) { $a[] = 1; }",
        "function user() { $x = []; fill($x); return $x; }",
    )
    await printed(driver, "function fill(array &$a) { $a[] = 2; $a[] = 3; }")
    assert await result(driver, "user()") == "[2, 3]"


async def test_a_class_that_was_defined_anew_is_what_functions_make(driver):
    await printed(
        driver,
        "class Shape { function area() { return 1; } }\nfunction shape() { return new Shape; }",
    )
    await printed(driver, "class Shape { function area() { return 2; } }")
    assert (
        await result(driver, "shape()->area() . (new Shape)->area() . (shape() instanceof Shape)")
        == "'221'"
    )
    assert await result(driver, "class Square extends Shape {}\n(new Square)->area()") == "2"
    assert await result(driver, "new Shape") == "Shape {}"


async def test_what_php_has_itself_cannot_be_defined_and_nothing_is_lost(driver):
    await printed(driver, "$kept = 1;")
    assert "Cannot redeclare strlen" in (await failure(driver, "function strlen() {}")).value
    assert await result(driver, "$kept") == "1"


async def test_imports_last_from_cell_to_cell(driver):
    await printed(driver, "use ArrayObject as Many;")
    assert await result(driver, "count(new Many([1, 2]))") == "2"
    assert await printed(driver, "namespace Own; echo __NAMESPACE__;") == "Own"
    assert await printed(driver, "declare(strict_types=1); echo 1;") == "1"


async def test_warnings_name_the_cell_and_the_line(driver):
    cell = await driver.run("\necho $missing;", execution_count=4)
    assert cell.outcome.status == "ok"
    assert cell.text("stderr") == "Warning: Undefined variable $missing in Cell[4] on line 2\n"


async def test_a_trace_has_the_cells_frames_and_none_of_ours(driver):
    await printed(driver, "function inner() {\n  throw new LogicException('no');\n}")
    error = await failure(driver, "\ninner();")
    assert error.name == "LogicException"
    trace = "\n".join(error.traceback)
    assert "Cell[9]:2 inner()" in trace
    assert "php.php" not in trace


async def test_variables_outlive_fatal_errors_of_the_compiler(driver):
    await printed(driver, "$kept = 2; abstract class Base { abstract function must(); }")
    first = await failure(driver, "class Bad extends Base {}")
    assert first.name == "Fatal error"
    assert "must" in first.value
    for code in ("break;", "class Worse extends Base {}"):
        cell = await driver.run(code)
        assert cell.outcome.status == "error"
        assert "PHP Fatal error" in cell.text("stderr")
    assert await result(driver, "$kept++; $later = 3;", "$kept + $later") == "6"
    assert await result(driver, "function later() { global $later; return $later; } later()") == "3"
    await driver.session.restart()


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("exit;", "ok", ""),
        ("exit(3);", "error", ""),
        ("die('bye');", "ok", "bye"),
        ("false or die('so');", "ok", "so"),
    ],
)
async def test_exit_ends_the_cell_alone(driver, code, status, text):
    await printed(driver, "$kept = 1;")
    cell = await driver.run(f"{code} echo 'on';")
    assert (cell.outcome.status, cell.text()) == (status, text)
    assert await result(driver, "$kept") == "1"


async def test_every_way_to_print_keeps_its_stream(driver):
    cell = await scripting.run(
        driver,
        "echo 1; print 2; printf('%d', 3); fwrite(STDOUT, 4); "
        "file_put_contents('php://stderr', 'e'); var_dump(5);",
    )
    assert cell.text() == "1234int(5)\n"
    assert cell.text("stderr") == "e"


async def test_what_a_cell_buffered_and_forgot_is_printed(driver):
    assert await printed(driver, "ob_start(); echo 'left';") == "left"


async def test_every_way_to_read_asks(driver):
    code = (
        "[fgets(STDIN), readline('Name? '), file_get_contents('php://stdin'), fscanf(STDIN, '%d')]"
    )
    cell = await scripting.answered(driver, code, "a", "b", "c", "42")
    (shown,) = cell.of(events.ResultShown)
    assert "[42]" in shown.bundle["text/plain"]
    assert [question.prompt for question in cell.of(events.InputRequested)] == [
        "",
        "Name? ",
        "",
        "",
    ]


async def test_a_fork_that_runs_past_its_end_is_heard_once(driver):
    if await result(driver, "function_exists('pcntl_fork')") == "false":
        pytest.skip("this PHP cannot fork")
    cell = await scripting.run(
        driver,
        "$kid = pcntl_fork();\nif ($kid) { pcntl_waitpid($kid, $s); } else { echo 'kid'; }\n"
        "$kid ? 'parent' : 0",
    )
    assert [event.bundle["text/plain"] for event in cell.of(events.ResultShown)] == ["'parent'"]
    assert cell.text() == "kid"


async def test_rich_displays(driver):
    code = (
        "class Row { function toHtml() { return '<b>r</b>'; } }\n"
        "Jupyter::json(['a' => 1]);\nnew Row"
    )
    first, second = await bundles(driver, code)
    assert first == {"application/json": {"a": 1}}
    assert second["text/html"] == "<b>r</b>"


async def test_a_file_that_is_not_there_is_missed_in_phps_own_words(driver):
    said = (await driver.run("include 'no/such.php';")).text("stderr")
    assert "include(no/such.php): Failed to open stream: No such file or directory in Cell" in said
    assert "://" not in said


async def test_files_beside_the_cells_are_included(driver):
    await printed(driver, "file_put_contents('lib.php', '<?php function lib() { return 9; }');")
    assert await result(driver, "require_once __DIR__ . '/lib.php'; lib()") == "9"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("$tot", "total"),
        ("$list->cou", "count"),
        ("ArrayObject::ST", "STD_PROP_LIST"),
        ("array_su", "array_sum"),
    ],
)
async def test_completion_knows_variables_members_and_functions(driver, code, match):
    await printed(driver, "$total = 1; $list = new ArrayObject;")
    assert match in await scripting.completions(driver, code)


async def test_inspection_tells_signature_and_place(driver):
    await printed(driver, "function area(int $width, int $height = 1): int { return 1; }")
    said = await scripting.described(driver, "area")
    assert "int $height = 1" in said
    assert "Cell[" in said
    assert await scripting.described(driver, "no_such_name") == ""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("if (1) {", "incomplete"),
        ("$x =", "incomplete"),
        ("echo 'a", "incomplete"),
        ("x )", "invalid"),
        ("$x = 1", "complete"),
    ],
)
async def test_php_itself_says_what_is_unfinished(driver, code, status):
    assert await scripting.completeness(driver, code) == status
