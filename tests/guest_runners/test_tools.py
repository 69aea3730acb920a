"""The module `tools` of the Python runner: frames out, answers in, whoever waits."""

from __future__ import annotations

import json
from typing import Any

from sandbox_kernel.guest import framing
from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Cell, Runner

SEARCH = {
    "name": "search",
    "signature": "search(query: str, limit: int = 3) -> list",
    "doc": "Find pages.",
    "returns": "list",
    "parameters": [
        {"name": "query", "kind": "POSITIONAL_OR_KEYWORD", "hint": "str"},
        {"name": "limit", "kind": "POSITIONAL_OR_KEYWORD", "hint": "int", "default": "3"},
    ],
}


def offer(runner: Runner, concurrency: int = 2) -> None:
    assert runner.info["tools"] is True
    meta = {"tools": [SEARCH], "concurrency": concurrency}
    runner.finish(runner.request(Kind.TOOLS, meta=meta))


def calls(runner: Runner, cell: Cell, count: int) -> list[tuple[int, Any]]:
    """Numbers and arguments of the calls so far, once there are `count`."""
    runner.wait_for(lambda: len(cell.of(Kind.TOOL_CALL)) >= count)
    return [
        (frame.read_meta()["call"], json.loads(frame.data)) for frame in cell.of(Kind.TOOL_CALL)
    ]


def reply(runner: Runner, call: int, value: Any, is_ok: bool = True) -> None:
    meta = {"call": call, "ok": is_ok}
    data = json.dumps(value).encode()
    runner._input.sendall(framing.pack(Kind.TOOL_REPLY, runner.latest, meta, data))


def test_a_call_is_a_frame_and_its_answer_the_value(runner: Runner) -> None:
    offer(runner)
    cell = runner.begin("print(tools.search('a', limit=2))")
    [(call, arguments)] = calls(runner, cell, 1)
    assert arguments == {"args": ["a"], "kwargs": {"limit": 2}}
    reply(runner, call, ["x"])
    assert runner.finish(cell).stdout == "['x']\n"


def test_what_fails_is_a_tool_error_with_the_hosts_words(runner: Runner) -> None:
    offer(runner)
    cell = runner.begin("tools.search('a')")
    [(call, _)] = calls(runner, cell, 1)
    reply(runner, call, {"message": "There is nothing."}, is_ok=False)
    assert runner.finish(cell).error["ename"] == "ToolError"
    assert cell.error["evalue"] == "There is nothing."


def test_no_more_calls_are_under_way_than_the_host_takes(runner: Runner) -> None:
    offer(runner, concurrency=2)
    cell = runner.begin(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(5) as pool:\n"
        "    print(sorted(pool.map(tools.search, range(5))))"
    )
    for answered in range(5):
        call, arguments = calls(runner, cell, answered + 1)[answered]
        runner.take()
        assert len(cell.of(Kind.TOOL_CALL)) <= answered + 2
        reply(runner, call, arguments["args"][0])
    assert runner.finish(cell).stdout == "[0, 1, 2, 3, 4]\n"


def test_an_interrupted_call_gives_its_place_back_when_its_answer_comes(runner: Runner) -> None:
    offer(runner, concurrency=1)
    first = runner.begin("tools.search('a')")
    [(call, _)] = calls(runner, first, 1)
    runner.interrupt()
    assert runner.finish(first).error["ename"] == "KeyboardInterrupt"
    second = runner.begin("print(tools.search('b'))")
    reply(runner, call, "late")
    [(again, _)] = calls(runner, second, 1)
    assert again != call
    reply(runner, again, "b")
    assert runner.finish(second).stdout == "b\n"


def test_questions_are_answered_while_a_thread_waits_for_a_tool(runner: Runner) -> None:
    offer(runner)
    cell = runner.begin(
        "import threading\nthread = threading.Thread(target=lambda: print(tools.search(1)))\n"
        "thread.start()\nwhile not tools.search(2): pass\nprint(input('?'))\nthread.join()",
        allow_stdin=True,
    )
    found = {each["args"][0]: call for call, each in calls(runner, cell, 2)}
    reply(runner, found[2], True)
    runner.wait_for(lambda: bool(cell.of(Kind.INPUT_REQUEST)))
    runner.answer("answer")
    runner.wait_for(lambda: "answer" in cell.stdout)
    reply(runner, found[1], "found")
    assert runner.finish(cell).stdout.endswith("answer\nfound\n")


def test_a_process_that_was_forked_cannot_call(runner: Runner) -> None:
    offer(runner)
    cell = runner.execute(
        "import os, sys\nread, write = os.pipe()\npid = os.fork()\nif not pid:\n"
        "    try: tools.search(1)\n    except ToolError as error: os.write(write, b'refused')\n"
        "    os._exit(0)\nos.waitpid(pid, 0)\nprint(os.read(read, 99))"
    )
    assert cell.stdout == "b'refused'\n"
    assert not cell.of(Kind.TOOL_CALL)


def test_arguments_are_plain_json_and_what_has_none_is_refused(runner: Runner) -> None:
    offer(runner)
    cell = runner.begin("import pathlib\ntools.search({1}, b'\\xff', pathlib.Path('a'), k=(1, 2))")
    [(call, arguments)] = calls(runner, cell, 1)
    assert arguments == {"args": [[1], "/w==", "a"], "kwargs": {"k": [1, 2]}}
    reply(runner, call, None)
    runner.finish(cell)
    assert "no form in JSON" in runner.execute("tools.search(object())").error["evalue"]


def test_signatures_and_docstrings_are_to_be_seen(runner: Runner) -> None:
    offer(runner)
    shown = runner.execute(
        "import inspect, tools as t\nprint(inspect.signature(t.search), t.search.__doc__)"
    )
    assert shown.stdout == "(query: str, limit: int = 3) -> list Find pages.\n"
    matches = runner.ask(Kind.COMPLETE, "tools.sea", cursor_pos=9)["matches"]
    assert [match.rpartition(".")[2].rstrip("(") for match in matches] == ["search"]
