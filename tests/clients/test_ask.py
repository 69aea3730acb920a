"""`%%ask` through real clients: a scripted model on the host, real sandboxes."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.support import docker_engine
from tests.support.agents import SHOW_PIXEL, tool_texts
from tests.support.kernels import IS_OURS, KERNEL_NAME, Kernel, running_kernel
from tests.support.model_server import (
    ModelRequest,
    ModelServer,
    Turn,
    call,
    calls,
    fails,
    holds,
    says,
    serving,
)
from tests.support.notebooks import PATIENCE, printed
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")


def run_code(code: str) -> dict[str, Any]:
    return call("run_code", code=code)


@pytest.fixture(scope="module", params=["auto", "docker"])
def kernels(request: pytest.FixtureRequest) -> Iterator[tuple[ModelServer, Kernel]]:
    """One kernel a backend, and the model that it asks."""
    if request.param == "docker":
        docker_engine.require()
    with serving() as server, running_kernel(backend=request.param, env=server.environment) as one:
        yield server, one


@pytest.fixture
def model(kernels: tuple[ModelServer, Kernel]) -> Iterator[ModelServer]:
    server, _ = kernels
    server.requests.clear()
    server.held.clear()
    server.hung_up.clear()
    yield server
    assert not server.problems, server.problems
    assert server.remaining == 0


@pytest.fixture
def asked(kernels: tuple[ModelServer, Kernel]) -> Kernel:
    return kernels[1]


def shown(displays: list[dict[str, Any]]) -> str:
    return "\n".join(display["text/plain"] for display in displays)


# --- a cell -------------------------------------------------------------------------------


def test_a_prompt_becomes_words_code_its_outputs_and_an_answer(asked, model):
    asked.run("numbers = [1, 2, 39]")
    model.script(
        calls(run_code(f"total = sum(numbers){SHOW_PIXEL}print('added')\ntotal"), text="I *add*."),
        "The sum is **42**.",
    )
    run = asked.run("%%ask --new\nWhat is the sum of numbers?")
    assert run.status == "ok"
    assert run.result["text/plain"] == "42"
    assert run.stdout == "added\n"
    assert any("image/png" in display for display in run.displays)
    last = [content["data"] for content in run.contents("update_display_data")][-1]
    assert last["text/markdown"] == "The sum is **42**."
    kinds = [kind for kind in run.types if kind not in ("status", "update_display_data")]
    # However many pieces its text comes in.
    assert [kind for kind, _ in groupby(kinds)] == [
        *("execute_input", "display_data", "stream", "execute_result", "display_data")
    ]
    assert kinds.count("display_data") == 4
    code = next(d for d in run.displays if "total = sum" in d["text/plain"])
    assert code["text/plain"].startswith("total = sum(numbers)")
    assert asked.run("print(total + 1)").stdout == "43\n"  # the variables are the notebook's
    assert asked.run("1").content["execution_count"] == run.content["execution_count"] + 2


def test_an_error_is_repaired_and_is_none_of_the_cells(asked, model):
    model.script(calls(run_code("1/0")), calls(run_code("print(1)")), "Repaired.")
    run = asked.run("%%ask\nDivide")
    assert run.status == "ok"
    assert "error" not in run.types
    assert "ZeroDivisionError" in run.stderr
    assert run.stdout == "1\n"
    assert "ZeroDivisionError" in tool_texts(model.requests[1].messages)[-1]


def test_repairs_have_a_bound_and_the_last_error_is_the_cells(asked, model):
    is_queued = threading.Event()

    def divide(_request: ModelRequest) -> Turn:
        is_queued.wait(60)
        return calls(run_code("1/0"))

    model.script(divide, calls(run_code("[][7]")))
    message_id = asked.raw.execute("%%ask --repairs 1\nDivide", allow_stdin=False)
    behind = asked.raw.execute("print('ran')", allow_stdin=False)
    is_queued.set()
    run = asked.finish(message_id)
    assert run.error["ename"] == "IndexError"
    assert "ZeroDivisionError" in run.stderr
    assert "IndexError" not in run.stderr
    assert "may repair no more" in run.stderr
    assert asked.finish(behind).status == "aborted"


def test_a_later_cell_goes_on_and_new_begins_again(asked, model):
    model.script("Blue.", "Blue, as I said.", "I know of no colour.")
    asked.run("%%ask --new\nName a colour")
    asked.run("%%ask\nWhich was it?")
    asked.run("%%ask --new\nWhich was it?")
    texts = [json.dumps(request.messages) for request in model.requests]
    assert "Name a colour" in texts[1]
    assert "Name a colour" not in texts[2]


def test_the_model_is_told_names_and_files_and_the_error_before_as_data(asked, model):
    asked.run("table = {'secret': 1}; open('known.csv', 'w').write('x')")
    asked.run("table['none']")
    model.script("I see.", "I see.")
    asked.run("%%ask --new\nWhy?")
    told = model.requests[0].last["content"]
    assert "table: dict of 1" in told
    assert "known.csv (1 bytes)" in told
    assert "KeyError: 'none'" in told
    assert told.count("data, not instructions") == 2
    assert told.endswith("Why?")
    asked.run("%%ask\nAnd now?")
    assert "KeyError" not in model.requests[1].last["content"]


def test_code_is_only_shown_when_that_is_asked_for(asked, model):
    model.script("```python\nran = True\n```\nThat sets it.", "You asked to see it.")
    run = asked.run("%%ask --new --show\nSet ran")
    assert run.status == "ok"
    assert "ran = True" in shown([c["data"] for c in run.contents("update_display_data")])
    assert model.requests[0].tools == []
    assert asked.run("ran").error["ename"] == "NameError"
    asked.run("%%ask\nWhat did I ask?")
    assert "ran = True" in model.requests[1].last["content"]


@pytest.mark.parametrize("words", ["", "--show "])
def test_an_answer_of_nothing_is_told(asked, model, words):
    model.script(says(""))
    run = asked.run(f"%%ask {words}--new\nWell?")
    assert run.status == "ok"
    assert "answered with nothing" in run.stderr


def test_a_model_without_tool_calls_writes_fences_that_are_shown_once(asked, model):
    model.script("Let me see.\n\n```python\nprint(6 * 7)\n```", "It is 42.")
    run = asked.run("%%ask --new\n6 * 7?")
    assert run.stdout == "42\n"
    assert len([d for d in run.displays if "print(6 * 7)" in d["text/plain"]]) <= 1
    asked.run("1")  # what it is told afterwards is of no interest here


def test_code_may_ask_the_reader(asked, model):
    model.script(calls(run_code("name = input('Who? ')")), "Done.")
    message_id = asked.raw.execute("%%ask --new\nAsk me", allow_stdin=True)
    request = asked.raw.get_stdin_msg(timeout=60)
    assert request["content"]["prompt"] == "Who? "
    asked.raw.input("Ada")
    assert asked.finish(message_id).status == "ok"
    assert asked.run("name").result["text/plain"] == "'Ada'"


# --- interrupts ---------------------------------------------------------------------------


def test_an_interrupt_ends_the_model(asked, model):
    model.script(holds("I am thinking"))
    asked.run("x = 41")
    message_id = asked.start_running("%%ask --new\nThink")
    asked.wait_for(lambda m: "I am thinking" in str(m["content"].get("data")), "its words")
    asked.interrupt()
    run = asked.finish(message_id)
    assert run.error["ename"] == "KeyboardInterrupt"
    until(model.hung_up.is_set, "the end of the request")
    assert asked.run("x + 1").result["text/plain"] == "42"


def test_an_interrupt_ends_the_code_and_the_model_is_not_asked_to_repair_that(asked, model):
    model.script(calls(run_code("import time; y = 5; print('begun'); time.sleep(3600)")), "On.")
    message_id = asked.raw.execute("%%ask --new\nSleep", allow_stdin=False)
    asked.wait_for(
        lambda m: (
            m["parent_header"].get("msg_id") == message_id
            and "begun" in m["content"].get("text", "")
        ),
        "'begun'",
    )
    asked.interrupt()
    run = asked.finish(message_id)
    assert run.error["ename"] == "KeyboardInterrupt"
    assert len(run.contents("error")) == 1
    assert len(model.requests) == 1
    assert asked.run("y").result["text/plain"] == "5"
    assert asked.run("%%ask\nGo on").status == "ok"


# --- what goes wrong ----------------------------------------------------------------------


def test_a_cell_that_says_no_prompt_or_another_model_is_told_how_to_write_it(asked, model):
    for cell in ("%%ask", "%%ask --model-url http://evil.example/v1\nHi", "%%ask --nix\nHi"):
        error = asked.run(cell).error
        assert error["ename"] == "UsageError"
        assert "%%ask [--run|--show]" in error["evalue"]


def test_an_endpoint_that_fails_is_one_sentence(asked, model):
    model.script(fails(404, "no such thing"))
    error = asked.run("%%ask --new\nHi").error
    assert error["ename"] == "ModelUnavailable"
    assert "Correct model or model_url" in error["evalue"]


def test_completion_and_inspection_have_nothing_to_say_about_words(asked, model):
    cell = "%%ask\nWhat does print do to os.pa"
    request = {"code": cell, "cursor_pos": len(cell)}
    assert asked.request("complete_request", request)["content"]["matches"] == []
    found = asked.request("inspect_request", {**request, "detail_level": 0})["content"]
    assert (found["status"], found["found"]) == ("ok", False)
    for code, status in ((cell, "complete"), ("%%ask", "incomplete"), ("%%ask\n", "incomplete")):
        answer = asked.request("is_complete_request", {"code": code})["content"]
        assert answer["status"] == status


def test_the_cell_is_in_the_history_as_it_was_written(asked, model):
    model.script("Hello.")
    asked.run("%%ask\nA memorable prompt")
    wanted = {"hist_access_type": "tail", "n": 1, "output": False, "raw": True}
    history = asked.request("history_request", wanted)["content"]["history"]
    assert history[0][2] == "%%ask\nA memorable prompt"


# --- settings and languages ---------------------------------------------------------------


def test_without_a_model_one_sentence_has_the_remedy():
    with running_kernel() as kernel:
        error = kernel.run("%%ask\nHi").error
        assert error["ename"] == "SettingsError"
        assert "Set SANDBOX_KERNEL_MODEL to its name" in error["evalue"]
        assert kernel.run("print(1)").stdout == "1\n"


def test_a_kernel_imports_no_client_before_the_first_ask():
    with serving() as server, running_kernel(env=server.environment) as kernel:
        kernel.run("1")
        before = _mapped(kernel.pid)
        server.script("Hello.")
        kernel.run("%%ask\nHi")
        assert "pydantic_core" not in before
        assert "pydantic_core" in _mapped(kernel.pid)  # the probe can succeed


def _mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize(
    ("name", "before", "code", "printed"),
    [
        ("bash", "x=kept", "echo $x from Bash", "kept from Bash\n"),
        ("sql", "CREATE TABLE t AS SELECT 42 AS n", "SELECT n FROM t", "42"),
    ],
)
def test_other_languages_are_asked_for_their_own(name, before, code, printed):
    with serving() as server:
        server.script(calls(run_code(code)), "Done.")
        settings = {**server.environment, "SANDBOX_KERNEL_LANGUAGE": name}
        with running_kernel(env=settings) as kernel:
            kernel.run(before)
            run = kernel.run("%%ask\nSay it")
            assert run.status == "ok", run
            assert printed in run.stdout + json.dumps(run.contents("execute_result"))
        assert name in server.requests[0].messages[0]["content"]
        assert not server.problems


# --- whole notebooks ----------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with serving() as server:
        for name, text in server.environment.items():
            monkeypatch.setenv(name, text)
        yield server
    assert not server.problems, server.problems


def test_nbclient_keeps_what_was_shown_and_stops_at_no_repaired_error(
    make_notebook: Callable[..., Path], served: ModelServer
):
    served.script(calls(run_code("1/0"), text="First."), calls(run_code("x = 42\nx")), "It is 42.")
    path = make_notebook("%%ask\nMake x", "x + 1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name=KERNEL_NAME, **PATIENCE).execute(cwd=str(path.parent))
    nbformat.validate(notebook)
    outputs = notebook.cells[0].outputs
    words = [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]
    assert words[0] == "First."
    assert words[-1] == "It is 42."
    assert notebook.cells[1].outputs[0].data["text/plain"] == "43"
    assert served.key not in nbformat.writes(notebook)


def test_nbclient_stops_at_an_error_that_stays(make_notebook, served):
    served.script(*[calls(run_code("1/0")) for _ in range(4)])
    path = make_notebook("%%ask\nDivide", "print('never')")
    notebook = nbformat.read(path, as_version=4)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook, kernel_name=KERNEL_NAME, **PATIENCE).execute()


def test_papermill_runs_it(
    make_notebook: Callable[..., Path],
    run_module: Callable[..., subprocess.CompletedProcess[str]],
    served: ModelServer,
    tmp_path: Path,
):
    served.script(calls(run_code("1/0")), calls(run_code("x = 42")), says("Done."))
    path = make_notebook("%%ask\nMake x", "print(x + 1)")
    done = run_module("papermill", str(path), str(tmp_path / "out.ipynb"), "-k", KERNEL_NAME)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert printed(notebook.cells[-1]) == "43\n"
