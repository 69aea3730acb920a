"""The protocol, spoken over real sockets to a server whose sandbox is scripted."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from sandbox_kernel.kernel.iopub import TEXT_INTERVAL_S
from sandbox_kernel.kernel.wire import Codec
from tests.support.questions import is_complete
from tests.support.waiting import DEADLINE_S, until

ABORTED = "aborted"


def codec_of(kernel) -> Codec:
    return Codec(kernel.connection_info["key"])


def interrupt(kernel) -> None:
    """On the channel of the cells: channels keep no order, and what was sent before is queued."""
    assert kernel.request("interrupt_request", {})["content"] == {"status": "ok"}


# -- execute


def test_busy_comes_first_and_idle_last_with_the_request_as_their_parent(served):
    run = served.run("print hello\nresult 5")
    assert run.types == ["status", "execute_input", "stream", "execute_result", "status"]
    assert run.states == ["busy", "idle"]
    assert run.stdout == "hello\n"
    assert run.result == {"text/plain": "5"}


def test_a_reply_always_has_what_clients_read_without_asking(served):
    content = served.run("print x").content
    assert content["status"] == "ok"
    assert (content["user_expressions"], content["payload"]) == ({}, [])
    assert isinstance(content["execution_count"], int)


def test_the_receipt_and_the_start_are_in_the_replys_metadata(served):
    metadata = served.run("print x").reply["metadata"]
    assert metadata["sandbox"]["wall_s"] == 0.5
    assert metadata["sandbox"]["peak_memory_bytes"] == 1024
    assert metadata["started"]
    assert metadata["status"] == "ok"


def test_only_what_stores_history_moves_the_counter(scripted):
    assert scripted.run("print x").content["execution_count"] == 1
    plain = scripted.run("result 1", store_history=False)
    assert plain.content["execution_count"] == 1
    assert plain.contents("execute_input")[0]["execution_count"] == 2
    assert plain.contents("execute_result")[0]["execution_count"] == 2
    assert scripted.run("print x", silent=True).content["execution_count"] == 1
    assert scripted.run("  \n").content["execution_count"] == 1
    assert scripted.run("result 1").contents("execute_result")[0]["execution_count"] == 2


def test_the_session_is_called_with_what_the_client_asked_for(served):
    asked = json.loads(
        served.run(
            "seen", store_history=False, allow_stdin=True, user_expressions={"a": "1"}
        ).stdout
    )
    assert asked["code"] == "seen"
    assert (asked["allow_stdin"], asked["store_history"], asked["silent"]) == (True, False, False)
    assert asked["user_expressions"] == {"a": "1"}


def test_a_silent_request_shows_nothing_but_its_states(served):
    code = "print x\nresult 1\ndisplay d\nfail"
    assert len(served.run(code).types) > 4
    run = served.run(code, silent=True)
    assert run.types == ["status", "status"]
    assert run.content["ename"] == "ValueError"


def test_an_error_is_one_message_and_the_reply_has_it_too(served):
    run = served.run("fail")
    assert run.types == ["status", "execute_input", "error", "status"]
    assert run.error == {"ename": "ValueError", "evalue": "wanted", "traceback": ["line"]}
    assert {**run.content, **run.error} == run.content
    assert run.reply["metadata"]["status"] == "error"


def test_every_kind_of_rich_output_has_its_message(served):
    run = served.run("display one\nupdate two\nclear wait\nclear")
    shown, updated = run.contents("display_data"), run.contents("update_display_data")
    assert shown[0]["transient"] == updated[0]["transient"] == {"display_id": "d"}
    assert (shown[0]["data"], updated[0]["data"]) == ({"text/plain": "one"}, {"text/plain": "two"})
    assert run.contents("clear_output") == [{"wait": True}, {"wait": False}]


def test_a_message_that_is_no_json_becomes_a_note_and_the_kernel_goes_on(served):
    run = served.run("unserialisable\nprint after")
    assert run.status == "ok"
    assert "display_data is not shown" in run.stderr
    assert run.stdout == "after\n"


def test_expressions_and_pages_pass_and_other_payloads_do_not(served):
    content = served.run("page text\nexpr").content
    assert content["payload"] == [{"source": "page", "data": {"text/plain": "text"}, "start": 0}]
    assert content["user_expressions"]["a"]["data"] == {"text/plain": "1"}
    assert content["user_expressions"]["b"]["ename"] == "E"
    assert set(content["user_expressions"]) == {"a", "b"}


def test_a_sandbox_that_dies_fails_the_cell_and_not_the_kernel(served):
    run = served.run("die")
    assert run.error["ename"] == "SandboxDied"
    assert "again" in run.error["evalue"]
    assert served.run("print alive").stdout == "alive\n"


def test_a_bug_of_ours_still_gets_a_reply_and_an_idle(served):
    run = served.run("bug")
    assert run.content["ename"] == run.error["ename"] == "InternalError"
    assert run.content["execution_count"] > 0
    assert run.states == ["busy", "idle"]
    assert served.run("print alive").stdout == "alive\n"


@pytest.mark.parametrize(
    "content",
    [{}, {"code": 5}, {"code": "print x", "user_expressions": [], "silent": None, "extra": 1}],
)
def test_odd_execute_requests_get_a_reply(served, content):
    reply = served.request("execute_request", content)["content"]
    assert reply["status"] == ("ok" if content.get("extra") else "error")
    assert reply["payload"] == []


def test_a_cell_too_large_for_a_guest_is_refused_with_the_remedy(served):
    run = served.run("print " + "x" * (9 * 2**20))
    assert run.content["ename"] == run.error["ename"] == "CellTooLarge"
    assert "%sandbox put" in run.error["evalue"]


# -- volume


def test_ten_thousand_lines_are_a_handful_of_messages_and_complete(served):
    began_s = time.monotonic()
    run = served.run("lines 10000")
    took_s = time.monotonic() - began_s
    assert run.stdout == "".join(f"line {n}\n" for n in range(10_000))
    # On a busy machine the lines take their time, and nobody is to wait for the first of them.
    assert len(run.contents("stream")) <= max(20, took_s / TEXT_INTERVAL_S)


def test_streams_that_alternate_are_bounded_in_messages_and_complete(served):
    run = served.run("weave 4000")
    assert run.stdout == "".join(f"{n}\n" for n in range(0, 4000, 2))
    assert run.stderr == "".join(f"{n}\n" for n in range(1, 4000, 2))
    assert len(run.contents("stream")) <= 40


def test_a_few_alternating_texts_keep_their_order(served):
    run = served.run("print 1\nerr 2\nprint 3")
    assert [(c["name"], c["text"]) for c in run.contents("stream")] == [
        ("stdout", "1\n"),
        ("stderr", "2\n"),
        ("stdout", "3\n"),
    ]


def test_text_and_displays_keep_their_order(served):
    run = served.run("print 1\ndisplay 2\nprint 3\nresult 4")
    assert run.types[2:-1] == ["stream", "display_data", "stream", "execute_result"]


def test_a_huge_text_is_cut_into_messages_of_a_mebibyte(served):
    run = served.run(f"big {3 * 2**20 + 5}")
    sizes = [len(content["text"]) for content in run.contents("stream")]
    assert sum(sizes) == 3 * 2**20 + 5
    assert max(sizes) <= 2**20


@pytest.mark.slow
def test_a_client_that_stalls_loses_none_of_twenty_thousand_messages(scripted):
    message_id = scripted.raw.execute("displays 20000", allow_stdin=False)
    scripted.wait_for_reply(message_id)  # iopub is not read until all has been sent
    scripted.wait_for_state(message_id, "idle")
    shown = [
        m["content"]["data"]["text/plain"]
        for m in scripted.about(message_id)
        if m["msg_type"] == "display_data"
    ]
    assert shown == [str(number) for number in range(20_000)]


# -- order


def test_cells_run_one_after_another_in_the_order_they_came(served):
    ids = [served.raw.execute(f"print {n}", allow_stdin=False) for n in range(50)]
    for number, message_id in enumerate(ids):
        assert served.finish(message_id).stdout == f"{number}\n"


def test_what_is_queued_behind_a_failed_cell_is_aborted_each_with_busy_and_idle(served):
    ids = [served.start_running("wait"), *(served.raw.execute("print never") for _ in range(2))]
    info = served.raw.kernel_info()
    interrupt(served)
    failed, *rest = [served.finish(message_id) for message_id in ids]
    assert failed.content["ename"] == "KeyboardInterrupt"
    for run in rest:
        assert run.status == ABORTED
        assert run.states == ["busy", "idle"]
        assert run.stdout == ""
        assert run.content["payload"] == []
    assert served.wait_for_reply(info)["content"]["status"] == "ok"
    assert served.run("print next").stdout == "next\n"


def test_without_stop_on_error_the_queue_goes_on(served):
    first = served.start_running("wait", stop_on_error=False)
    second = served.raw.execute("print on")
    interrupt(served)
    assert served.finish(first).status == "error"
    assert served.finish(second).stdout == "on\n"


def test_a_failed_silent_cell_aborts_nothing(served):
    first = served.start_running("wait", silent=True)
    second = served.raw.execute("print on")
    interrupt(served)
    assert served.finish(first).status == "error"
    assert served.finish(second).stdout == "on\n"


def test_more_cells_than_the_queue_holds_all_run(served):
    ids = [served.raw.execute("", silent=True) for _ in range(3000)]
    for message_id in ids:
        assert served.wait_for_reply(message_id)["content"]["status"] == "ok"


# -- late output and stdin


def test_output_after_the_reply_belongs_to_the_cell_that_made_it(served):
    run = served.run("late behind")
    served.run("print other")
    message = served.wait_for_text("behind")
    assert message["parent_header"]["msg_id"] == run.reply["parent_header"]["msg_id"]


def test_late_output_of_a_silent_cell_stays_silent(served):
    served.run("late hidden", silent=True)
    served.run("late visible")
    served.wait_for_text("visible")
    assert not [m for m in served.heard if "hidden" in str(m["content"])]


def asked(kernel):
    return kernel.raw.get_stdin_msg(timeout=DEADLINE_S)


def test_a_question_goes_to_the_client_that_asked_and_its_answer_to_the_cell(served):
    message_id = served.raw.execute("input name?", allow_stdin=True)
    question = asked(served)
    assert question["content"] == {"prompt": "name?", "password": False}
    assert question["parent_header"]["msg_id"] == message_id
    served.raw.input("Ada")
    assert served.finish(message_id).stdout == "[Ada]\n"


def test_a_password_question_says_so_and_says_who_asks(served):
    message_id = served.raw.execute("password Key:", allow_stdin=True)
    assert asked(served)["content"] == {"prompt": "[sandbox] Key:", "password": True}
    served.raw.input("secret")
    assert served.finish(message_id).stdout == "[secret]\n"


def test_without_stdin_a_question_fails_at_once(served):
    assert served.run("input name?", allow_stdin=False).content["ename"].startswith("StdinNot")


def test_an_interrupt_ends_a_cell_that_waits_for_an_answer(served):
    message_id = served.raw.execute("input name?", allow_stdin=True)
    asked(served)
    served.interrupt()
    assert served.finish(message_id).content["ename"] == "KeyboardInterrupt"
    served.raw.input("too late")
    assert served.run("print next").stdout == "next\n"


def test_answers_to_no_question_to_another_one_or_of_another_client_are_dropped(served):
    with served.second_client() as other:
        served.raw.input("before")  # no question is open
        message_id = served.raw.execute("input name?", allow_stdin=True)
        question = asked(served)
        answer = served.raw.session.msg
        other.raw.input("stranger")
        other.request("kernel_info_request", {}, channel="control")  # it has arrived, too
        served.raw.stdin_channel.send(
            answer("input_reply", {"value": "stale"}, parent={"msg_id": "old"})
        )
        served.raw.stdin_channel.send(answer("input_reply", {"value": "right"}, parent=question))
        assert served.finish(message_id).stdout == "[right]\n"


# -- other requests


def test_kernel_info_names_language_boundary_and_no_feature_that_is_missing(served):
    content = served.request("kernel_info_request", {})["content"]
    assert content["language_info"]["name"] == "python"
    assert content["protocol_version"] == "5.5"
    assert "a scripted boundary" in content["banner"]
    assert content["supported_features"] == []


def test_completion_and_inspection_carry_the_cursor_and_drop_forged_fields(served):
    assert served.request("complete_request", {"code": "zi", "cursor_pos": 2})["content"] == {
        "status": "ok",
        "matches": ["zip"],
        "cursor_start": 0,
        "cursor_end": 2,
        "metadata": {},
    }
    wanted = {"code": "zip", "cursor_pos": 1, "detail_level": 1}
    found = served.request("inspect_request", wanted)["content"]
    assert found["found"]
    assert found["data"] == {"text/plain": "zip@1/1"}


@pytest.mark.parametrize("content", [{}, {"code": 1, "cursor_pos": "x"}, {"cursor_pos": -5}])
@pytest.mark.parametrize("kind", ["complete", "inspect", "is_complete", "history", "comm_info"])
def test_requests_with_odd_contents_get_their_reply(served, kind, content):
    reply = served.request(f"{kind}_request", content)
    assert reply["msg_type"] == f"{kind}_reply"


def test_is_complete_is_the_guests_word_when_it_is_free(served):
    assert is_complete(served, "for x in y:") == {"status": "incomplete", "indent": "  "}


def test_is_complete_is_unknown_within_a_second_while_a_cell_runs_or_the_guest_hangs(served):
    running = served.start_running("wait")

    def is_quick() -> bool:
        began_s = time.monotonic()
        asked_id = served.ask("is_complete_request", {"code": "x"})
        assert served.wait_for_reply(asked_id)["content"] == {"status": "unknown"}
        took_s = time.monotonic() - began_s
        served.wait_for_state(asked_id, "idle")
        return took_s < 1.0

    until(is_quick, "an answer within a second")  # of several: the machine may be busy
    served.interrupt()
    served.finish(running)
    hanging = served.request("is_complete_request", {"code": "hang"})
    assert hanging["content"] == {"status": "unknown"}


def test_an_interrupt_ends_a_completion_that_hangs(served):
    asked_id = served.ask("complete_request", {"code": "hang", "cursor_pos": 4})
    served.wait_for_state(asked_id, "busy")
    served.interrupt()
    assert served.wait_for_reply(asked_id)["content"]["matches"] == []


def test_history_is_kept_on_the_host_with_results(scripted):
    scripted.run("result 5")
    scripted.run("print hidden", store_history=False)
    wanted = {"hist_access_type": "tail", "n": 5, "output": True, "raw": True}
    content = scripted.request("history_request", wanted)["content"]
    assert content == {"status": "ok", "history": [[1, 1, ["result 5", "5"]]]}


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_a_request_nobody_knows_gets_an_error_reply(served, channel):
    asked_id = served.ask("create_subshell_request", {}, channel=channel)
    reply = served.wait_for_reply(asked_id, channel=channel)
    assert reply["msg_type"] == "create_subshell_reply"
    assert reply["content"]["status"] == "error"
    served.wait_for_state(asked_id, "idle")


def test_debug_requests_are_refused_in_their_own_protocol(served):
    wanted = {"type": "request", "seq": 7, "command": "attach"}
    content = served.request("debug_request", wanted, channel="control")["content"]
    assert (content["success"], content["request_seq"], content["command"]) == (False, 7, "attach")


def test_connect_requests_name_the_ports(served):
    content = served.request("connect_request", {})["content"]
    assert content["shell_port"] == served.connection_info["shell_port"]


# -- comms


def test_comm_messages_go_in_and_come_back_with_their_buffers(served):
    message = served.raw.session.msg(
        "comm_msg", {"comm_id": "c1", "data": {"x": 1}}, metadata={"m": 1}
    )
    message["buffers"] = [b"\0\xff", b""]
    served.raw.shell_channel.send(message)
    echo = served.wait_for(lambda m: m["msg_type"] == "comm_msg", "echo")
    assert echo["content"]["data"] == {"action": "msg", "target": "", "data": {"x": 1}}
    assert [bytes(buffer) for buffer in echo["buffers"]] == [b"\0\xff", b""]
    assert echo["parent_header"]["msg_id"] == message["header"]["msg_id"]


def test_comm_info_knows_the_comms_of_both_sides_until_they_close(scripted):
    def known(**content):
        return scripted.request("comm_info_request", content)["content"]["comms"]

    run = scripted.run("comm open c1")
    opened = run.contents("comm_open")[0]
    assert (opened["comm_id"], opened["target_name"], opened["data"]) == ("c1", "target", {"n": 1})
    scripted.ask("comm_open", {"comm_id": "c2", "target_name": "mine", "data": {}})
    assert known() == {"c1": {"target_name": "target"}, "c2": {"target_name": "mine"}}
    assert known(target_name="mine") == {"c2": {"target_name": "mine"}}
    scripted.run("comm close c1")
    assert set(known()) == {"c2"}
    scripted.run("newrunner")
    assert known() == {}


def test_comms_of_a_silent_cell_pass(served):
    assert "comm_open" in served.run("comm open c9", silent=True).types


@pytest.mark.parametrize(
    "content", [{}, {"comm_id": 1}, {"comm_id": "x" * 5000}, {"comm_id": "c", "target_name": []}]
)
def test_malformed_comm_messages_get_busy_and_idle_and_nothing_else(served, content):
    asked_id = served.ask("comm_msg", content)
    served.wait_for_state(asked_id, "idle")
    assert [m["msg_type"] for m in served.about(asked_id)] == ["status", "status"]


# -- control


def test_control_answers_while_a_cell_runs(served):
    running = served.start_running("wait")
    for kind in ("kernel_info", "usage", "debug", "comm_info", "history"):
        reply = served.request(f"{kind}_request", {}, channel="control")
        assert reply["msg_type"] == f"{kind}_reply"
    assert not [m for m in served.about(running) if m["content"].get("execution_state") == "idle"]
    served.interrupt()
    assert served.finish(running).content["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("channel", ["control", "shell"])
def test_an_interrupt_request_is_answered_and_ends_the_cell(served, channel):
    running = served.start_running("wait")
    reply = served.request("interrupt_request", {}, channel=channel)
    assert reply["content"] == {"status": "ok"}
    assert served.finish(running).content["ename"] == "KeyboardInterrupt"


def test_an_interrupt_while_idle_does_nothing(served):
    assert served.request("interrupt_request", {}, channel="control")["content"]["status"] == "ok"
    assert served.run("print x").stdout == "x\n"


def test_usage_names_the_kernel_the_sandbox_and_the_machine(served):
    def ask():
        content = served.request("usage_request", {}, channel="control")["content"]
        return content if content["sandbox"] else None

    content = until(ask, "figures of the sandbox's, which come in time or not at all")
    assert content["pid"] == served.pid
    assert content["kernel_memory"] > 10 * 2**20
    assert content["sandbox"]["processes"] == 3
    assert content["host_virtual_memory"]["total"] > content["host_virtual_memory"]["available"]
    assert content["cpu_count"] >= 1


# -- magics


def test_magic_lines_run_on_the_host_and_the_rest_inside_with_its_line_numbers(served):
    run = served.run("%sandbox status\nprint after\nseen")
    assert "a scripted boundary" in run.displays[0]["text/plain"]
    assert "<table>" in run.displays[0]["text/html"]
    assert '"code": "#\\nprint after\\nseen"' in run.stdout


def test_a_cell_of_magics_alone_never_reaches_the_sandbox(served):
    run = served.run("%sandbox files\n# that is all")
    assert run.status == "ok"
    assert "sandbox" not in run.reply["metadata"]


def test_a_magic_that_fails_is_an_error_and_the_rest_does_not_run(served):
    run = served.run("%sandbox frobnicate\nprint never")
    assert run.error["ename"] == "UsageError"
    assert run.stdout == ""
    refused = served.run("%sandbox get a.txt ../evil.txt")
    assert refused.error["ename"] == "FileRefused"
    assert refused.states == ["busy", "idle"]


def test_an_interrupt_ends_a_magic(served):
    running = served.start_running("%sandbox get forever x.txt")
    served.wait_for(
        lambda m: m["msg_type"] == "execute_input" and m["parent_header"]["msg_id"] == running,
        "execute_input",
    )
    served.interrupt()
    assert served.finish(running).content["ename"] == "KeyboardInterrupt"


# -- wrong messages


def test_wrong_messages_are_dropped_and_the_next_right_one_is_answered(served):
    good = codec_of(served).encode("kernel_info_request", {})
    forged = Codec(b"other key").encode("shutdown_request", {"restart": False})
    for channel in (served.raw.shell_channel, served.raw.control_channel, served.raw.stdin_channel):
        for parts in (
            [b""],
            [b"<IDS|MSG>"],
            [b"<IDS|MSG>"] * 20,
            [b"x"] * 2000,
            good[:-2],
            forged,
            [*good[:-1], b'{"code": "print evil"}'],
            [os.urandom(100) for _ in range(8)],
        ):
            channel.socket.send_multipart(parts)
    assert served.run("print alive").stdout == "alive\n"
    assert served.request("kernel_info_request", {}, channel="control")


def test_a_replayed_request_runs_once(served):
    parts = codec_of(served).encode("execute_request", {"code": "print replayed"})
    for _ in range(3):
        served.raw.shell_channel.socket.send_multipart(parts)
    served.wait_for_text("replayed")
    served.run("print barrier")
    assert len([m for m in served.heard if m["content"].get("text") == "replayed\n"]) == 1


def test_an_oversized_message_ends_its_senders_connection_and_not_the_kernel(start_scripted):
    import zmq

    kernel = start_scripted()
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.linger = 0
    stranger.connect(f"tcp://127.0.0.1:{kernel.connection_info['shell_port']}")
    stranger.send(b"x" * (65 * 2**20))
    assert kernel.run("print alive").stdout == "alive\n"
    context.destroy(linger=0)


# -- transports and subscriptions


@pytest.mark.parametrize(
    "options",
    [
        {"transport": "ipc"},
        {"transport_encryption": "required"},
        {"transport": "ipc", "transport_encryption": "required"},
    ],
    ids=["ipc", "curve", "ipc with curve"],
)
def test_other_transports_carry_all_five_channels(start_scripted, options):
    kernel = start_scripted(**options)
    message_id = kernel.raw.execute("input name?", allow_stdin=True)
    asked(kernel)
    kernel.raw.input("Ada")
    assert kernel.finish(message_id).stdout == "[Ada]\n"
    assert kernel.request("usage_request", {}, channel="control")
    until(lambda: kernel.raw.hb_channel.is_beating(), "a heartbeat")


def test_a_client_without_the_curve_key_hears_nothing(start_scripted):
    import zmq

    kernel = start_scripted(transport_encryption="required")
    context = zmq.Context()
    stranger = context.socket(zmq.REQ)
    stranger.linger = 0
    stranger.connect(f"tcp://127.0.0.1:{kernel.connection_info['hb_port']}")
    stranger.send(b"ping")
    assert kernel.run("print x").stdout == "x\n"  # the kernel was there to answer
    assert stranger.poll(300) == 0
    context.destroy(linger=0)


def test_every_subscriber_is_welcomed_before_anything_else(served):
    import zmq

    context = zmq.Context()
    for topic in (b"", b"", b"kernel"):
        subscriber = context.socket(zmq.SUB)
        subscriber.connect(f"tcp://127.0.0.1:{served.connection_info['iopub_port']}")
        subscriber.subscribe(topic)
        assert subscriber.poll(30_000)
        parts = subscriber.recv_multipart()
        message = codec_of(served).decode(parts)
        assert message.msg_type == "iopub_welcome"
        assert message.content == {"subscription": topic.decode()}
        assert message.parent_id == ""
        assert message.identities == ([topic] if topic else [])
    context.destroy(linger=0)


def test_two_clients_hear_the_same_broadcasts(served):
    with served.second_client() as other:
        run = served.run("print both")
        message_id = run.reply["parent_header"]["msg_id"]
        other.wait_for_state(message_id, "idle")
        heard = [m["msg_type"] for m in other.about(message_id)]
        assert heard == run.types


# -- the end


def ended(kernel) -> bool:
    return kernel.manager.provisioner.process.poll() is not None


@pytest.mark.parametrize("channel", ["control", "shell"])
@pytest.mark.parametrize("restart", [False, True])
def test_shutdown_is_answered_and_broadcast_and_then_the_process_ends(scripted, channel, restart):
    asked_id = scripted.ask("shutdown_request", {"restart": restart}, channel=channel)
    reply = scripted.wait_for_reply(asked_id, channel=channel)
    assert reply["content"] == {"status": "ok", "restart": restart}
    broadcast = scripted.wait_for(lambda m: m["msg_type"] == "shutdown_reply", "broadcast")
    assert broadcast["content"]["restart"] == restart
    scripted.wait_for_state(asked_id, "idle")
    until(lambda: ended(scripted), "the end of the process")
    assert scripted.manager.provisioner.process.returncode == 0


def test_shutdown_does_not_wait_for_a_running_cell_or_a_sandbox_that_will_not_close(start_scripted):
    def is_quick() -> bool:
        kernel = start_scripted(env={"SCRIPTED_CLOSE": "never"})
        kernel.start_running("wait")
        began_s = time.monotonic()
        kernel.ask("shutdown_request", {"restart": False}, channel="control")
        until(lambda: ended(kernel), "the end of the process")
        return time.monotonic() - began_s < 2.0

    until(is_quick, "an end within two seconds")  # of several: the machine may be busy


def test_sigterm_ends_the_kernel_orderly(scripted):
    os.kill(scripted.pid, signal.SIGTERM)
    until(lambda: ended(scripted), "the end of the process")
    assert scripted.manager.provisioner.process.returncode == 0


def test_a_restart_brings_a_new_session_id_and_a_fresh_counter(scripted):
    first = scripted.run("print 1").reply["header"]["session"]
    scripted.manager.restart_kernel(now=False)
    scripted.wait_until_ready()
    again = scripted.run("print 1")
    assert again.content["execution_count"] == 1
    assert again.reply["header"]["session"] != first


def test_kernel_info_is_answered_while_the_sandbox_is_not_there_and_a_cell_can_be_interrupted(
    start_scripted,
):
    kernel = start_scripted(env={"SCRIPTED_START": "never"})
    running = kernel.start_running("print never")
    reply = kernel.request("kernel_info_request", {}, channel="control")
    assert reply["content"]["status"] == "ok"
    kernel.interrupt()
    assert kernel.finish(running).content["ename"] == "KeyboardInterrupt"
