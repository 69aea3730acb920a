"""Comms and the widgets that use them."""

from __future__ import annotations

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Cell, Runner

OPEN = {"action": "open", "comm_id": "c1", "target_name": "mine", "metadata": {}, "buffers": []}


@pytest.fixture(params=["ipython", "plain"])
def talker(request, start_runner) -> Runner:
    return start_runner(request.param)


def send(runner: Runner, meta: dict[str, object], content: bytes = b"") -> Cell:
    return runner.finish(runner.request(Kind.COMM, content, meta))


def test_a_comm_is_opened_used_and_closed_with_buffers(talker: Runner) -> None:
    cell = talker.execute(
        "from comm import create_comm\nprint('before')\nparts = [b'xy', b'z']\n"
        "c = create_comm(target_name='t', data={'a': 1}, metadata={'m': 2}, buffers=parts)\n"
        "c.send({'b': 2}, buffers=[memoryview(b'123')])\nprint('between')\nc.close({'e': 3})"
    )
    opened, sent, closed = cell.metas(Kind.COMM_OUT)
    assert opened == {
        "action": "open",
        "comm_id": opened["comm_id"],
        "target_name": "t",
        "data": {"a": 1},
        "metadata": {"m": 2},
        "buffers": [2, 1],
    }
    frames = cell.of(Kind.COMM_OUT)
    assert [frame.data for frame in frames] == [b"xyz", b"123", b""]
    assert (sent["action"], sent["data"]) == ("msg", {"b": 2})
    assert (closed["action"], closed["data"]) == ("close", {"e": 3})
    assert cell.kinds[:2] == [Kind.STDOUT, Kind.COMM_OUT]


def test_the_browsers_messages_reach_callbacks_and_print_into_their_own_request(
    talker: Runner,
) -> None:
    first = talker.execute(
        "import comm\ndef opened(c, msg):\n"
        "    print('opened', msg['content']['data'])\n"
        "    c.on_msg(lambda m: print('got', m['content']['data'], bytes(m['buffers'][1])))\n"
        "    c.on_close(lambda m: print('closed'))\n"
        "comm.get_comm_manager().register_target('mine', opened)"
    )
    opened = send(talker, OPEN | {"data": {"x": 1}})
    assert opened.stdout == "opened {'x': 1}\n"
    message = {"action": "msg", "comm_id": "c1", "data": {"y": 2}, "buffers": [2, 3]}
    assert send(talker, message, b"abcde").stdout == "got {'y': 2} b'cde'\n"
    closing = {"action": "close", "comm_id": "c1", "data": {}, "buffers": []}
    assert send(talker, closing).stdout == "closed\n"
    assert first.stdout == ""


def test_an_unknown_target_is_closed(talker: Runner) -> None:
    cell = send(talker, OPEN | {"data": {}})
    (closed,) = cell.metas(Kind.COMM_OUT)
    assert (closed["action"], closed["comm_id"]) == ("close", "c1")
    assert cell.reply == {"status": "ok"}


def test_messages_for_unknown_comms_are_answered(talker: Runner) -> None:
    message = {"action": "msg", "comm_id": "nowhere", "data": {}, "buffers": []}
    assert send(talker, message).reply == {"status": "ok"}
    odd = {"action": "__class__", "comm_id": "nowhere", "data": {}}
    assert send(talker, odd).reply == {"status": "ok"}


def test_a_callback_that_fails_says_so_and_the_runner_lives(talker: Runner) -> None:
    talker.execute("import comm\ncomm.get_comm_manager().register_target('mine', lambda c, m: 1/0)")
    cell = send(talker, OPEN | {"data": {}})
    assert "ZeroDivisionError" in cell.stderr
    assert talker.execute("print('alive')").stdout == "alive\n"


def test_a_widget_is_displayed_and_reacts(ipython: Runner) -> None:
    cell = ipython.execute(
        "import ipywidgets as w\nslider = w.IntSlider(3)\n"
        "slider.observe(lambda change: print('now', change['new']), 'value')\nslider"
    )
    (result,) = cell.metas(Kind.RESULT)
    model = result["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    opened = [meta for meta in cell.metas(Kind.COMM_OUT) if meta["action"] == "open"]
    assert model in [meta["comm_id"] for meta in opened]
    assert {meta["target_name"] for meta in opened} == {"jupyter.widget"}
    message = {
        "action": "msg",
        "comm_id": model,
        "data": {"method": "update", "state": {"value": 7}, "buffer_paths": []},
        "buffers": [],
    }
    moved = send(ipython, message)
    assert moved.stdout == "now 7\n"
    assert ipython.execute("slider.value").result == "7"


def test_an_output_widget_captures_what_its_block_prints(ipython: Runner) -> None:
    cell = ipython.execute(
        "import ipywidgets as w\nout = w.Output()\n"
        "with out:\n    print('inside')\nprint('outside')",
        msg_id="the-request",
    )
    order = []
    for frame in cell.frames:
        if frame.kind == Kind.STDOUT:
            order += frame.data.decode().split()
        elif frame.kind == Kind.COMM_OUT:
            state = frame.read_meta()["data"].get("state", {})
            if set(state) == {"msg_id"}:
                order.append(state["msg_id"])
    assert order == ["the-request", "inside", "", "outside"]


def test_interact_calls_back(ipython: Runner) -> None:
    cell = ipython.execute(
        "import ipywidgets as w\n@w.interact(x=(0, 10))\ndef f(x=5): print('x is', x)"
    )
    assert cell.reply["status"] == "ok"
    assert "x is 5" in cell.stdout
    assert cell.displays


def test_tqdm_counts_in_a_notebook(ipython: Runner) -> None:
    cell = ipython.execute("from tqdm.auto import tqdm\nfor i in tqdm(range(3)): pass")
    assert cell.reply["status"] == "ok"
    assert "application/vnd.jupyter.widget-view+json" in cell.displays[0]["data"]


def test_what_asks_ipykernel_for_its_shell_finds_this_one(ipython: Runner) -> None:
    cell = ipython.execute(
        "from ipykernel.zmqshell import ZMQInteractiveShell\n"
        "isinstance(get_ipython(), ZMQInteractiveShell)"
    )
    assert cell.result == "True"
    more = ipython.execute("from ipykernel.zmqshell import ZMQDisplayPublisher")
    assert more.reply["status"] == "ok"


def test_libraries_recognise_a_notebook(ipython: Runner) -> None:
    cell = ipython.execute(
        "ip = get_ipython()\nfrom pandas.io.formats.console import in_ipython_frontend\n"
        "type(ip).__name__, in_ipython_frontend(), ip.kernel is not None"
    )
    assert cell.result == "('ZMQInteractiveShell', True, True)"
