"""What TypeScript does beyond what JavaScript does: its types go, whatever has to strip them."""

from __future__ import annotations

import pytest

from sandbox_kernel import events
from tests.languages.test_javascript import result_of

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90),
    pytest.mark.parametrize("language_name", ["typescript"], indirect=True),
]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("interface Point { x: number }\nconst p: Point = { x: 1 };\np.x as number", "1"),
        ("enum Color { Red, Green = 5 }\nColor.Green", "5"),
        ("namespace Inner { export const z = 2 }\nInner.z", "2"),
        ("class Q<T> { constructor(public value: T) {} }\nnew Q<string>('v')", "Q { value: 'v' }"),
        ("const later = async <T,>(x: T): Promise<T> => x;\nawait later<number>(4)", "4"),
        ("let u: any = { b: { c: 6 } }; u!.b!.c", "6"),
        ("type Name = string | number; export type { Name }; 7", "7"),
        (
            "abstract class S { abstract a(): number }\n"
            "class T extends S { a() { return 8 } }\nnew T().a()",
            "8",
        ),
        ("{a: 1, b: 'x'}", "{ a: 1, b: 'x' }"),
    ],
)
async def test_types_go_and_the_rest_runs(driver, code, expected):
    assert await result_of(driver, code) == expected


async def test_enums_and_classes_outlive_their_cell(driver):
    for _ in range(2):
        await driver.run(
            "enum Size { Small = 1 }\nclass Box<T> { constructor(readonly held: T) {} }"
        )
        assert await result_of(driver, "new Box<Size>(Size.Small).held") == "1"


async def test_imports_of_types_vanish_and_unused_ones_stay(driver):
    code = "import type { Stats } from 'fs'\nimport { readFileSync, type Dirent } from 'fs'"
    assert (await driver.run(code)).outcome.status == "ok"
    assert await result_of(driver, "typeof readFileSync") == "'function'"


async def test_an_import_of_a_type_without_the_word_is_no_error(driver):
    await driver.session.files.write("shapes.mjs", b"export const side = 3")
    code = "import { Shape, side } from './shapes.mjs'\nconst s: Shape = side;\ns"
    assert await result_of(driver, code) == "3"


@pytest.mark.parametrize("before", ["type A = string", "enum E { A,\n B }"])
async def test_an_error_is_at_the_line_of_the_cell(driver, before):
    code = (
        f"{before};\nfunction fails(x: number): never {{\n  throw new Error('here')\n}}\nfails(1)"
    )
    error = (await driver.run(code, execution_count=2)).error
    line = code.split("\n").index("  throw new Error('here')") + 1
    assert error.traceback[:3] == [f"Cell[2]:{line}:9", "  throw new Error('here')", "        ^"]


async def test_a_syntax_error_shows_where(driver):
    error = (await driver.run("let fine: number = 1;\nlet x: = = 3", execution_count=2)).error
    assert error.name == "SyntaxError"
    assert error.traceback[:3] == ["Cell[2]:2:8", "let x: = = 3", "       ^"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("interface A {", "incomplete"),
        ("function f(x: number): void {", "incomplete"),
        ("let a: number = (1 +", "incomplete"),
        ("let x: = = 3", "invalid"),
        ("const a: number = 1", "complete"),
    ],
)
async def test_whether_code_is_complete(driver, code, status):
    assert (await driver.session.is_complete(code))["status"] == status


async def test_nothing_is_said_of_tools_that_are_experiments(driver):
    cell = await driver.run("const quiet: number = 1; enum Loud { A }")
    assert cell.of(events.TextWritten) == []
