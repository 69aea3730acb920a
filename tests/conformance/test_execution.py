"""execute_request over real sockets: counters, silence, expressions, order, aborts, receipts."""

from __future__ import annotations

import re

import pytest

from tests.support.kernels import IS_OURS, Client, Kernel
from tests.support.questions import is_complete
from tests.support.waiting import DEADLINE_S, until

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")


def test_every_request_is_framed_by_busy_and_idle(shared_kernel: Kernel):
    run = shared_kernel.run("print('hello')")
    assert run.states == ["busy", "idle"]
    assert run.types[0] == run.types[-1] == "status"
    assert run.types[1] == "execute_input"


def test_the_reply_has_all_its_fields(shared_kernel: Kernel):
    run = shared_kernel.run("1")
    assert run.content["status"] == "ok"
    assert run.content["payload"] == []
    assert run.content["user_expressions"] == {}
    assert run.content["execution_count"] == run.contents("execute_input")[0]["execution_count"]
    assert "started" in run.reply["metadata"]


def test_an_error_is_published_once_and_repeated_in_the_reply(shared_kernel: Kernel):
    run = shared_kernel.run("def f():\n    return 1/0\nf()")
    assert run.error["ename"] == run.content["ename"] == "ZeroDivisionError"
    assert run.error["traceback"] == run.content["traceback"]
    assert any("line 2" in line or "return" in line for line in run.error["traceback"])
    assert isinstance(run.content["execution_count"], int)


def test_only_store_history_moves_the_counter(shared_kernel: Kernel):
    first = shared_kernel.run("1").content["execution_count"]
    assert shared_kernel.run("2", store_history=False).status == "ok"
    shared_kernel.run("3", silent=True)
    assert shared_kernel.run("4").content["execution_count"] == first + 1


def test_a_failing_cell_moves_the_counter_too(shared_kernel: Kernel):
    first = shared_kernel.run("1/0").content["execution_count"]
    assert shared_kernel.run("1").content["execution_count"] == first + 1


def test_a_silent_request_shows_nothing_but_its_status(shared_kernel: Kernel):
    run = shared_kernel.run("silent_value = 5\nprint('no')\nsilent_value", silent=True)
    assert set(run.types) <= {"status", "stream"}
    assert "execute_input" not in run.types
    assert "execute_result" not in run.types
    assert shared_kernel.run("silent_value").result["text/plain"] == "5"


def test_user_expressions_come_back_as_bundles_and_errors(shared_kernel: Kernel):
    run = shared_kernel.run("a = 6", user_expressions={"good": "a * 7", "bad": "1/0"})
    good, bad = (run.content["user_expressions"][name] for name in ("good", "bad"))
    assert good["status"] == "ok"
    assert good["data"]["text/plain"] == "42"
    assert bad["status"] == "error"
    assert bad["ename"] == "ZeroDivisionError"


def test_empty_code_is_answered(shared_kernel: Kernel):
    run = shared_kernel.run("")
    assert run.status == "ok"
    assert run.states == ["busy", "idle"]


def test_a_syntax_error_names_its_line(shared_kernel: Kernel):
    run = shared_kernel.run("x = 1\nfor i in :\n    pass")
    assert run.error["ename"] == "SyntaxError"
    assert "line 2" in "\n".join(run.error["traceback"])


def test_results_are_kept_by_underscore_in_and_out(shared_kernel: Kernel):
    count = shared_kernel.run("6 * 7").content["execution_count"]
    assert shared_kernel.run("_ + 1").result["text/plain"] == "43"
    assert shared_kernel.run(f"Out[{count}], In[{count}]").result["text/plain"] == "(42, '6 * 7')"


def test_top_level_await_works(shared_kernel: Kernel):
    code = "import asyncio\nawait asyncio.sleep(0.01)\n'awaited'"
    assert shared_kernel.run(code).result["text/plain"] == "'awaited'"


def test_subprocess_and_c_level_output_are_captured(shared_kernel: Kernel):
    code = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-S', '-c', 'print(\"from a child\")'], check=True)\n"
        "_ = os.write(1, b'from C\\n'); _ = os.write(2, b'wrong from C\\n')"
    )
    run = shared_kernel.run(code)
    shared_kernel.wait_for_text("from a child")
    shared_kernel.wait_for_text("wrong from C")
    assert run.status == "ok", run.content


def test_requests_run_in_the_order_they_were_sent(shared_kernel: Kernel):
    shared_kernel.run("order = []")
    ids = [shared_kernel.raw.execute(f"order.append({n})") for n in range(20)]
    for message_id in ids:
        assert shared_kernel.finish(message_id).status == "ok"
    assert shared_kernel.run("order == list(range(20))").result["text/plain"] == "True"


def test_replies_and_outputs_of_queued_cells_do_not_interleave(shared_kernel: Kernel):
    ids = [shared_kernel.raw.execute(f"print('cell {n}')") for n in range(5)]
    runs = [shared_kernel.finish(message_id) for message_id in ids]
    assert [run.stdout for run in runs] == [f"cell {n}\n" for n in range(5)]
    parents = [
        message["parent_header"]["msg_id"]
        for message in shared_kernel.heard
        if message["parent_header"].get("msg_id") in ids
    ]
    assert parents == sorted(parents, key=ids.index)


def start_waiting(kernel: Kernel, **options: bool) -> str:
    """Run a cell that fails once it is answered, and wait until it asks."""
    blocker = kernel.raw.execute("input(); 1/0", allow_stdin=True, **options)
    kernel.raw.get_stdin_msg(timeout=DEADLINE_S)
    return blocker


def test_an_error_aborts_what_is_queued_each_between_busy_and_idle(kernel: Kernel):
    blocker = start_waiting(kernel)
    queued = [kernel.raw.execute(f"ran_{n} = True") for n in range(3)]
    kernel.raw.input("")
    assert kernel.finish(blocker).status == "error"
    for message_id in queued:
        run = kernel.finish(message_id)
        assert run.status in {"aborted", "error"}
        assert run.states == ["busy", "idle"]
        assert "execute_input" not in run.types
    after = kernel.run("[name for name in ('ran_0', 'ran_1', 'ran_2') if name in globals()]")
    assert after.result["text/plain"] == "[]"


def test_without_stop_on_error_the_queue_goes_on(kernel: Kernel):
    blocker = start_waiting(kernel, stop_on_error=False)
    queued = kernel.raw.execute("went_on = True; went_on")
    kernel.raw.input("")
    assert kernel.finish(blocker).status == "error"
    assert kernel.finish(queued).result["text/plain"] == "True"


def test_a_request_sent_after_the_error_reply_is_not_aborted(shared_kernel: Kernel):
    for _ in range(5):
        assert shared_kernel.run("1/0").status == "error"
        assert shared_kernel.run("1").status == "ok"


def test_output_of_a_thread_belongs_to_the_cell_that_started_it(shared_kernel: Kernel):
    code = (
        "import threading\n"
        "gate = threading.Event()\n"
        "def late():\n"
        "    gate.wait(60); print('late thread output', flush=True)\n"
        "thread = threading.Thread(target=late); thread.start()"
    )
    first = shared_kernel.run(code)
    second = shared_kernel.run("gate.set(); thread.join(); print('second cell')")
    late = shared_kernel.wait_for_text("late thread output")
    assert late["parent_header"]["msg_id"] == first.reply["parent_header"]["msg_id"]
    assert "late thread output" not in second.stdout


def test_output_of_a_late_process_belongs_to_the_cell_that_started_it(shared_kernel: Kernel):
    first = shared_kernel.run(
        "import subprocess, os\n"
        "r, w = os.pipe()\n"
        "child = subprocess.Popen(['sh', '-c', 'read x; echo late child'], stdin=r)"
    )
    shared_kernel.run("os.close(r); _ = os.write(w, b'go\\n'); os.close(w); _ = child.wait()")
    late = shared_kernel.wait_for_text("late child")
    if IS_OURS:
        assert late["parent_header"]["msg_id"] == first.reply["parent_header"]["msg_id"]


def test_a_second_client_sees_the_same_outputs_and_the_code(shared_kernel: Kernel):
    with shared_kernel.second_client() as other:
        run = shared_kernel.run("print('for everyone')")
        seen = other.wait_for_text("for everyone")
        assert seen["parent_header"]["msg_id"] == run.reply["parent_header"]["msg_id"]
        assert other.run("print('from the other')").stdout == "from the other\n"


@ours_only
def test_every_reply_brings_a_receipt(shared_kernel: Kernel):
    run = shared_kernel.run("print('x' * 1000); sum(range(10**6))")
    receipt = _receipt(run.reply)
    assert receipt["wall_s"] >= 0
    assert receipt["cpu_s"] >= 0
    assert receipt["peak_memory_bytes"] > 2**20
    assert receipt["output_bytes"] >= 1000
    assert receipt["files"] == 0


@ours_only
def test_the_receipt_counts_generated_files(shared_kernel: Kernel):
    run = shared_kernel.run("open('counted.txt', 'w').write('x' * 10)")
    assert _receipt(run.reply)["files"] == 1


def _receipt(reply: dict) -> dict:
    metadata = reply["metadata"]
    found = [value for value in metadata.values() if isinstance(value, dict) and "wall_s" in value]
    assert found, f"no receipt in {metadata}"
    return found[0]


def test_ten_thousand_lines_arrive_complete_and_in_few_messages(shared_kernel: Kernel):
    run = shared_kernel.run("for n in range(10_000): print(n)")
    assert run.stdout == "".join(f"{n}\n" for n in range(10_000))
    if IS_OURS:
        assert len(run.contents("stream")) <= 20


def test_prints_and_displays_keep_their_order(shared_kernel: Kernel):
    code = (
        "from IPython.display import display\n"
        "for n in range(10):\n    print('p', n); display({'text/plain': f'd {n}'}, raw=True)"
    )
    run = shared_kernel.run(code)
    shown = [
        m["content"].get("text") or m["content"]["data"]["text/plain"] + "\n"
        for m in run.messages
        if m["msg_type"] in {"stream", "display_data"}
    ]
    assert "".join(shown) == "".join(f"p {n}\nd {n}\n" for n in range(10))


def test_stdout_and_stderr_stay_apart(shared_kernel: Kernel):
    run = shared_kernel.run("import sys; print('out'); print('err', file=sys.stderr)")
    assert (run.stdout, run.stderr) == ("out\n", "err\n")


def test_text_in_many_scripts_survives(shared_kernel: Kernel):
    text = "ß 漢字 🎉 \u0301 עברית"
    run = shared_kernel.run(f"print({text!r}); {text!r}")
    assert run.stdout == text + "\n"
    assert run.result["text/plain"] == repr(text)


def test_undecodable_output_is_replaced_and_the_cell_still_ends(shared_kernel: Kernel):
    run = shared_kernel.run("import os; _ = os.write(1, b'a\\xff\\xfeb\\n'); print('\\ud800')")
    shared_kernel.wait_for(
        lambda m: m["msg_type"] == "stream" and "a" in m["content"]["text"], "replaced bytes"
    )
    assert run.states[-1] == "idle"
    assert shared_kernel.run("1").status == "ok"


class TestAuxiliaryRequests:
    """complete, inspect, is_complete, history: who edits code waits for these."""

    def test_completion_counts_code_points_not_bytes(self, shared_kernel: Kernel):
        shared_kernel.run("völlig_eindeutig = 1")
        code = "'🎉漢'; völlig_ein"
        reply = shared_kernel.request("complete_request", {"code": code, "cursor_pos": len(code)})
        content = reply["content"]
        assert "völlig_eindeutig" in content["matches"]
        assert code[content["cursor_start"] : content["cursor_end"]] == "völlig_ein"

    def test_completion_respects_the_cursor(self, shared_kernel: Kernel):
        shared_kernel.run("somebody_alone = 1")
        code = "somebody_al + 100"
        reply = shared_kernel.request("complete_request", {"code": code, "cursor_pos": 11})
        assert "somebody_alone" in reply["content"]["matches"]
        assert reply["content"]["cursor_end"] == 11

    def test_inspection_shows_docstring_and_source(self, shared_kernel: Kernel):
        shared_kernel.run("def documented():\n    'Tells all.'\n    return 1")
        brief, full = (
            shared_kernel.request(
                "inspect_request", {"code": "documented", "cursor_pos": 5, "detail_level": level}
            )["content"]
            for level in (0, 1)
        )
        assert brief["found"] is True
        assert "Tells all." in brief["data"]["text/plain"]
        assert "return 1" in re.sub(r"\x1b\[[\d;]*m", "", full["data"]["text/plain"])

    def test_inspection_of_an_unknown_name_is_answered_with_not_found(self, shared_kernel: Kernel):
        content = shared_kernel.request(
            "inspect_request", {"code": "no_such_name", "cursor_pos": 12, "detail_level": 0}
        )["content"]
        assert content["status"] == "ok"
        assert content["found"] is False

    def test_is_complete_suggests_an_indent(self, shared_kernel: Kernel):
        found = is_complete(shared_kernel, "for n in x:")
        assert found == {"status": "incomplete", "indent": "    "}

    def test_history_keeps_input_and_output(self, shared_kernel: Kernel):
        shared_kernel.run("'kept in history'")
        ask = {"output": True, "raw": True, "hist_access_type": "tail", "n": 1}
        ((_, _, (code, output)),) = shared_kernel.request("history_request", ask)["content"][
            "history"
        ]
        assert code == "'kept in history'"
        if IS_OURS:
            assert output is None or "kept in history" in output

    def test_a_silent_cell_is_not_in_the_history(self, shared_kernel: Kernel):
        shared_kernel.run("'seen by history'")
        shared_kernel.run("'hidden from history'", silent=True)
        shared_kernel.run("'not stored in history'", store_history=False)
        ask = {"output": False, "raw": True, "hist_access_type": "tail", "n": 1}
        history = shared_kernel.request("history_request", ask)["content"]["history"]
        assert [entry[2] for entry in history] == ["'seen by history'"]


class TestInfoRequests:
    def test_kernel_info_is_answered_on_shell_and_control(self, shared_kernel: Kernel):
        for channel in ("shell", "control"):
            reply = shared_kernel.request("kernel_info_request", {}, channel=channel)
            content = reply["content"]
            assert content["status"] == "ok"
            assert content["language_info"]["name"] == "python"
            assert content["language_info"]["mimetype"] == "text/x-python"
            assert content["protocol_version"].startswith("5.")

    def test_control_is_answered_while_a_cell_runs(self, shared_kernel: Kernel):
        running = shared_kernel.start_running("import time; time.sleep(2)")
        reply = shared_kernel.request("kernel_info_request", {}, channel="control")
        assert reply["content"]["status"] == "ok"
        assert "idle" not in [
            m["content"]["execution_state"]
            for m in shared_kernel.about(running)
            if m["msg_type"] == "status"
        ]
        shared_kernel.finish(running)

    @ours_only
    def test_only_what_works_is_advertised(self, shared_kernel: Kernel):
        content = shared_kernel.request("kernel_info_request", {})["content"]
        features = set(content.get("supported_features", []))
        assert "debugger" not in features
        assert "kernel subshells" not in features
        assert not content.get("debugger", False)

    @ours_only
    def test_a_debug_request_is_declined_not_ignored(self, shared_kernel: Kernel):
        ask = {"seq": 1, "type": "request", "command": "initialize", "arguments": {}}
        reply = shared_kernel.request("debug_request", ask, channel="control")
        assert reply["msg_type"] == "debug_reply"
        assert reply["content"].get("success") is False

    @ours_only
    def test_usage_is_reported(self, shared_kernel: Kernel):
        reply = shared_kernel.request("usage_request", {}, channel="control")
        assert reply["msg_type"] == "usage_reply"

    @ours_only
    def test_the_banner_names_the_boundary(self, shared_kernel: Kernel, kernel_backend: str):
        banner = shared_kernel.request("kernel_info_request", {})["content"]["banner"]
        assert "sandbox" in banner.lower()
        assert ("docker: a container" in banner) == (kernel_backend == "docker")

    def test_an_unknown_request_harms_nobody(self, shared_kernel: Kernel):
        for channel in ("shell", "control"):
            message_id = shared_kernel.ask("what_is_this_request", {"x": 1}, channel=channel)
            if IS_OURS:
                shared_kernel.wait_for_state(message_id, "idle")
        assert shared_kernel.run("'alive'").result["text/plain"] == "'alive'"

    def test_the_heartbeat_beats_while_a_cell_computes(self, shared_kernel: Kernel):
        running = shared_kernel.start_running("x = sum(n * n for n in range(5_000_000))")
        channel = shared_kernel.raw.hb_channel
        until(channel.is_beating, "a heartbeat")
        shared_kernel.finish(running)


def test_hostile_contents_of_a_request_are_answered_or_dropped(shared_kernel: Kernel):
    """A client's mistakes: wrong types in every field. The kernel lives on."""
    for content in (
        {},
        {"code": 5},
        {"code": None, "silent": "yes"},
        {"code": "1", "user_expressions": ["not", "a", "dict"]},
        {"code": "1", "user_expressions": {"x": 5}},
        {"code": "1", "silent": [], "store_history": {}},
    ):
        shared_kernel.ask("execute_request", content)
    shared_kernel.ask("complete_request", {"code": "abc", "cursor_pos": 10**12})
    shared_kernel.ask("complete_request", {"code": "abc", "cursor_pos": -5})
    shared_kernel.ask("complete_request", {"code": 3, "cursor_pos": "x"})
    shared_kernel.ask("inspect_request", {"code": None})
    shared_kernel.ask("is_complete_request", {})
    shared_kernel.ask("history_request", {"hist_access_type": "nonsense"})
    shared_kernel.ask("history_request", {"hist_access_type": "tail", "n": "many"})
    shared_kernel.ask("comm_info_request", {"target_name": 7})
    shared_kernel.ask("shutdown_request_", {})
    run = shared_kernel.run("'alive'")
    if run.status != "ok":  # an abort may still be in force
        run = shared_kernel.run("'alive'")
    assert run.result["text/plain"] == "'alive'"


def test_a_client_can_go_and_another_come(shared_kernel: Kernel):
    for n in range(5):
        with shared_kernel.second_client() as other:
            assert isinstance(other, Client)
            assert other.run(f"{n}").result["text/plain"] == str(n)
