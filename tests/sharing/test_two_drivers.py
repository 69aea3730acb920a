"""A person and a program on one session: whose cell runs, what each sees, who stops what."""

from __future__ import annotations

import math
import os
import signal

import pytest

from sandbox_kernel import events
from sandbox_kernel.errors import (
    DependencyRefused,
    NoSuchSession,
    RequestRefused,
    SandboxDied,
    SessionClosed,
    SettingsError,
)
from sandbox_kernel.languages import SHELL
from sandbox_kernel.session import State
from tests.sharing.conftest import shared
from tests.support.waiting import DEADLINE_S, until

# Runs until the file is there; whoever writes it lets it go on.
WAIT = "import os, time\nwhile not os.path.exists({name!r}): time.sleep(0.01)"


def history(kernel) -> list[str]:
    wanted = {"hist_access_type": "tail", "n": 100}
    content = kernel.request("history_request", wanted)["content"]
    return [source for _, _, source in content["history"]]


def of_driver(kernel, driver="engine"):
    """What was broadcast for cells of the program."""
    return [m for m in kernel.heard if m["parent_header"].get("username") == driver]


# -- sharing


def test_both_see_each_others_variables(notebook, program, seat):
    assert notebook.run("x = 41").status == "ok"
    assert program.run(seat, "y = x + 1\nprint(y)").text == "42\n"
    assert notebook.run("y").result["text/plain"] == "42"


def test_every_client_sees_the_programs_cell_and_whose_it_is(notebook, program, seat):
    before = notebook.run("'mine'").content["execution_count"]
    program.run(seat, "print('theirs')\n6 * 7")
    announced = notebook.wait_for(lambda m: "'theirs'" in m["content"].get("code", ""), "the cell")
    cell = announced["parent_header"]["msg_id"]
    notebook.wait_for_state(cell, "idle")
    shown = notebook.about(cell)
    kinds = [m["msg_type"] for m in shown]
    assert kinds == ["status", "execute_input", "stream", "execute_result", "status"]
    assert {m["parent_header"]["username"] for m in shown} == {"engine"}
    assert all(m["metadata"]["sandbox_kernel"] == {"driver": "engine"} for m in shown)
    assert announced["content"]["execution_count"] == before + 1
    assert notebook.run("'mine'").content["execution_count"] == before + 2
    assert history(notebook)[-3:] == ["'mine'", "print('theirs')\n6 * 7", "'mine'"]


def test_what_is_not_to_be_stored_is_not_in_the_history(notebook, program, seat):
    program.run(seat, "'unstored'", store_history=False)
    program.run(seat, "print('unseen')", silent=True)
    assert "'unstored'" not in history(notebook)
    assert "unseen" not in str(notebook.run("1").messages)
    assert not [m for m in of_driver(notebook) if "unseen" in str(m["content"])]


def test_rich_outputs_and_errors_arrive_as_events(program, seat):
    ran = program.run(seat, "display({'text/plain': 'd'}, raw=True)\n1 / 0")
    kinds = [type(event).__name__ for event in ran.events]
    assert kinds == ["DisplayShown", "CellFailed"]
    assert ran.failure == "ZeroDivisionError"
    assert ran.outcome.error == ran.events[-1]
    assert ran.outcome.receipt.wall_s > 0


def test_files_languages_and_questions_are_those_of_the_session(notebook, program, seat):
    content = os.urandom(3 * 2**20 + 5)
    program.do(seat.files.write("big.bin", content))
    assert notebook.run("len(open('big.bin', 'rb').read())").result["text/plain"] == "3145733"
    assert program.do(seat.files.read("big.bin")) == content
    assert "big.bin" in [entry.name for entry in program.do(seat.files.list())]
    program.do(seat.files.remove("big.bin"))
    with pytest.raises(RequestRefused, match="No such file"):
        program.do(seat.files.read("big.bin"))
    assert program.run(seat, "echo $((40 + 2))", runner="bash").text == "42\n"
    assert history(notebook)[-1] == "%%bash\necho $((40 + 2))"
    assert program.run(seat, "exit 3", runner=SHELL).outcome.exit_code == 3
    notebook.run("a_long_name = 1")
    assert "a_long_name" in program.do(seat.complete("a_lon", 5))["matches"]
    assert program.do(seat.inspect("len", 3))["found"]
    assert program.do(seat.is_complete("for a in b:"))["status"] == "incomplete"
    assert program.do(seat.status())["state"] == "idle"


def test_a_seat_knows_what_the_kernel_is(notebook, program, seat):
    found = shared(notebook)
    assert (found.language, found.notebook) == ("python", "/home/ann/analysis.ipynb")
    assert seat.spec.language == "python"
    assert seat.limits.memory_bytes == 2 * 2**30
    assert seat.boundary == program.do(seat.status())["boundary"] != ""
    assert seat.sandbox_id
    assert seat.state is State.IDLE


def test_the_reader_is_told_the_id_and_who_is_attached(notebook, program, seat):
    status = notebook.run("%sandbox status").displays[0]["text/plain"]
    assert shared(notebook).id in status
    assert f"engine (process {os.getpid()})" in status
    assert shared(notebook).id in notebook.run("%sandbox share").stdout


def test_no_line_of_a_programs_code_is_done_on_the_host(notebook, program, seat):
    """`%sandbox put` brings host files in; that is for the reader to say."""
    assert "session id" in str(notebook.run("%sandbox status").displays)
    ran = program.run(seat, "%sandbox status")
    assert "session id" not in str(ran.events)
    assert "not found" in ran.text + str(ran.outcome.error)


# -- turns


def test_cells_take_turns_in_the_order_in_which_they_came(notebook, program, seat):
    notebook.run("order = []")
    person = notebook.start_running(f"{WAIT.format(name='go')}\norder.append('person')")
    theirs = program.begin_run(seat, "order.append('program')")
    last = notebook.raw.execute("order.append('person again')", allow_stdin=False)
    assert not theirs.done()
    program.do(seat.files.write("go", b""))
    assert theirs.result(60).outcome.status == "ok"
    assert notebook.finish(person).status == notebook.finish(last).status == "ok"
    order = notebook.run("order").result["text/plain"]
    assert sorted(eval(order)) == ["person", "person again", "program"]
    assert eval(order)[0] == "person"
    notebook.run("os.remove('go')")


def test_a_failure_of_one_aborts_nothing_of_the_others(notebook, program, seat):
    person = notebook.raw.execute("input()\n1 / 0", allow_stdin=True)
    notebook.raw.get_stdin_msg(timeout=DEADLINE_S)
    theirs = program.begin_run(seat, "print('still')\n1 / 0")
    until(lambda: len(seat._kernel._asked) == 1, "the request")
    program.do(seat.files.list())  # answered after it was queued
    mine = notebook.raw.execute("'mine'", allow_stdin=False)
    behind = notebook.raw.execute("1", allow_stdin=False)
    notebook.raw.input("")  # by the client that queued them: what it sent before is there
    assert notebook.finish(person).content["ename"] == "ZeroDivisionError"
    # The twin: what the reader queued behind their own failure is aborted as ever.
    assert notebook.wait_for_reply(mine)["content"]["status"] == "aborted"
    assert notebook.wait_for_reply(behind)["content"]["status"] == "aborted"
    assert theirs.result(60).text == "still\n"
    blocked = program.begin_run(seat, f"{WAIT.format(name='go2')}\n1 / 0")
    program.do(seat.files.list())
    after = notebook.raw.execute("'mine'", allow_stdin=False)
    program.do(seat.files.write("go2", b""))
    assert blocked.result(60).failure == "ZeroDivisionError"
    assert notebook.finish(after).status == "ok"
    notebook.run("os.remove('go2')")


# -- interrupts


def test_the_reader_interrupts_the_programs_cell_and_variables_stay(notebook, program, seat):
    notebook.run("kept = 7")
    theirs = program.begin_run(seat, "print('it runs')\nwhile True: pass")
    notebook.wait_for_text("it runs")
    notebook.interrupt()
    assert theirs.result(60).failure == "KeyboardInterrupt"
    assert notebook.run("kept").result["text/plain"] == "7"


def test_a_program_stops_its_own_cells_and_no_others(notebook, program, seat):
    person = notebook.start_running(f"{WAIT.format(name='go')}\nprint('unhurt')")
    waiting = program.begin_run(seat, "print('never run')")
    program.do(seat.files.list())
    program.do(seat.interrupt())
    assert waiting.result(60).failure == "KeyboardInterrupt"
    program.do(seat.files.write("go", b""))
    assert notebook.finish(person).stdout == "unhurt\n"
    assert "never run" not in str(history(notebook))
    running = program.begin_run(seat, "print('to be stopped')\nwhile True: pass")
    notebook.wait_for_text("to be stopped")
    program.do(seat.interrupt())
    assert running.result(60).failure == "KeyboardInterrupt"
    notebook.run("os.remove('go')")


def test_only_who_says_so_stops_the_readers_cell(notebook, program, seat):
    person = notebook.start_running("print('person')\nwhile True: pass")
    notebook.wait_for_text("person")
    program.do(seat.interrupt(anyones=True))
    assert notebook.finish(person).content["ename"] == "KeyboardInterrupt"


def test_a_cancelled_call_stops_its_cell_wherever_it_is(notebook, program, seat):
    first = program.begin_run(seat, "print('first')\nwhile True: pass")
    second = program.begin_run(seat, "print('second')")
    notebook.wait_for_text("first")
    second.cancel()
    first.cancel()
    assert notebook.run("1").status == "ok"
    assert "second" not in str(history(notebook))


def test_timeouts_and_limits_are_the_callers_within_the_kernels(program, seat):
    assert program.run(seat, "while True: pass", timeout_s=0.3).failure == "CellTimeout"
    assert program.run(seat, "1", timeout_s=30).outcome.status == "ok"
    for wanted in ({"memory_bytes": 4 * 2**30}, {"cpus": 64.0}, {"cpus": math.nan}):
        with pytest.raises(SettingsError, match="this notebook's kernel allows"):
            program.run(seat, "1", **wanted)
    assert program.run(seat, "1", memory_bytes=2**30, cpus=1.0).outcome.status == "ok"
    for wrong in (0, -1.0, math.nan, math.inf):
        with pytest.raises(SettingsError, match="timeout_s"):
            program.run(seat, "1", timeout_s=wrong)
    with pytest.raises(SettingsError, match="klingon"):
        program.run(seat, "1", runner="klingon")


# -- input


def test_a_question_of_the_programs_cell_is_the_programs_to_answer(notebook, program, seat):
    def answer(event):
        if isinstance(event, events.InputRequested):
            seat.answer_input(f"<{event.prompt}>")

    asking = program.begin_run(seat, "print(input('who?'))", answer, allow_stdin=True)
    assert asking.result(60).text == "<who?>\n"
    refused = program.run(seat, "input()")
    assert refused.failure == "StdinNotImplementedError"


def test_a_program_cannot_answer_for_the_reader(notebook, program, seat):
    asked = notebook.raw.execute("print(input('me?'))", allow_stdin=True)
    assert notebook.raw.get_stdin_msg(timeout=60)["content"]["prompt"] == "me?"
    seat.answer_input("not the reader")
    program.do(seat.files.list())
    notebook.raw.input("the reader")
    assert notebook.finish(asked).stdout == "the reader\n"


# -- coming and going


def test_a_program_that_vanishes_takes_its_cells_along(notebook, program, seat):
    notebook.run("kept = 8")
    program.begin_run(seat, "print('to vanish')\nwhile True: pass")
    program.begin_run(seat, "print('queued')")
    notebook.wait_for_text("to vanish")
    program.do(_abort(seat))
    assert notebook.run("kept").result["text/plain"] == "8"
    assert "queued" not in str(history(notebook))
    attached = notebook.run("%sandbox status").displays[0]["text/plain"]
    assert "no program" in attached


async def _abort(seat):
    seat._kernel._writer.transport.abort()


def test_leaving_leaves_the_notebook_alone(notebook, program):
    seat = program.connect(shared(notebook).id, driver="the agent")
    program.run(seat, "left = 'behind'")
    program.do(seat.close())
    assert notebook.run("left").result["text/plain"] == "'behind'"
    assert "left = 'behind'" in [m["content"].get("code") for m in of_driver(notebook, "the agent")]
    assert seat.state is State.CLOSED
    with pytest.raises(SessionClosed, match="has left"):
        program.run(seat, "1")


def test_the_reader_is_told_of_a_restart(notebook, program, seat):
    notebook.run("gone = 1")
    program.do(seat.files.write("kept.txt", b"x"))
    program.do(seat.restart())
    ran = notebook.run("gone")
    assert ran.error["ename"] == "NameError"
    assert "engine restarted this session" in ran.stderr
    assert notebook.run("1").stderr == ""
    assert "kept.txt" in [entry.name for entry in program.do(seat.files.list())]


@pytest.mark.parametrize(("how", "told"), [(False, "was shut down"), (True, "was restarted")])
def test_the_end_of_the_kernel_is_told_in_words(start_kernel, program, runtime, how, told):
    kernel = start_kernel()
    found = shared(kernel)
    seat = program.connect(found.id)
    running = program.begin_run(seat, "print('it runs')\nwhile True: pass")
    kernel.wait_for_text("it runs")
    kernel.ask("shutdown_request", {"restart": how}, channel="control")
    with pytest.raises(SessionClosed, match=told):
        running.result(60)
    with pytest.raises(SessionClosed, match=told):
        program.do(seat.files.list())
    until(lambda: not list(runtime.glob(f"*/{found.id}*")), "the end of the socket")
    with pytest.raises(NoSuchSession, match="list --sessions"):
        program.connect(found.id)


def test_a_killed_kernel_is_told_and_its_socket_removed(start_kernel, program, runtime):
    kernel = start_kernel()
    found = shared(kernel)
    seat = program.connect(found.id)
    running = program.begin_run(seat, "print('it runs')\nwhile True: pass")
    kernel.wait_for_text("it runs")
    os.kill(kernel.pid, signal.SIGKILL)
    with pytest.raises(SandboxDied, match="went away without a word"):
        running.result(60)
    assert seat.state is State.DEAD
    assert list(runtime.glob(f"*/{found.id}.sock"))
    with pytest.raises(NoSuchSession, match=found.id):
        program.connect(found.id)
    assert not list(runtime.glob(f"*/{found.id}*"))


def test_who_does_not_share_is_not_found(start_kernel, runtime):
    before = set(runtime.glob("*/*"))
    kernel = start_kernel(env={"SANDBOX_KERNEL_SHARE": "off"})
    assert "not shared" in kernel.run("%sandbox status").displays[0]["text/plain"]
    assert "--share on" in kernel.run("%sandbox share").stdout
    assert set(runtime.glob("*/*")) == before


def test_the_reader_ends_the_sharing(start_kernel, program):
    kernel = start_kernel()
    seat = program.connect(shared(kernel).id)
    assert "ended the sharing" in kernel.run("%sandbox share off").stdout
    with pytest.raises(SessionClosed, match="ended the sharing"):
        program.do(seat.files.list())
    with pytest.raises(NoSuchSession):
        program.connect(seat.session_id)
    assert "ended the sharing" in kernel.run("%sandbox status").displays[0]["text/plain"]
    # No cell opens it again, and a model may have written this one.
    assert kernel.run("%sandbox share on").error["ename"] == "UsageError"
    assert "ended the sharing" in kernel.run("%sandbox share").stdout


# -- packages


def test_packages_are_had_by_the_kernels_own_policy(start_kernel, program):
    kernel = start_kernel(env={"SANDBOX_KERNEL_DEPENDENCIES": "none"})
    seat = program.connect(shared(kernel).id)
    with pytest.raises(DependencyRefused, match="dependencies"):
        program.do(seat.install(["pandas"], on_event=lambda _event: None))
    with pytest.raises(RequestRefused, match="install"):
        program.do(seat.attach([], {"PYTHONPATH": "/evil"}))
    assert kernel.run("1").status == "ok"
    assert history(kernel)[0] == "%dependencies pandas"


def test_packages_for_the_program_are_there_for_the_reader(
    start_kernel, program, tmp_path, monkeypatch
):
    import asyncio

    from sandbox_kernel.dependencies.requirements import parse_all
    from tests.support.layers import HandMade, manage

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    HandMade().install(monkeypatch)
    made = manage("bubblewrap")
    asyncio.run(made.ensure(parse_all(["canary"], "pip"), on_output=lambda _text: None))
    made.close()
    kernel = start_kernel()
    seat = program.connect(shared(kernel).id)
    heard = []
    found = program.do(seat.install(["canary"], on_event=heard.append))
    assert found == [("canary", "1.0")]
    assert "was there already" in str(heard)
    use = kernel.run("import canary_package; print(canary_package.value)")
    assert use.stdout == "42\n"
