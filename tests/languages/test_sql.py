"""SQL: what both engines do alike, what each does alone, and the same in real sandboxes."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox_kernel import events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.guest import framing
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.guest.runners.sql import tables, text
from sandbox_kernel.guest.runners.sql.engine import Column, Rows
from sandbox_kernel.guest.runners.sql.values import in_text, width
from sandbox_kernel.limits import Limits
from tests.guest_runners.support import Cell, Runner, old_python, this_python
from tests.support import docker_engine
from tests.support.sessions import BACKENDS, Driver
from tests.support.waiting import PATIENCE_S

MAIN = Path(framing.__file__).parent / "runners" / "sql" / "__main__.py"
FOREVER = {
    "DuckDB": "SELECT count(*) FROM range(10000000000) a, range(99) b WHERE a.range % 7 = b.range",
    "SQLite": (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1e15) "
        "SELECT count(*) FROM c"
    ),
}


def start(engine: str, directory: Path) -> Runner:
    """A runner on that engine. SQLite: one without packages, on the oldest Python there is."""
    if engine == "SQLite":
        python = old_python() or this_python()
        return Runner(python, directory, {}, ("-S",), main=MAIN)
    if importlib.util.find_spec("duckdb") is None:
        pytest.skip("this environment has no duckdb")
    return Runner(this_python(), directory, {}, main=MAIN)


@pytest.fixture(params=["DuckDB", "SQLite"])
def sql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runner]:
    """A runner on each engine."""
    runner = start(request.param, tmp_path)
    assert runner.info["implementation"] == request.param
    yield runner
    runner.close()


@pytest.fixture
def duckdb(tmp_path: Path) -> Iterator[Runner]:
    runner = start("DuckDB", tmp_path)
    yield runner
    runner.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Runner]:
    runner = start("SQLite", tmp_path)
    yield runner
    runner.close()


def rows(cell: Cell) -> list[list[str]]:
    """The cells of the result's table in text, without its head."""
    assert cell.result is not None, cell
    lines = cell.result.splitlines()[2:]
    return [[each.strip() for each in line.split("│")] for line in lines]


# --- statements ---


def test_tables_live_from_cell_to_cell(sql: Runner):
    cell = sql.execute("CREATE TABLE t (a INTEGER, b VARCHAR);\nINSERT INTO t VALUES (1, 'x;y')")
    assert cell.stdout == "CREATE TABLE: done.\n1 row changed.\n"
    assert rows(sql.execute("SELECT * FROM t -- the end")) == [["1", "x;y"]]
    assert sql.execute("UPDATE t SET a = 2; DELETE FROM t").stdout == "1 row changed.\n" * 2


def test_the_last_select_is_the_result_and_earlier_ones_are_displays(sql):
    cell = sql.execute("SELECT 1 AS first; SELECT 2 AS second;")
    assert [each["data"]["text/plain"].split()[0] for each in cell.displays] == ["first"]
    assert cell.result.split()[0] == "second"
    assert cell.kinds.index(Kind.DISPLAY) < cell.kinds.index(Kind.RESULT)


def test_a_silent_cell_runs_and_shows_nothing(sql):
    cell = sql.execute("CREATE TABLE s AS SELECT 1 AS a; SELECT * FROM s", silent=True)
    assert cell.kinds == [Kind.REPLY]
    assert rows(sql.execute("SELECT * FROM s")) == [["1"]]


@pytest.mark.parametrize("code", ["", " \n", "-- nothing", "/* nothing */;;"])
def test_a_cell_may_do_nothing(sql, code):
    assert sql.execute(code).reply["status"] == "ok"


def test_a_transaction_lives_from_cell_to_cell(sql):
    sql.execute("CREATE TABLE t (a INTEGER); BEGIN; INSERT INTO t VALUES (1)")
    assert rows(sql.execute("SELECT count(*) FROM t")) == [["1"]]
    sql.execute("ROLLBACK")
    assert rows(sql.execute("SELECT count(*) FROM t")) == [["0"]]


def test_a_database_in_the_workspace_keeps_what_it_is_given(sql, tmp_path):
    sql.execute("ATTACH 'kept.db' AS kept; CREATE TABLE kept.t AS SELECT 7 AS a; DETACH kept")
    assert (tmp_path / "kept.db").stat().st_size
    assert rows(sql.execute("ATTACH 'kept.db' AS again; SELECT a FROM again.t")) == [["7"]]


def test_expressions_are_evaluated(sql):
    asked = {"sum": "6 * 7", "none": "NULL", "bad": "no_such_column"}
    found = sql.execute("SELECT 1", user_expressions=asked).reply["user_expressions"]
    assert found["sum"]["data"] == {"text/plain": "42"}
    assert found["none"]["data"] == {"text/plain": "NULL"}
    assert found["bad"]["status"] == "error"


# --- errors ---


@pytest.mark.parametrize(
    ("code", "word", "place"),
    [
        (
            "SELECT 1;\n\nSELECT *\nFROM nowhere",
            "nowhere",
            "Cell[1], line 4\n    FROM nowhere\n         ^^^^^^^",
        ),
        ("SELECT 1,\n  2 + nothing", "nothing", "line 2\n      2 + nothing\n          ^^^^^^^"),
        ("SELECT no_such(1)", "no_such", "line 1\n    SELECT no_such(1)\n           ^^^^^^^"),
    ],
)
def test_an_error_shows_the_place_in_the_cell(sql, code, word, place):
    error = sql.execute(code).error
    assert word in error["evalue"]
    assert place in "\n".join(error["traceback"])
    assert sql.execute("SELECT 1").reply["status"] == "ok"


def test_a_syntax_error_shows_the_place_in_the_cell(sql):
    error = sql.execute("SELECT 1;\nSELEC 2").error
    assert "syntax error" in error["evalue"]
    assert "line 2\n    SELEC 2\n    ^^^^^" in "\n".join(error["traceback"])


def test_statements_before_the_failing_one_have_run_and_later_ones_have_not(sql):
    sql.execute(
        "CREATE TABLE a AS SELECT 1 AS x; SELECT * FROM nowhere; CREATE TABLE b (x INTEGER)"
    )
    assert rows(sql.execute("SELECT x FROM a")) == [["1"]]
    assert sql.execute("SELECT * FROM b").reply["status"] == "error"


# --- interrupts ---


def test_an_interrupt_ends_a_statement_and_tables_stay(sql):
    sql.execute("CREATE TABLE kept AS SELECT 1 AS a")
    for _ in range(2):
        cell = sql.begin(f"SELECT 'started' AS s; {FOREVER[sql.info['implementation']]}")
        sql.wait_for(lambda cell=cell: bool(cell.displays))
        sql.interrupt()
        assert sql.finish(cell).error["ename"] == "Interrupted"
    assert rows(sql.execute("SELECT a FROM kept")) == [["1"]]


def test_an_interrupt_between_cells_does_nothing(sql):
    for _ in range(3):
        sql.interrupt()
        assert sql.execute("SELECT 1").reply["status"] == "ok"


def test_an_interrupt_is_heard_right_at_the_start(sql):
    cell = sql.begin(FOREVER[sql.info["implementation"]])
    is_over = threading.Event()

    def press() -> None:
        sql.interrupt()  # which ends nothing, if the runner has not taken the cell yet
        while not is_over.wait(0.2):
            sql.interrupt()

    presser = threading.Thread(target=press)
    presser.start()
    try:
        assert sql.finish(cell).error["ename"] == "Interrupted"
    finally:
        is_over.set()
        presser.join()


# --- files of the workspace ---


def test_csv_and_json_files_are_tables_under_their_names(sql, tmp_path):
    (tmp_path / "people.csv").write_text('id,name,size\n1,Ada,1.5\n2,"B, é",\n')
    (tmp_path / "more.json").write_text('[{"id": 1, "tag": "x"}, {"id": 2, "tag": "y"}]')
    cell = sql.execute("SELECT p.name, m.tag FROM 'people.csv' p JOIN 'more.json' m USING (id)")
    assert sorted(rows(cell)) == [["Ada", "x"], ["B, é", "y"]]
    assert rows(sql.execute("SELECT sum(size), count(size) FROM 'people.csv'")) == [["1.5", "1"]]


def test_a_file_that_has_changed_is_read_again(sql, tmp_path):
    for number in (1, 22):
        (tmp_path / "n.csv").write_text(f"n\n{number}\n")
        assert rows(sql.execute("SELECT n FROM 'n.csv'")) == [[str(number)]]


def test_a_file_that_is_missing_is_an_error_with_its_name(sql):
    assert "gone.csv" in sql.execute("SELECT * FROM 'gone.csv'").error["evalue"]


def test_sqlite_says_why_a_file_is_no_table(sqlite, tmp_path):
    (tmp_path / "bad.json").write_text('{"a": ')
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("bad.json", "list.json"):
        error = sqlite.execute(f"SELECT * FROM '{name}'").error
        assert error["ename"] == "FileError"
        assert name in error["evalue"]


def test_sqlite_keeps_text_that_only_looks_like_numbers(sqlite, tmp_path):
    (tmp_path / "codes.tsv").write_text("code\ta\ta\n01234\t1\t\n00001\t2\t3\n")
    cell = sqlite.execute("SELECT code, a, a_2 FROM 'codes.tsv'")
    assert rows(cell) == [["01234", "1", "NULL"], ["00001", "2", "3"]]


def test_duckdb_writes_and_reads_parquet(duckdb, tmp_path):
    duckdb.execute("COPY (SELECT 5 AS a) TO 'five.parquet'")
    assert rows(duckdb.execute("FROM 'five.parquet'")) == [["5"]]
    assert {path.name for path in tmp_path.iterdir()} == {"five.parquet"}  # no `.tmp` of its own


# --- values and tables ---


def test_null_html_and_control_characters_are_told_from_text(sql):
    cell = sql.execute("SELECT NULL AS n, 'NULL' AS t, '<b>&' AS h, 'a\nb\x1b[31m' AS c")
    html = cell.metas(Kind.RESULT)[0]["data"]["text/html"]
    assert "<i>NULL</i>" in html
    assert "&lt;b&gt;&amp;" in html
    assert rows(cell) == [["NULL", "NULL", "<b>&", "a\\nb\\x1b[31m"]]


def test_numbers_are_right_aligned(sql):
    cell = sql.execute("SELECT 5 AS number, 'x' AS txt UNION ALL SELECT 1234567, 'y' ORDER BY 1")
    assert cell.result.splitlines()[2] == "      5 │ x"
    html = cell.metas(Kind.RESULT)[0]["data"]["text/html"]
    assert '<td style="text-align: right">5</td><td style="text-align: left">x</td>' in html


def test_of_a_long_result_the_first_rows_are_shown_and_all_are_counted(sql):
    sql.execute(
        "CREATE TABLE long AS WITH RECURSIVE c(x) AS "
        "(SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2345) SELECT x FROM c"
    )
    lines = sql.execute("SELECT x FROM long ORDER BY x").result.splitlines()
    assert lines[-1] == "… 2,345 rows, of which the first 50 are shown"
    assert len(lines) == 53
    assert len(rows(sql.execute("SELECT x FROM long LIMIT 60"))) == 60
    assert sql.execute("SELECT x FROM long WHERE x < 0").result.endswith("(no rows)")


def test_duckdbs_values_are_printed_as_duckdb_has_them(duckdb):
    cell = duckdb.execute(
        "SELECT 1.50::DECIMAL(5, 2), DATE '-infinity', INTERVAL '1 month 2 hours', [1, NULL],"
        " {'a': 'x'}, '\\x01ab'::BLOB, true, 0.1::FLOAT, 'nan'::DOUBLE,"
        " TIMESTAMPTZ '2020-01-01 10:00:00+00' AT TIME ZONE 'UTC',"
        " TIMESTAMP_NS '2020-01-01 10:00:00.123456789', 170141183460469231731687303715884105727"
    )
    assert rows(cell)[0] == [
        *("1.50", "-infinity", "1 month 02:00:00", "[1, NULL]"),
        *("{'a': x}", "\\x01ab", "true", "0.1", "nan"),
        *("2020-01-01 10:00:00", "2020-01-01 10:00:00.123456789"),
        "170141183460469231731687303715884105727",
    ]


def test_duckdb_knows_no_variables_of_the_runners_own(duckdb):
    for name in ("code", "statement", "query", "relation"):
        error = duckdb.execute(f"SELECT * FROM {name}").error
        assert error["ename"] == "CatalogException"


def test_duckdb_uses_all_cpus_there_are(duckdb):
    cell = duckdb.execute("SELECT current_setting('threads')")
    assert rows(cell) == [[str(len(os.sched_getaffinity(0)))]]


def test_sqlite_says_once_that_it_is_not_duckdb(sqlite):
    assert "duckdb is not installed" in sqlite.execute("SELECT 1").stderr
    assert sqlite.execute("SELECT 1").stderr == ""


def test_sqlites_triggers_are_one_statement(sqlite):
    sqlite.execute(
        "CREATE TABLE t (a); CREATE TRIGGER r AFTER INSERT ON t BEGIN "
        "UPDATE t SET a = a + 1; SELECT 1; END; INSERT INTO t VALUES (1);"
    )
    assert rows(sqlite.execute("SELECT a FROM t")) == [["2"]]


def table(columns: int, count: int, value: Any = "x") -> tables.Table:
    found = Rows([Column(f"c{i}") for i in range(columns)], [[(value,) * columns] * count])
    return tables.read(found)


def test_wide_tables_and_long_texts_are_cut_and_say_so():
    shown = table(130, 1)
    assert tables.to_text(shown).endswith("… and 30 more columns")
    assert tables.to_html(shown).count("<td") == 100
    assert len(tables.to_html(table(50, 1000, "y" * 10_000))) < 600_000
    assert in_text("z" * 100, 10) == "z" * 9 + "…"


def test_endless_results_are_not_read_to_the_end():
    def batches() -> Iterator[list[tuple[int]]]:
        while True:
            yield [(1,)] * 2048

    shown = tables.read(Rows([Column("n", True)], batches()))
    assert "more than 100,000 rows" in tables.to_text(shown)


def test_wide_characters_keep_their_columns():
    assert [width(each) for each in ("ab", "日本", "é", "e\u0301")] == [2, 4, 1, 1]


# --- what a front end asks ---


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("SELECT na", "name"),
        ("SELECT p.ful", '"full name"'),
        ("SELECT * FROM peo", "people"),
        ("sel", "select"),
        ("SEL", "SELECT"),
        ("SELECT upp", "upper"),
        ("SELECT * FROM 'da", "data.csv"),
        ("SELECT * FROM 'folder/in", "folder/inner.csv"),
    ],
)
def test_tables_columns_functions_keywords_and_files_are_completed(sql, tmp_path, code, match):
    (tmp_path / "data.csv").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.csv").touch()
    sql.execute('CREATE TABLE people (id INTEGER, name VARCHAR, "full name" VARCHAR)')
    rest = " FROM people AS p" if "p.ful" in code else ""
    answer = sql.ask(Kind.COMPLETE, code + rest, cursor_pos=len(code))
    assert match in answer["matches"]
    assert answer["cursor_end"] == len(code)


def test_a_table_is_described(sql):
    sql.execute("CREATE TABLE people (id INTEGER NOT NULL, name VARCHAR)")
    answer = sql.ask(Kind.INSPECT, "SELECT * FROM people", cursor_pos=16)
    assert "INTEGER" in answer["data"]["text/plain"]
    assert not sql.ask(Kind.INSPECT, "SELECT nothing", cursor_pos=9)["found"]


def test_duckdbs_functions_are_described(duckdb):
    answer = duckdb.ask(Kind.INSPECT, "SELECT upper(x)", cursor_pos=9)
    assert "upper case" in answer["data"]["text/plain"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SELECT 1", "incomplete"),
        ("SELECT 1; -- end", "complete"),
        ("SELECT 'a;", "incomplete"),
        ("SELECT 1; SELECT 2", "incomplete"),
        ("/* open;", "incomplete"),
        ("", "complete"),
    ],
)
def test_a_semicolon_ends_what_is_typed_in_a_console(sql, code, status):
    assert sql.ask(Kind.IS_COMPLETE, code)["status"] == status


def test_semicolons_in_strings_and_comments_end_nothing():
    code = "a ';' \";\" -- ;\n/* ; */ $$ ; $$ $t$ ; $$ $t$;b"
    assert text.ends(code) == [len(code) - 1]


# --- in sandboxes ---


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    image = None
    if request.param == "docker":
        docker_engine.require()
        docker_engine.require_image(image := "sandbox-kernel/python")
    limits = Limits(memory_bytes=1024**3, interrupt_grace_s=PATIENCE_S)
    spec = SandboxSpec(language="sql", limits=limits, image=image)
    driver = Driver(request.param, spec, "safe")
    try:
        await driver.session.start()
        yield driver
    finally:
        await driver.session.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_sandbox_answers_in_tables_that_the_safe_policy_shows(sandbox: Driver):
    await sandbox.session.files.write("d.csv", "id,name\n1,Zoë\n".encode())
    cell = await sandbox.run("SELECT id, name, NULL AS n FROM 'd.csv'")
    [result] = cell.of(events.ResultShown)
    assert "Zoë" in result.bundle["text/plain"]
    html = str(result.bundle["text/html"])
    assert "<i>NULL</i>" in html
    assert "text-align: right" in html
    assert "<iframe" not in html


@pytest.mark.asyncio(loop_scope="module")
async def test_an_interrupt_in_a_sandbox_keeps_the_tables(sandbox: Driver):
    await sandbox.run("CREATE TABLE kept AS SELECT 1 AS a")
    started = asyncio.Event()
    code = f"SELECT 'started' AS s; {FOREVER['SQLite']}"
    async with asyncio.timeout(60):
        running = asyncio.create_task(sandbox.run(code, on_event=lambda _: started.set()))
        await started.wait()
        await sandbox.session.interrupt()
        cell = await running
    assert cell.error.name == "Interrupted"
    assert (await sandbox.run("SELECT a FROM kept")).outcome.status == "ok"


@pytest.mark.asyncio(loop_scope="module")
async def test_duckdb_plans_with_a_part_of_the_sandboxs_memory(sandbox: Driver):
    """Then it spills to disk, or says that memory is short, before the sandbox kills it."""
    cell = await sandbox.run("SELECT current_setting('memory_limit') AS m")
    if cell.outcome.status != "ok":
        pytest.skip("the image has SQLite only, which has no such limit")
    [result] = cell.of(events.ResultShown)
    assert re.search(r"61[34]\.\d MiB", result.bundle["text/plain"])
