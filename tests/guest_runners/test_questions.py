"""Completion, inspection, is-complete: what a client asks while the user types."""

from __future__ import annotations

import re

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner

ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def test_attributes_and_names_are_completed(runner: Runner) -> None:
    runner.execute("class C:\n    wide_name = 1\nobject_one = C()")
    reply = runner.ask(Kind.COMPLETE, "x = object_one.wid", cursor_pos=18)
    assert reply["status"] == "ok"
    completed = {
        "x = object_one.wid"[: reply["cursor_start"]] + match for match in reply["matches"]
    }
    assert "x = object_one.wide_name" in completed
    assert reply["cursor_end"] == 18
    names = runner.ask(Kind.COMPLETE, "object_o", cursor_pos=8)
    assert "object_one" in names["matches"]


def test_the_cursor_is_counted_in_code_points(runner: Runner) -> None:
    code = "s = '🙂🙂'; s.upp"
    reply = runner.ask(Kind.COMPLETE, code, cursor_pos=len(code))
    assert reply["cursor_end"] == len(code)
    runner.execute("s = ''")
    reply = runner.ask(Kind.COMPLETE, code, cursor_pos=len(code))
    assert {code[: reply["cursor_start"]] + match for match in reply["matches"]} >= {
        "s = '🙂🙂'; s.upper"
    }


def test_nothing_to_complete_is_an_empty_answer(runner: Runner) -> None:
    for code, cursor in (("nowhere_at_all.", 15), ("", 0), ("1 + ", 99), ("x", -5)):
        reply = runner.ask(Kind.COMPLETE, code, cursor_pos=cursor)
        assert reply["status"] == "ok"
        assert 0 <= reply["cursor_start"] <= reply["cursor_end"] <= len(code)


def test_ipython_completes_magics_and_says_types(ipython: Runner) -> None:
    reply = ipython.ask(Kind.COMPLETE, "%timei", cursor_pos=6)
    assert "%timeit" in reply["matches"]
    reply = ipython.ask(Kind.COMPLETE, "import os; os.pat", cursor_pos=17)
    types = reply["metadata"]["_jupyter_types_experimental"]
    assert {"path"} <= {item["text"] for item in types}
    assert set(types[0]) == {"start", "end", "text", "type", "signature"}


def test_documentation_is_shown(runner: Runner) -> None:
    runner.execute("def f(x, y=2):\n    'Adds numbers.'\n    return x + y")
    for code, cursor in (("f", 1), ("f(", 2), ("f(1, y=", 7), ("z = f", 5)):
        reply = runner.ask(Kind.INSPECT, code, cursor_pos=cursor, detail_level=0)
        assert reply["found"], code
        assert "Adds numbers." in reply["data"]["text/plain"]
        assert "x, y=2" in ESCAPES.sub("", reply["data"]["text/plain"])
    source = runner.ask(Kind.INSPECT, "f", cursor_pos=1, detail_level=1)
    assert "return x + y" in ESCAPES.sub("", source["data"]["text/plain"])


def test_an_unknown_name_is_not_found(runner: Runner) -> None:
    reply = runner.ask(Kind.INSPECT, "nowhere", cursor_pos=3, detail_level=0)
    assert (reply["status"], reply["found"], reply["data"]) == ("ok", False, {})


def test_is_complete(runner: Runner) -> None:
    def status(code: str) -> str:
        return str(runner.ask(Kind.IS_COMPLETE, code)["status"])

    assert status("x = 1") == "complete"
    assert status("await f()") == "complete"
    assert status("for i in x:\n    pass\n\n") == "complete"
    assert status("x = (") == "incomplete"
    assert status("x = = 1") == "invalid"
    assert runner.ask(Kind.IS_COMPLETE, "for i in x:") == {"status": "incomplete", "indent": "    "}


def test_a_page_of_help_is_in_the_reply(ipython: Runner) -> None:
    cell = ipython.execute("print?")
    assert cell.kinds == [Kind.REPLY]
    (payload,) = cell.reply["payload"]
    assert (payload["source"], payload["start"]) == ("page", 0)
    assert "Prints" in payload["data"]["text/plain"]


def test_other_payloads_stay_inside(ipython: Runner) -> None:
    cell = ipython.execute("get_ipython().set_next_input('evil()')")
    assert "payload" not in cell.reply
    assert "evil()" in cell.stderr
    ipython.execute("open('s.py', 'w').write('1')")
    assert "payload" not in ipython.execute("%load s.py").reply
