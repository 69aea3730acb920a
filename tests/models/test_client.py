"""One answer of a model over HTTP: streamed, assembled, bounded, and every way it can fail."""

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from sandbox_kernel.errors import ExtraMissing, ModelUnavailable
from sandbox_kernel.models import Model, replies
from sandbox_kernel.models.failures import RequestNotTaken
from tests.support.model_server import call, calls, cut, fails, holds, raw, says, slow
from tests.support.waiting import DEADLINE_S

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "run", "description": "", "parameters": {"type": "object"}},
}

# --- what comes ---------------------------------------------------------------------------


async def test_text_is_streamed_in_pieces_and_given_whole(model, model_server):
    model_server.script(says("Good morning, grüß Gott 🎉", piece=4))
    pieces = []
    reply = await model.answer(HELLO, on_text=pieces.append)
    assert reply.text == "".join(pieces) == "Good morning, grüß Gott 🎉"
    assert len(pieces) > 3
    assert (reply.calls, reply.finish) == ((), "stop")


async def test_a_callback_may_be_a_coroutine_function(model, model_server):
    model_server.script("one two")
    pieces = []

    async def hear(text: str) -> None:
        await asyncio.sleep(0)
        pieces.append(text)

    await model.answer(HELLO, on_text=hear)
    assert "".join(pieces) == "one two"


async def test_tool_calls_are_put_together_from_their_pieces(model, model_server):
    wanted = [call("run", code="print('ä')\n" * 20), call("run", code="2")]
    model_server.script(calls(*wanted, text="Let me see.", piece=3))
    reply = await model.answer(HELLO, [TOOL])
    assert reply.text == "Let me see."
    assert [item.arguments for item in reply.calls] == [
        {"code": "print('ä')\n" * 20},
        {"code": "2"},
    ]
    assert [item.id for item in reply.calls] == [item["id"] for item in wanted]
    assert model_server.requests[0].tools == ["run"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"code": "pri', "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('"code"', "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"code": "\\ud800"}', "halves of characters"),
    ],
)
async def test_arguments_that_are_none_are_given_with_their_problem(
    model, model_server, text, problem
):
    model_server.script(calls(call("run", text), piece=50_000))
    (item,) = (await model.answer(HELLO, [TOOL])).calls
    assert item.arguments is None
    assert problem in item.problem
    assert item.text == text


async def test_empty_arguments_are_an_empty_object(model, model_server):
    model_server.script(calls(call("run", "")))
    (item,) = (await model.answer(HELLO, [TOOL])).calls
    assert item.arguments == {}


async def test_arguments_cut_off_at_the_longest_answer_say_so(model, model_server):
    cut_off = calls(call("run", '{"code": "pri'))
    model_server.script(cut_off.__class__(**{**cut_off.__dict__, "finish": "length"}))
    (item,) = (await model.answer(HELLO, [TOOL])).calls
    assert "cut off" in item.problem


async def test_halves_of_characters_never_leave_as_text(model, model_server):
    chunk = {"choices": [{"index": 0, "delta": {"content": "a\ud800b"}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    model_server.script(raw(body, content_type="text/event-stream"), "fine")
    reply = await model.answer(HELLO)
    assert reply.text == "a\ufffdb"
    await model.answer([*HELLO, {"role": "assistant", "content": reply.text}])


async def test_an_endpoint_that_does_not_stream_is_asked_again_for_the_whole(model, model_server):
    answer = {
        "id": "1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "whole"},
                "finish_reason": "stop",
            }
        ],
    }
    body = json.dumps(answer).encode()
    model_server.script(raw(body), raw(body))
    pieces = []
    reply = await model.answer(HELLO, on_text=pieces.append)
    assert (reply.text, pieces) == ("whole", ["whole"])
    assert [request.is_streamed for request in model_server.requests] == [True, False]


async def test_options_of_the_request_are_passed_on(open_model, model_server):
    model_server.script("yes")
    await open_model(options={"temperature": 0, "max_tokens": 5}).answer(HELLO)
    assert model_server.requests[0].body["temperature"] == 0
    assert model_server.requests[0].body["max_tokens"] == 5


# --- what goes wrong ------------------------------------------------------------------------


async def said(model: Model) -> str:
    with pytest.raises(ModelUnavailable) as told:
        await model.answer(HELLO, [TOOL])
    return str(told.value)


async def test_a_wrong_key_is_told_without_the_key(open_model, model_server):
    text = await said(open_model(key="sk-wrong-1234"))
    assert "refused the key" in text
    assert "Correct model_key (SANDBOX_KERNEL_MODEL_KEY)" in text
    assert "sk-wrong-1234" not in text


async def test_a_key_that_the_endpoint_repeats_is_taken_out(model, model_server):
    model_server.script(fails(401, f"Incorrect API key provided: {model_server.key}."))
    text = await said(model)
    assert model_server.key not in text
    assert "Incorrect API key provided: …" in text


async def test_a_model_that_is_not_there_is_named(open_model):
    text = await said(open_model("gpt-none"))
    assert "has no model gpt-none" in text
    assert "Correct model or model_url" in text


async def test_an_endpoint_that_nobody_serves_is_named(open_model):
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        text = await said(open_model(url=url))
    assert f"{url} cannot be reached" in text
    assert "model_url" in text


async def test_too_many_requests_are_repeated_and_then_told(open_model, model_server):
    limited = fails(429, "Rate limit reached", retry_after_ms="1")
    model_server.script(limited, limited, "at last")
    assert (await open_model(retries=2).answer(HELLO)).text == "at last"
    model_server.script(limited, limited)
    assert "takes no more requests for now: Rate limit reached." in await said(
        open_model(retries=1)
    )
    assert model_server.remaining == 0


async def test_a_server_error_is_told_with_its_reason(model, model_server):
    model_server.script(fails(503, "the model is loading"))
    assert "failed with status 503: the model is loading." in await said(model)


async def test_a_request_that_is_not_taken_is_an_error_of_its_own(model, model_server):
    model_server.script(fails(400, "scripted-1 does not support tools"))
    with pytest.raises(RequestNotTaken, match="does not support tools"):
        await model.answer(HELLO, [TOOL])


@pytest.mark.parametrize(
    "turn",
    [
        raw(b"<html>Welcome</html>", content_type="text/html"),
        raw(b"{}"),
        raw(b"[1, 2]"),
        raw(b"null"),
        raw(b""),
        raw(b'{"choices": null}'),
        raw(b'{"choices": [{}]}'),
        raw(b'{"choices": [{"message": {"content": ["a"]}, "finish_reason": "stop"}]}'),
        raw(b'{"choices": [{"message": null, "finish_reason": "stop"}]}'),
    ],
)
async def test_an_answer_that_is_no_completion_is_told(model, model_server, turn):
    model_server.script(turn, turn)
    text = await said(model)
    assert "is not a chat completion" in text
    assert "model_url" in text
    assert "object has no attribute" not in text


@pytest.mark.parametrize(
    "event",
    [
        b"no json",
        b"{}",
        b"[]",
        b"null",
        b'{"choices": 7}',
        b'{"choices": [{"delta": {"content": 5}, "finish_reason": null}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": null}]}',
        b'{"choices": [{"delta": {"tool_calls": 3}, "finish_reason": null}]}',
    ],
)
async def test_a_stream_of_something_else_is_told(model, model_server, event):
    model_server.script(raw(b"data: " + event + b"\n\n", content_type="text/event-stream"))
    assert "is not a chat completion" in await said(model)


async def test_an_error_within_the_stream_is_told(model, model_server):
    event = json.dumps({"error": {"message": "out of memory"}}).encode()
    model_server.script(raw(b"data: " + event + b"\n\n", content_type="text/event-stream"))
    assert "broke off: out of memory." in await said(model)


async def test_a_connection_that_breaks_in_the_middle_is_told(model, model_server):
    model_server.script(cut("a long answer", after=2), "fine")
    assert "broke in the middle of an answer. Ask again" in await said(model)
    assert (await model.answer(HELLO)).text == "fine"


async def test_a_stream_without_its_end_is_told(model, model_server):
    chunk = {"choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": None}]}
    body = f"data: {json.dumps(chunk)}\n\n".encode()
    model_server.script(raw(body, content_type="text/event-stream"))
    assert "broke in the middle" in await said(model)


async def test_an_answer_that_takes_too_long_is_given_up(open_model, model_server):
    model_server.script(slow("late", 30))
    text = await said(open_model(timeout_s=0.2))
    assert "did not answer within 0.2 s" in text


async def test_an_answer_that_trickles_has_the_same_time(open_model, model_server):
    model_server.script(holds("it begins and never ends"))
    assert "did not answer within 0.5 s" in await said(open_model(timeout_s=0.5))


async def test_a_cancelled_answer_hangs_up(model, model_server):
    model_server.script(holds("thinking"))
    asking = asyncio.ensure_future(model.answer(HELLO))
    assert await asyncio.to_thread(model_server.held.wait, DEADLINE_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.to_thread(model_server.hung_up.wait, DEADLINE_S)


async def test_an_answer_longer_than_any_model_gives_is_refused(model, model_server, monkeypatch):
    monkeypatch.setattr(replies, "MAX_CHARS", 1000)
    model_server.script(says("x" * 1001, piece=100), says("x" * 1000, piece=100))
    assert "longer than 1000 characters" in await said(model)
    assert len((await model.answer(HELLO)).text) == 1000


async def test_more_calls_than_any_model_makes_are_refused(model, model_server):
    few = calls(*(call("run", "") for _ in range(replies.MAX_CALLS)))
    many = calls(*(call("run", "") for _ in range(replies.MAX_CALLS + 1)))
    model_server.script(many, few)
    assert "calls more than" in await said(model)
    assert len((await model.answer(HELLO, [TOOL])).calls) == replies.MAX_CALLS


async def test_what_an_endpoint_says_is_bounded_and_printable(model, model_server):
    model_server.script(fails(500, "\x1b]0;title\x07" + "x" * 10_000))
    text = await said(model)
    assert text.isprintable()
    assert len(text) < 600


# --- the package ----------------------------------------------------------------------------


def test_without_the_package_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'sandbox-kernel\[ai\]'"):
        Model("any", key="k")


def test_the_package_is_imported_when_a_model_is_made_and_not_before():
    code = (
        "import sys, sandbox_kernel.models, sandbox_kernel.ai\n"
        "assert not {'openai', 'httpx', 'httpx2', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
