"""Callbacks, what a result keeps of a run, and who answers `input()`."""

import asyncio

import pytest

from sandbox_kernel.engine import hearing
from sandbox_kernel.engine.hearing import Answers, Hearing
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.events import (
    DisplayShown,
    DisplayUpdated,
    InputRequested,
    ResultShown,
    TextWritten,
)
from sandbox_kernel.limits import Limits


def text(written, stream="stdout"):
    return TextWritten(1, stream, written)


def shown(content, display_id=None):
    transient = {"display_id": display_id} if display_id else {}
    return DisplayShown(1, {"text/plain": content}, {}, transient)


def updated(content, display_id):
    return DisplayUpdated(1, {"text/plain": content}, {}, {"display_id": display_id})


def test_callbacks_hear_in_order_and_the_result_keeps_all():
    heard = []
    one = Hearing(
        on_stdout=lambda t: heard.append(("out", t)),
        on_stderr=lambda t: heard.append(("err", t)),
        on_display=lambda d: heard.append(("display", d.text)),
        on_event=lambda e: heard.append(type(e).__name__),
    )
    for event in (text("a"), text("b", "stderr"), shown("c"), ResultShown(1, {}, {}), text("d")):
        one.hear(event)
    assert [item for item in heard if isinstance(item, tuple)] == [
        ("out", "a"), ("err", "b"), ("display", "c"), ("display", ""), ("out", "d"),
    ]  # fmt: skip
    assert heard[0] == "TextWritten"
    assert (one.text("stdout"), one.text("stderr")) == ("ad", "b")
    assert [display.is_result for display in one.displays] == [False, True]


def test_what_a_callback_raises_is_kept_and_stops_the_run_once():
    stopped = []

    def fail(_text):
        raise ValueError("mine")

    one = Hearing(on_stdout=fail, give_up=lambda: stopped.append(1))
    for _ in range(3):
        one.hear(text("a"))
    assert stopped == [1]
    assert isinstance(one.raised, ValueError)


def test_an_update_replaces_what_it_updates_and_is_heard():
    heard = []
    one = Hearing(on_display=lambda display: heard.append((display.text, display.is_update)))
    for event in (shown("0 %", "bar"), shown("else"), updated("100 %", "bar"), updated("?", "no")):
        one.hear(event)
    assert [display.text for display in one.displays] == ["100 %", "else"]
    assert not one.displays[0].is_update
    assert heard == [("0 %", False), ("else", False), ("100 %", True), ("?", True)]


def test_the_last_expression_is_the_text():
    one = Hearing()
    one.hear(ResultShown(1, {"text/plain": "2"}, {}))
    one.hear(shown("after"))
    assert one.result_text == "2"
    assert Hearing().result_text == ""


def test_text_without_end_does_not_fill_the_host(monkeypatch):
    """Supervisors bound output; one that isn't ours any more would not."""
    monkeypatch.setattr(hearing, "_TEXT_SLACK", 100)
    heard = []
    one = Hearing(on_stdout=heard.append, limits=Limits(output_bytes=1000))
    for _ in range(1000):
        one.hear(text("x" * 50))
    assert len(one.text("stdout")) <= 2100
    assert one.text("stderr").count("Not all text") == 1
    assert len(heard) == 1000


def test_text_is_not_bounded_where_its_owner_says_so():
    one = Hearing(limits=Limits(output_bytes=0))
    one.hear(text("x" * 10**7))
    assert len(one.text("stdout")) == 10**7


def test_displays_without_end_do_not_fill_the_host(monkeypatch):
    monkeypatch.setattr(hearing, "MAX_DISPLAYS_BYTES", 1000)
    heard = []
    one = Hearing(on_display=heard.append)
    for _ in range(100):
        one.hear(shown("x" * 90, "same"))
        one.hear(updated("y" * 90, "same"))
    assert sum(len(display.text) for display in one.displays) <= 1000
    assert len(heard) == 200
    assert one.text("stderr").count("Not all rich outputs") == 1


def test_an_update_that_grows_counts(monkeypatch):
    monkeypatch.setattr(hearing, "MAX_DISPLAYS_BYTES", 1000)
    one = Hearing()
    one.hear(shown("x", "same"))
    one.hear(updated("y" * 2000, "same"))
    assert one.displays[0].text == "x"


def test_so_many_displays_are_kept_as_the_limit_says():
    one = Hearing(limits=Limits(displays=3))
    for number in range(5):
        one.hear(shown(str(number)))
    assert [display.text for display in one.displays] == ["0", "1", "2"]


def test_a_callback_that_nobody_would_await_is_refused():
    async def tell(_text):
        pass

    with pytest.raises(SettingsError, match="tell is an async function"):
        Hearing(on_stdout=tell)


def test_what_cannot_be_called_is_no_callback():
    with pytest.raises(SettingsError, match="A callback is 'print'"):
        Hearing(on_stdout="print")


# --- input ------------------------------------------------------------------------------


async def answers_to(stdin, count=3):
    """What `count` prompts get, and what was raised."""
    got, came, stopped = [], asyncio.Queue(), []
    made = Answers(stdin, came.put_nowait, lambda: (stopped.append(1), came.put_nowait(...)))
    for number in range(count):
        made.ask(InputRequested(1, f"{number}? ", False))
        answer = await asyncio.wait_for(came.get(), 20)
        if stopped:
            break
        got.append(answer)
    made.close()
    return got, made.raised


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        ("a\nb\n", ["a", "b", None]),
        ("a\r\n\r\nb", ["a", "", "b"]),
        ("a\u2028b\x0bc\n", ["a\u2028b\x0bc", None, None]),
        ("", [None, None, None]),
        (["a", "b\n"], ["a", "b", None]),
        (iter("ab"), ["a", "b", None]),
        ([1, 2.5], ["1", "2.5", None]),
    ],
)
async def test_lines_are_answered_one_by_one_and_then_there_is_no_more(stdin, expected):
    assert await answers_to(stdin) == (expected, None)


@pytest.mark.parametrize("stdin", [5, b"bytes would be numbers"])
async def test_what_answers_nothing_is_refused(stdin):
    with pytest.raises(SettingsError, match="stdin is"):
        await answers_to(stdin)


async def test_a_callable_gets_the_prompt_and_its_none_ends_the_input():
    assert await answers_to(lambda prompt: None if prompt == "2? " else prompt.strip()) == (
        ["0?", "1?", None],
        None,
    )


async def test_a_callable_may_be_asynchronous():
    async def answer(prompt):
        await asyncio.sleep(0)
        return prompt

    class Caller:
        async def __call__(self, prompt):
            return prompt

    for callable_ in (answer, Caller(), lambda prompt: answer(prompt)):
        assert (await answers_to(callable_))[0] == ["0? ", "1? ", "2? "]


async def test_what_a_callable_raises_is_kept_and_stops_the_run():
    def fail(_prompt):
        raise LookupError("mine")

    def broken():
        yield "a"
        raise LookupError("mine")

    assert isinstance((await answers_to(fail))[1], LookupError)
    got, raised = await answers_to(broken())
    assert got == ["a"]
    assert isinstance(raised, LookupError)
