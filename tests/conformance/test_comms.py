"""Comms both ways, with buffers.

What a guest's comm may say to a browser is the output policy's to decide: `safe` lets the
stock widgets through and nothing else. The protocol itself is tested with `trusted`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.kernels import IS_OURS, Kernel, Message, running_kernel


@pytest.fixture(scope="module")
def trusted_kernel(kernel_backend: str) -> Iterator[Kernel]:
    env = {"SANDBOX_KERNEL_OUTPUTS": "trusted"}
    with running_kernel(backend=kernel_backend, env=env) as kernel:
        yield kernel


TARGET = (
    "received = []\n"
    "def on_open(comm, message):\n"
    "    received.append(('open', message['content']['data']))\n"
    "    def on_message(message):\n"
    "        data = message['content']['data']\n"
    "        sizes = [bytes(b) for b in message['buffers']]\n"
    "        received.append(('msg', data, sizes))\n"
    "        comm.send({'echo': data}, buffers=[b[::-1] for b in sizes])\n"
    "    comm.on_msg(on_message)\n"
    "    comm.on_close(lambda message: received.append(('close',)))\n"
    "    comm.send({'hello': 'from the guest'})\n"
    "try:\n"
    "    get_ipython().kernel.comm_manager.register_target('test.echo', on_open)\n"
    "except AttributeError:\n"
    "    from comm import get_comm_manager\n"
    "    get_comm_manager().register_target('test.echo', on_open)"
)


def send_comm(kernel: Kernel, action: str, comm_id: str, buffers=None, **content) -> str:
    message = kernel.raw.session.msg(f"comm_{action}", {"comm_id": comm_id, **content})
    kernel.raw.session.send(kernel.raw.shell_channel.socket, message, buffers=buffers)
    return message["header"]["msg_id"]


def wait_for_comm(kernel: Kernel, comm_id: str, key: str) -> Message:
    return kernel.wait_for(
        lambda m: (
            m["msg_type"] == "comm_msg"
            and m["content"]["comm_id"] == comm_id
            and key in m["content"]["data"]
        ),
        f"comm_msg with {key}",
    )


def test_a_comm_opened_by_the_client_talks_both_ways(trusted_kernel: Kernel):
    assert trusted_kernel.run(TARGET).status == "ok"
    comm_id = uuid.uuid4().hex
    opened = send_comm(
        trusted_kernel, "open", comm_id, target_name="test.echo", data={"greeting": 1}
    )
    trusted_kernel.wait_for_state(opened, "idle")
    hello = wait_for_comm(trusted_kernel, comm_id, "hello")
    assert hello["parent_header"]["msg_id"] == opened

    sent = send_comm(trusted_kernel, "msg", comm_id, [b"abc", b"\x00\xff"], data={"n": 5})
    trusted_kernel.wait_for_state(sent, "idle")
    echo = wait_for_comm(trusted_kernel, comm_id, "echo")
    assert echo["content"]["data"] == {"echo": {"n": 5}}
    assert [bytes(buffer) for buffer in echo["buffers"]] == [b"cba", b"\xff\x00"]

    closed = send_comm(trusted_kernel, "close", comm_id, data={})
    trusted_kernel.wait_for_state(closed, "idle")
    result = trusted_kernel.run("received").result["text/plain"]
    assert "('open', {'greeting': 1})" in result
    assert "[b'abc', b'\\x00\\xff']" in result
    assert "('close',)" in result


def test_a_comm_opened_by_the_guest_is_announced_listed_and_closed(trusted_kernel: Kernel):
    run = trusted_kernel.run(
        "from comm import create_comm\n"
        "mine = create_comm(target_name='test.mine', data={'a': 1}, buffers=[b'xyz'])\n"
        "mine.comm_id"
    )
    (opened,) = (m for m in run.messages if m["msg_type"] == "comm_open")
    comm_id = opened["content"]["comm_id"]
    assert opened["content"]["target_name"] == "test.mine"
    assert opened["content"]["data"] == {"a": 1}
    assert [bytes(buffer) for buffer in opened["buffers"]] == [b"xyz"]

    for ask in ({}, {"target_name": "test.mine"}):
        comms = trusted_kernel.request("comm_info_request", ask)["content"]["comms"]
        assert comms[comm_id] == {"target_name": "test.mine"}
    other = trusted_kernel.request("comm_info_request", {"target_name": "x"})["content"]["comms"]
    assert other == {}

    trusted_kernel.run("heard = []\nmine.on_msg(lambda m: heard.append(m['content']['data']))")
    sent = send_comm(trusted_kernel, "msg", comm_id, data={"from": "client"})
    trusted_kernel.wait_for_state(sent, "idle")
    assert trusted_kernel.run("heard").result["text/plain"] == "[{'from': 'client'}]"

    run = trusted_kernel.run("mine.close()")
    assert [c["comm_id"] for c in run.contents("comm_close")] == [comm_id]
    assert comm_id not in trusted_kernel.request("comm_info_request", {})["content"]["comms"]


def test_a_comm_for_an_unknown_target_is_closed(trusted_kernel: Kernel):
    comm_id = uuid.uuid4().hex
    opened = send_comm(trusted_kernel, "open", comm_id, target_name="no.such.target", data={})
    trusted_kernel.wait_for_state(opened, "idle")
    trusted_kernel.wait_for(
        lambda m: m["msg_type"] == "comm_close" and m["content"]["comm_id"] == comm_id,
        "comm_close",
    )
    assert trusted_kernel.run("1").status == "ok"


def test_messages_for_an_unknown_comm_harm_nobody(trusted_kernel: Kernel):
    for action in ("msg", "close"):
        sent = send_comm(trusted_kernel, action, "no-such-comm", data={})
        trusted_kernel.wait_for_state(sent, "idle")
    assert trusted_kernel.run("1").status == "ok"


def test_what_a_comm_callback_prints_belongs_to_the_comm_message(trusted_kernel: Kernel):
    run = trusted_kernel.run(
        "from comm import create_comm\n"
        "talker = create_comm(target_name='test.talker')\n"
        "talker.on_msg(lambda m: print('callback speaks'))"
    )
    comm_id = run.contents("comm_open")[0]["comm_id"]
    sent = send_comm(trusted_kernel, "msg", comm_id, data={})
    trusted_kernel.wait_for_state(sent, "idle")
    spoken = trusted_kernel.wait_for_text("callback speaks")
    assert spoken["parent_header"]["msg_id"] == sent


def test_the_stock_widgets_work(shared_kernel: Kernel):
    """A slider: state goes out, a change by the client comes in, the observer answers."""
    run = shared_kernel.run(
        "import ipywidgets\n"
        "slider = ipywidgets.IntSlider(value=3)\n"
        "slider.observe(lambda change: print('now', change['new']), 'value')\n"
        "slider"
    )
    view = run.result["application/vnd.jupyter.widget-view+json"]
    update = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    sent = send_comm(shared_kernel, "msg", view["model_id"], data=update)
    shared_kernel.wait_for_state(sent, "idle")
    shared_kernel.wait_for_text("now 7")
    assert shared_kernel.run("slider.value").result["text/plain"] == "7"


@pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")
def test_other_comms_reach_the_guest_but_not_the_browser(shared_kernel: Kernel):
    assert shared_kernel.run(TARGET).status == "ok"
    comm_id = uuid.uuid4().hex
    opened = send_comm(shared_kernel, "open", comm_id, target_name="test.echo", data={"n": 1})
    shared_kernel.wait_for_state(opened, "idle")
    sent = send_comm(shared_kernel, "msg", comm_id, [b"abc"], data={"n": 2})
    shared_kernel.wait_for_state(sent, "idle")
    heard = shared_kernel.run("received").result["text/plain"]
    assert "('open', {'n': 1})" in heard
    assert "[b'abc']" in heard
    assert [
        m
        for m in shared_kernel.heard
        if m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == comm_id
    ] == []
    run = shared_kernel.run(
        "from comm import create_comm\n"
        "hidden = create_comm(target_name='test.mine', data={'target_module': 'evil'})"
    )
    assert run.contents("comm_open") == []
