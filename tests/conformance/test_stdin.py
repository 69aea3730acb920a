"""input() and getpass() over the stdin channel."""

from __future__ import annotations

from queue import Empty

import pytest

from tests.support.kernels import IS_OURS, Kernel
from tests.support.waiting import DEADLINE_S


def ask_for_input(kernel: Kernel, code: str) -> tuple[str, dict]:
    """Run `code`, wait until it asks; returns the request's id and what it asks."""
    message_id = kernel.raw.execute(code, allow_stdin=True)
    request = kernel.raw.get_stdin_msg(timeout=DEADLINE_S)
    assert request["msg_type"] == "input_request"
    assert request["parent_header"]["msg_id"] == message_id
    return message_id, request["content"]


def test_input_asks_the_client_and_gets_its_answer(shared_kernel: Kernel):
    message_id, asked = ask_for_input(shared_kernel, "answer = input('Your name? ')\nanswer")
    assert asked["prompt"] == "Your name? "
    assert not asked["password"]
    shared_kernel.raw.input("Zoë 漢")
    assert shared_kernel.finish(message_id).result["text/plain"] == "'Zoë 漢'"


def test_getpass_says_that_it_is_a_password(shared_kernel: Kernel):
    code = "import getpass\ngetpass.getpass('Secret: ')[::-1] == '2retnuh'"
    message_id, asked = ask_for_input(shared_kernel, code)
    # Ours marks it, so that a cell cannot pretend to be the machine that asks.
    assert asked["prompt"].endswith("Secret: ")
    assert ("sandbox" in asked["prompt"]) == IS_OURS
    assert asked["password"]
    shared_kernel.raw.input("hunter2")
    run = shared_kernel.finish(message_id)
    assert run.result["text/plain"] == "True"
    assert "hunter2" not in str(run.messages)


def test_several_inputs_in_one_cell_are_asked_in_turn(shared_kernel: Kernel):
    message_id, first = ask_for_input(
        shared_kernel, "print('before'); a = input('a'); b = input('b'); print(a + b)"
    )
    assert first["prompt"] == "a"
    shared_kernel.raw.input("1")
    assert shared_kernel.raw.get_stdin_msg(timeout=DEADLINE_S)["content"]["prompt"] == "b"
    shared_kernel.raw.input("2")
    assert shared_kernel.finish(message_id).stdout == "before\n12\n"


def test_output_before_the_question_is_seen_before_the_answer(shared_kernel: Kernel):
    message_id, _ = ask_for_input(shared_kernel, "print('read this first'); x = input('? ')")
    shared_kernel.wait_for_text("read this first")
    shared_kernel.raw.input("")
    assert shared_kernel.finish(message_id).status == "ok"


@pytest.mark.parametrize("code", ["input('?')", "import getpass; getpass.getpass()"])
def test_input_fails_at_once_when_the_client_takes_no_questions(shared_kernel: Kernel, code: str):
    run = shared_kernel.run(code, allow_stdin=False, timeout_s=30)
    assert run.error["ename"] == "StdinNotImplementedError"
    with pytest.raises(Empty):
        shared_kernel.raw.get_stdin_msg(timeout=0.1)


def test_the_question_goes_to_the_client_whose_cell_asks(shared_kernel: Kernel):
    with shared_kernel.second_client() as other:
        message_id = other.raw.execute("input('other?')", allow_stdin=True)
        assert other.raw.get_stdin_msg(timeout=DEADLINE_S)["content"]["prompt"] == "other?"
        with pytest.raises(Empty):
            shared_kernel.raw.get_stdin_msg(timeout=0.1)
        other.raw.input("mine")
        assert other.finish(message_id).result["text/plain"] == "'mine'"


def test_an_interrupt_ends_the_waiting_for_input(shared_kernel: Kernel):
    shared_kernel.run("kept = 'kept'")
    message_id, _ = ask_for_input(shared_kernel, "input('never answered')")
    shared_kernel.interrupt()
    assert shared_kernel.finish(message_id).error["ename"] == "KeyboardInterrupt"
    assert shared_kernel.run("kept").result["text/plain"] == "'kept'"


def test_an_answer_that_nobody_asked_for_is_not_kept_for_the_next_question(shared_kernel: Kernel):
    message_id, _ = ask_for_input(shared_kernel, "input('never answered')")
    shared_kernel.interrupt()
    shared_kernel.finish(message_id)
    shared_kernel.raw.input("stale")
    # A round trip on the same connection's kernel, so that the stale answer has been read.
    shared_kernel.run("1")
    message_id, _ = ask_for_input(shared_kernel, "input('fresh?')")
    shared_kernel.raw.input("fresh")
    assert shared_kernel.finish(message_id).result["text/plain"] == "'fresh'"
