"""What a notebook expects of a cell: results, history, namespaces, await, expressions."""

from __future__ import annotations

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner


def test_a_runner_says_what_it_is(start_runner) -> None:
    info = start_runner("ipython").info
    assert (info["implementation"], info["language"]) == ("ipython", "python")
    assert info["ipython"]
    assert info["version"].count(".") == 2
    assert "IPython" in info["banner"]
    plain = start_runner("plain").info
    assert (plain["implementation"], plain["ipython"]) == ("python", None)
    assert "Python" in plain["banner"]


def test_the_last_expression_is_shown_and_remembered(runner: Runner) -> None:
    assert runner.execute("x = 20\nx + 1").result == "21"
    assert runner.execute("_ * 2").result == "42"
    assert runner.execute("_, __, Out[1], _1, In[2]").result == "(42, 21, 21, 21, '_ * 2')"


def test_none_and_what_ends_with_a_semicolon_are_not_shown(runner: Runner) -> None:
    for code in ("None", "print", "1;", "1; # why", "x = 1", "if 1: 2"):
        cell = runner.execute(code)
        assert (cell.result is None) == (code != "print"), code
    assert runner.execute("'a;'").result == "'a;'"


def test_execution_count_is_the_hosts(runner: Runner) -> None:
    runner.execute("'seven'", execution_count=7)
    assert runner.execute("Out[7], In[7]", execution_count=8).result == "('seven', \"'seven'\")"


def test_silent_and_unstored_cells_leave_no_trace(runner: Runner) -> None:
    cell = runner.execute("kept = 5\n99", silent=True, store_history=False)
    assert cell.kinds == [Kind.REPLY]
    assert runner.execute("98", store_history=False).result == "98"
    assert runner.execute("97").result == "97"
    assert runner.execute("kept, list(Out.values())").result == "(5, [97])"


def test_empty_cells_succeed(runner: Runner) -> None:
    for code in ("", "\n\n", "   ", "# only a comment"):
        assert runner.execute(code).reply["status"] == "ok"


def test_main_looks_like_a_notebooks(runner: Runner) -> None:
    cell = runner.execute(
        "import sys, os\nimport __main__\n"
        "assert __name__ == '__main__' and __main__.__dict__ is globals()\n"
        "assert sys.argv == [''] and '__file__' not in globals()\n"
        "assert sys.path[0] == '' and __main__.__spec__ is None\n"
        "assert not [path for path in sys.path if 'runners' in path or path.endswith('guest')]\n"
        "assert not [name for name in os.environ if name.startswith('SANDBOX')]\n"
        "names = {'framing', 'streams', 'channel', 'cells', 'main', 'server'} & set(sys.modules)\n"
        "sorted(names)"
    )
    assert cell.result == "[]"


def test_modules_in_the_working_directory_are_imported(runner: Runner) -> None:
    runner.execute("open('streams.py', 'w').write('value = 7')")
    assert runner.execute("import streams; streams.value").result == "7"


def test_functions_and_classes_of_cells_find_each_other(runner: Runner) -> None:
    runner.execute("def f(n): return g(n) + 1\nclass C:\n    def m(self): return f(1)")
    runner.execute("def g(n): return n * 10")
    assert runner.execute("C().m()").result == "11"
    assert runner.execute("import pickle; pickle.loads(pickle.dumps(C())).m()").result == "11"
    assert runner.execute("import inspect; inspect.getsource(g)").result == repr(
        "def g(n): return n * 10\n"
    )


def test_future_imports_hold_for_later_cells(runner: Runner) -> None:
    runner.execute("from __future__ import annotations")
    assert runner.execute("def f(x: nowhere): pass\nf.__annotations__").result == "{'x': 'nowhere'}"


def test_a_cell_may_await(runner: Runner) -> None:
    cell = runner.execute(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5\nx = await f()\n"
        "print(x)\nawait f()"
    )
    assert (cell.stdout, cell.result) == ("5\n", "5")
    assert runner.execute("async with asyncio.Lock(): y = x + 1\ny").result == "6"
    assert runner.execute("[i async for i in (j async for j in f2())]\n").reply["status"] == "error"


def test_a_cell_that_awaits_without_naming_asyncio_has_a_loop(runner: Runner) -> None:
    assert runner.execute("async def f(): return 3\nawait f()").result == "3"


def test_a_synchronous_cell_runs_inside_the_loop(runner: Runner) -> None:
    cell = runner.execute(
        "import asyncio\ntask = asyncio.get_running_loop().create_task(asyncio.sleep(0, 'done'))"
    )
    assert cell.reply["status"] == "ok"
    assert runner.execute("await task").result == "'done'"
    assert runner.execute("asyncio.run(asyncio.sleep(0))").error["ename"] == "RuntimeError"


def test_tasks_go_on_between_cells_and_print_into_their_own(runner: Runner) -> None:
    first = runner.execute(
        "import asyncio\nasync def tick():\n    for i in range(3):\n"
        "        print('tick', i); await asyncio.sleep(0.01)\n    display('over')\n"
        "task = asyncio.create_task(tick())"
    )
    runner.wait_for(lambda: bool(first.displays))
    assert first.stdout == "tick 0\ntick 1\ntick 2\n"
    second = runner.execute("print('second'); await asyncio.sleep(0.02)")
    assert second.stdout == "second\n"


def test_a_task_of_an_earlier_cell_prints_into_it_while_a_later_one_runs(runner: Runner) -> None:
    first = runner.execute(
        "import asyncio\ngo = asyncio.Event()\nasync def f():\n    await go.wait(); print('one')\n"
        "task = asyncio.create_task(f())"
    )
    second = runner.execute("print('two'); go.set(); await task; print('three')")
    assert (first.stdout, second.stdout) == ("one\n", "two\nthree\n")


def test_context_variables_keep_what_a_cell_set(runner: Runner) -> None:
    runner.execute("import contextvars\nv = contextvars.ContextVar('v')\nt = v.set('kept')")
    assert runner.execute("v.get()").result == "'kept'"
    runner.execute("import asyncio; v.set('again')")
    assert runner.execute("v.get()").result == "'again'"


@pytest.mark.parametrize(
    "damage",
    [
        "asyncio.get_running_loop().stop()",
        "asyncio.get_running_loop().call_soon(exit)",
        "asyncio.get_running_loop().call_later(0.01, asyncio.get_running_loop().close)",
        "asyncio.create_task(asyncio.sleep(0)).add_done_callback(lambda t: 1/0)",
        "async def f(): raise SystemExit\nt = asyncio.create_task(f())",
        "asyncio.set_event_loop(None)",
    ],
)
def test_nothing_done_to_the_loop_stops_the_runner(runner: Runner, damage: str) -> None:
    runner.execute("import asyncio\n" + damage)
    runner.execute("import time; time.sleep(0.02)")
    cell = runner.execute("import asyncio\nawait asyncio.sleep(0.01)\nprint('alive')")
    assert cell.stdout == "alive\n", cell


def test_user_expressions_are_evaluated_after_success(runner: Runner) -> None:
    cell = runner.execute("x = 2", user_expressions={"double": "x * 2", "bad": "nowhere"})
    double, bad = (cell.reply["user_expressions"][name] for name in ("double", "bad"))
    assert double == {"status": "ok", "data": {"text/plain": "4"}, "metadata": {}}
    assert (bad["status"], bad["ename"]) == ("error", "NameError")
    failed = runner.execute("1/0", user_expressions={"double": "x * 2"})
    assert failed.reply["user_expressions"] == {}


def test_nothing_heavy_is_imported_at_the_start(runner: Runner) -> None:
    cell = runner.execute(
        "import sys\n[n for n in ('asyncio', 'jedi', 'matplotlib', 'numpy', 'sqlite3', 'ctypes',"
        " 'multiprocessing', 'pdb', 'comm', 'ssl') if n in sys.modules]"
    )
    assert cell.result == "[]"
