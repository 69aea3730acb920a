"""The bridge and a kernel that does right and wrong as its cells say."""

from __future__ import annotations

import os
import signal

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import DEADLINE_S
from tests.support.waiting import until

STREAM = 'iopub("stream", {"name": "stdout", "text": "%s"})'


def shown(text: str) -> str:
    return STREAM % text


def test_a_kernel_is_ready_with_its_name_and_version(bridge):
    assert bridge.info["implementation"] == "scripted"
    assert bridge.info["version"] == "1.2.3"


def test_nothing_of_the_connection_is_left_when_it_stands(bridge):
    names = [name for name in os.listdir("/tmp") if name.startswith(".kernel-")]
    cell = bridge.execute('iopub("stream", {"name": "stdout", "text": sys.argv[1]})')
    directory = os.path.dirname(cell.stdout)
    assert os.path.basename(directory).startswith(".kernel-")
    assert os.path.basename(directory) not in names
    assert not os.path.exists(directory)


def test_every_sort_of_output_becomes_a_frame_in_order(bridge):
    cell = bridge.execute(
        'iopub("stream", {"name": "stderr", "text": "e"})\n'
        'bundle = {"data": {"text/plain": "1"}, "metadata": {}}\n'
        'iopub("display_data", {**bundle, "transient": {"display_id": "d", "x": 1}})\n'
        'iopub("update_display_data", {**bundle, "transient": {"display_id": "d"}})\n'
        'iopub("clear_output", {"wait": True})\n'
        'iopub("execute_result", {**bundle, "execution_count": 9})\n'
        'iopub("comm_open", {"comm_id": "c", "target_name": "t", "data": {}}, buffers=[b"ab"])\n'
        'iopub("error", {"ename": "E", "evalue": "v", "traceback": ["t"]})\n'
        "reply(status='error', ename='E', evalue='v', traceback=['t'])"
    )
    assert cell.kinds == [
        *(Kind.STDERR, Kind.DISPLAY, Kind.UPDATE_DISPLAY, Kind.CLEAR_OUTPUT, Kind.RESULT),
        *(Kind.COMM_OUT, Kind.ERROR, Kind.REPLY),
    ]
    assert cell.displays[0]["transient"] == {"display_id": "d"}
    assert cell.of(Kind.COMM_OUT)[0].data == b"ab"
    assert cell.reply["status"] == "error"


def test_the_reply_waits_for_what_comes_before_idle(bridge):
    cell = bridge.execute(f"reply(); time.sleep(0.05); {shown('late')}")
    assert cell.kinds == [Kind.STDOUT, Kind.REPLY]


def test_a_kernel_that_forgets_to_be_idle_is_not_waited_for_for_ever(bridge):
    assert bridge.execute("is_silent = True; reply()").reply["status"] == "ok"


def test_a_kernel_that_forgets_to_answer_is_not_waited_for_for_ever(bridge):
    cell = bridge.execute("is_silent = True; idle()")
    assert cell.reply["status"] == "error"
    assert bridge.execute(shown("next")).stdout == "next"


def test_output_of_an_earlier_cell_stays_its_own(bridge):
    first = bridge.execute("pass")
    second = bridge.execute(
        'iopub("stream", {"name": "stdout", "text": "late"}, first[-2].message["header"])'
    )
    assert (first.stdout, second.stdout) == ("late", "")


@pytest.mark.parametrize("parent", ["{}", '{"msg_id": "x-1"}', '{"msg_id": 5}', '{"msg_id": "-"}'])
def test_output_without_a_known_parent_is_the_running_cells(bridge, parent):
    text = f'iopub("stream", {{"name": "stdout", "text": "x"}}, parent={parent})'
    assert bridge.execute(text).stdout == "x"


def test_what_is_signed_with_another_key_is_not_heard(bridge):
    forged = 'iopub("stream", {"name": "stdout", "text": "forged"}, signing_key=b"no")'
    assert bridge.execute(f"{forged}; {shown('real')}").stdout == "real"


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000 + "]" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "nonsense", "7", "\xff"],
)
def test_what_is_no_message_is_left_out_and_the_next_cell_works(bridge, content):
    cell = bridge.execute(f'iopub("display_data", {content.encode("latin1")!r}); {shown("x")}')
    assert cell.kinds == [Kind.STDOUT, Kind.REPLY]


@pytest.mark.parametrize(
    "content",
    [
        {"data": 5, "metadata": [], "transient": "x"},
        {"data": None},
        {},
    ],
)
def test_fields_of_the_wrong_type_become_empty_ones(bridge, content):
    cell = bridge.execute(f'iopub("display_data", {content!r})')
    assert cell.displays == [{"data": {}, "metadata": {}, "transient": {}}]


def test_an_output_over_the_limit_is_told_and_the_rest_shown(bridge):
    big = 'iopub("display_data", {"data": {"text/plain": "x" * %d}})'
    cell = bridge.execute(f"{big % 40_000_000}\n{big % 20_000_000}\n{shown('end')}")
    assert cell.stderr.count("MiB was not shown") == 2
    assert cell.stdout == "end"
    assert cell.displays == []


def test_twenty_thousand_messages_arrive_whole(bridge):
    cell = bridge.execute(
        'for i in range(20_000): iopub("display_data", {"data": {"text/plain": str(i)}})'
    )
    assert [one["data"]["text/plain"] for one in cell.displays] == list(map(str, range(20_000)))


def test_what_its_children_write_is_the_cells(bridge):
    cell = bridge.execute('os.system("echo out; echo err >&2")')
    bridge.wait_for(lambda: "out" in cell.stdout and "err" in cell.stderr)


def test_a_question_is_asked_and_answered(bridge):
    code = 'iopub("stream", {"name": "stdout", "text": ask("Name? ", password=True)})'
    cell = bridge.begin(code, allow_stdin=True)
    bridge.wait_for(lambda: bool(cell.of(Kind.INPUT_REQUEST)))
    assert cell.metas(Kind.INPUT_REQUEST) == [{"prompt": "Name? ", "password": True}]
    bridge.answer("Zoë")
    assert bridge.finish(cell).stdout == "Zoë"


def test_a_question_that_nobody_can_answer_gets_an_empty_line(bridge):
    cell = bridge.execute('iopub("stream", {"name": "stdout", "text": repr(ask("?"))})')
    assert cell.stdout == "''"
    assert "cannot answer questions" in cell.stderr


def test_an_interrupt_reaches_the_kernel(bridge):
    cell = bridge.begin(
        "try:\n"
        f"    {shown('up')}\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    reply(status='abort')"
    )
    bridge.wait_for(lambda: cell.stdout == "up")
    bridge.interrupt()
    assert bridge.finish(cell).error["ename"] == "Interrupted"
    assert cell.reply["status"] == "error"


def begin_interrupted(bridge, code):
    """A cell whose interrupt has come before anybody has looked at either."""
    bridge.process.send_signal(signal.SIGSTOP)
    cell = bridge.begin(code)
    bridge.interrupt()
    bridge.process.send_signal(signal.SIGCONT)
    return cell


def test_an_interrupt_reaches_a_cell_that_has_not_begun_yet(bridge):
    for _ in range(10):
        cell = begin_interrupted(bridge, "time.sleep(600)")
        assert bridge.finish(cell).error["ename"] == "Interrupted"
    assert bridge.execute(shown("next")).stdout == "next"


def test_a_message_reaches_a_cell_that_has_not_begun_yet(start):
    bridge = start(options=("--interrupt=message",))
    # The first one comes too early for this kernel; as with IPython's, it is lost.
    code = "receive(control); receive(control); reply(status='abort')"
    cell = begin_interrupted(bridge, code)
    assert bridge.finish(cell).error["ename"] == "Interrupted"


def test_a_kernel_that_wants_a_message_hears_no_signal(start):
    bridge = start(options=("--interrupt=message",))
    cell = bridge.begin(f"{shown('up')}; receive(control); reply(status='error', ename='Stop')")
    bridge.wait_for(lambda: cell.stdout == "up")
    bridge.interrupt()
    assert bridge.finish(cell).reply["status"] == "error"
    assert bridge.execute(shown("next")).stdout == "next"


def test_tcp_does_as_well_as_unix_sockets(start):
    assert start(options=("--transport=tcp",)).execute(shown("x")).stdout == "x"


def test_a_fence_holds_the_reply_until_what_overtook_it_has_come(start):
    fence = (
        "for one in first:\n"
        "    if one is not request and one.content.get('code', '').startswith('#'):\n"
        '        one.iopub("stream", {"name": "stdout", "text": "slow"})\n'
        'iopub("sandbox_fence", {})'
    )
    bridge = start(options=(f"--fence={fence}",))
    cell = bridge.execute("# nothing yet")
    assert cell.kinds == [Kind.STDOUT, Kind.REPLY]


def test_the_kernels_end_is_the_bridges(bridge):
    bridge.begin("os._exit(7)")
    assert bridge.process.wait(DEADLINE_S) == 7


def test_a_kernel_that_is_killed_is_seen_as_killed(bridge):
    bridge.begin("os.kill(os.getpid(), 9)")
    assert bridge.process.wait(DEADLINE_S) == -signal.SIGKILL


def test_what_a_dying_kernel_said_is_heard(bridge, tmp_path):
    # What a kernel's own thread has not sent yet dies with it; this one gives it time.
    wait = "while not os.path.exists('go'): time.sleep(0.01)"
    cell = bridge.begin(f'{shown("words")}\n{wait}\nos.write(2, b"last"); os._exit(1)')
    bridge.wait_for(lambda: cell.stdout == "words")
    (tmp_path / "go").touch()
    bridge.wait_for(lambda: bridge.is_gone or "last" in cell.stderr)
    assert (cell.stdout, cell.stderr) == ("words", "last")


def test_the_bridges_end_is_the_kernels(bridge):
    pid = int(
        bridge.execute('iopub("stream", {"name": "stdout", "text": str(os.getpid())})').stdout
    )
    bridge._socket.close()
    bridge.process.wait(DEADLINE_S)
    until(lambda: is_dead(pid), f"the end of the kernel {pid}")


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_requests_are_translated_both_ways(bridge):
    answer = '{"matches": ["ab", 5], "cursor_start": 0, "cursor_end": 1, "metadata": {"x": 1}}'
    assert bridge.ask(Kind.COMPLETE, answer, cursor_pos=1)["matches"] == ["ab"]
    assert bridge.ask(Kind.INSPECT, "x", cursor_pos=1, detail_level=1)["data"] == {
        "text/plain": "1"
    }
    assert bridge.ask(Kind.IS_COMPLETE, "incomplete") == {"status": "incomplete", "indent": ""}
    assert bridge.ask(Kind.IS_COMPLETE, "whatever") == {"status": "unknown"}


def test_answers_that_make_no_sense_are_harmless(bridge):
    for answer in ('{"status": "aborted"}', '{"matches": 5, "cursor_start": -1}'):
        reply = bridge.ask(Kind.COMPLETE, answer, cursor_pos=3)
        assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == ([], 3, 3)


def test_a_message_of_a_widget_reaches_the_kernel_with_its_buffers(bridge):
    meta = {"action": "msg", "comm_id": "c", "data": {"a": 1}, "buffers": [2, 1]}
    cell = bridge.finish(bridge.request(Kind.COMM, b"abc", meta))
    assert "[2, 1]" in cell.stdout
    assert cell.reply == {"status": "ok"}


def test_packages_that_were_installed_meanwhile_are_told(start):
    code = 'iopub("stream", {"name": "stdout", "text": {path}})'
    bridge = start(options=(f"--attach=pip:{code}",))
    for ecosystem, expected in (("pip", "/l'a"), ("npm", "")):
        meta = {"layers": [{"ecosystem": ecosystem, "path": "/l'a"}], "environment": {}}
        cell = bridge.finish(bridge.request(Kind.ATTACH, b"", meta))
        assert (cell.stdout, cell.reply) == (expected, {"status": "ok"})


def test_of_payloads_only_pages_pass(bridge):
    cell = bridge.execute(
        'reply(payload=[{"source": "set_next_input", "text": "x"}, 5,'
        ' {"source": "page", "data": {"text/plain": "p"}, "start": "x"}])'
    )
    assert cell.reply["payload"] == [{"source": "page", "data": {"text/plain": "p"}, "start": 0}]


def test_a_request_to_quit_ends_kernel_and_bridge(bridge):
    cell = bridge.begin(f'{shown("bye")}; reply(payload=[{{"source": "ask_exit"}}])')
    bridge.wait_for(lambda: bridge.is_gone or cell.stdout == "bye")
    assert bridge.process.wait(DEADLINE_S) == 0


def test_a_request_to_quit_that_keeps_the_kernel_changes_nothing(bridge):
    bridge.execute('reply(payload=[{"source": "ask_exit", "keepkernel": True}])')
    assert bridge.execute(shown("next")).stdout == "next"


def test_each_expression_has_an_answer(bridge):
    cell = bridge.execute(
        'reply(user_expressions={"a": {"status": "ok", "data": {}}})',
        user_expressions={"a": "1", "b": "2"},
    )
    assert cell.reply["user_expressions"]["a"]["status"] == "ok"
    assert cell.reply["user_expressions"]["b"]["ename"] == "NotSupported"


def test_a_missing_program_is_told_in_each_cell_with_the_remedy(start):
    bridge = start("no-such-kernel", "{connection_file}")
    for _ in range(2):
        error = bridge.execute("1").error
        assert error["evalue"] == "There is no no-such-kernel in this sandbox. Install it."
    assert bridge.ask(Kind.COMPLETE, "x", cursor_pos=1)["matches"] == []


def test_a_kernel_that_ends_at_its_start_is_told_with_its_last_words(start):
    bridge = start("sh", "-c", "echo no such package >&2; exit 3", "{connection_file}")
    assert "It said: no such package Install it." in bridge.execute("1").error["evalue"]


def test_a_kernelspec_of_the_guest_is_found_by_name(start):
    assert start("--kernelspec=python3").info["implementation"] == "ipython"
    bridge = start("--kernelspec=no-such-spec")
    assert "no Jupyter kernel 'no-such-spec'" in bridge.execute("1").error["evalue"]
