"""A builder that says what no installer says."""

import asyncio

import pytest

from sandbox_kernel import events
from sandbox_kernel.dependencies import transfer
from sandbox_kernel.dependencies.indexes import Index, Upstream
from sandbox_kernel.dependencies.receiver import LayerRefused, Receiver
from sandbox_kernel.dependencies.relay import Relay
from sandbox_kernel.dependencies.transfer import Transfer
from tests.support.waiting import DEADLINE_S


class Guest:
    """Answers what the host asks; `says` is said when the layer is asked for."""

    def __init__(self, *says):
        self.says = list(says)
        self.sent = []
        self.lies = []
        self.is_answering = asyncio.Event()
        self.is_answering.set()
        index = Index("pip", (Upstream("https://pypi.org/"),), {}, {}, "x", "")
        self.relay = Relay(index, 1)
        self.transfer = Transfer(self.ask, self.relay, self.lies.append)

    async def ask(self, kind, meta=None, data=b""):
        self.sent.append((meta["data"], data))
        await self.is_answering.wait()
        if meta["target_name"] == "layer":
            for said in self.says.pop(0) if self.says else ():
                self.transfer.hear(said)
        return events.Replied(0, {"status": "ok"})

    async def settled(self):
        async with asyncio.timeout(DEADLINE_S):
            while self.transfer._tasks:
                await asyncio.gather(*self.transfer._tasks.values())


def said(target, data, content=b"", number=""):
    return events.CommSent(1, "msg", number, target, data, {}, [content] if content else [])


def fetch(number="1", **fields):
    return said("fetch", {"method": "POST", "path": "/", "headers": {}, **fields}, number=number)


def entry(path, size):
    return {"path": path, "size": size, "is_executable": False}


END = said("layer", {"resolved": []})


async def test_a_layer_comes_in_pieces(tmp_path):
    guest = Guest(
        [said("layer", {"entries": [entry("a", 3)]}, b"ab")],
        [said("layer", {"entries": [entry("b", 1)]}, b"cd")],
        [END],
    )
    with Receiver(tmp_path / "layer") as receiver:
        assert await guest.transfer.receive(receiver) == []
        receiver.finish()
    assert (tmp_path / "layer/a").read_text() == "abc"
    assert guest.lies == []


@pytest.mark.parametrize(
    "event",
    [
        said("layer", {"entries": []}),
        said("elsewhere", {}),
        fetch(path=1),
        fetch(headers=[]),
        fetch(headers={"a": 1}),
        fetch(headers={str(number): "x" for number in range(11)}),
        fetch(number="9" * 21),
        said("fetch", {}),
    ],
    ids=range(8),
)
async def test_what_nobody_asked_for_is_a_lie(event):
    guest = Guest()
    guest.transfer.hear(event)
    assert len(guest.lies) == 1
    assert guest.sent == []


async def test_a_request_that_is_one_is_answered():
    guest = Guest()
    guest.transfer.hear(fetch())
    await guest.settled()
    assert guest.lies == []
    assert guest.sent[0][0]["status"] == 405


async def test_one_number_twice_and_too_many_requests_are_lies():
    guest = Guest()
    guest.is_answering.clear()
    guest.transfer.hear(fetch("1"))
    guest.transfer.hear(fetch("1"))
    assert len(guest.lies) == 1
    for number in range(2, 300):
        guest.transfer.hear(fetch(str(number)))
    assert len(guest.transfer._tasks) <= transfer._MAX_WAITING
    assert len(guest.lies) > 1
    guest.is_answering.set()
    await guest.settled()


async def test_no_more_than_a_few_answers_are_on_their_way_at_a_time():
    guest = Guest()
    guest.is_answering.clear()
    for number in range(100):
        guest.transfer.hear(fetch(str(number)))
    async with asyncio.timeout(DEADLINE_S):
        while len(guest.sent) < transfer.CONCURRENCY:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(guest.sent) == transfer.CONCURRENCY
    guest.is_answering.set()
    await guest.settled()


@pytest.mark.parametrize(
    "says",
    [
        [[]],
        [[said("layer", {})]],
        [[said("layer", {"entries": 1})]],
        [[said("layer", {"entries": [entry("../a", 0)]})]],
        [[said("layer", {"resolved": 1})]],
        [[said("layer", {"resolved": [1]})]],
        [[said("layer", {"resolved": [{"name": 1, "version": "1", "hash": ""}]})]],
        [[said("layer", {"resolved": [{"name": "a", "version": "1", "hash": "sha256:0"}]})]],
        [[said("layer", {"resolved": [{"name": "a", "version": "1", "hash": "sha512-é"}]})]],
        [[said("layer", {"resolved": [{}] * 6000})]],
    ],
    ids=range(10),
)
async def test_a_layer_that_is_none_leaves_nothing(tmp_path, says):
    guest = Guest(*says)
    with pytest.raises(LayerRefused):
        await received(guest, tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


async def received(guest, directory):
    with Receiver(directory) as receiver:
        found = await guest.transfer.receive(receiver)
        receiver.finish()
        return found


async def test_more_than_one_piece_at_a_time_is_a_lie(tmp_path):
    piece = said("layer", {"entries": []}, b"x" * 10)
    guest = Guest([piece, piece, piece])
    with pytest.raises(LayerRefused):
        await received(guest, tmp_path / "layer")
    assert len(guest.lies) == 2


async def test_names_and_hashes_are_cleaned_and_checked(tmp_path):
    import base64
    from hashlib import sha512

    item = {"name": "a\x1b]0;x\x07", "version": "1" * 500, "hash": ""}
    hashed = {
        "name": "b",
        "version": "2",
        "hash": "sha512-" + base64.b64encode(sha512().digest()).decode(),
    }
    guest = Guest([said("layer", {"resolved": [item, item, hashed]})])
    guest.relay.digests.add(f"sha512:{sha512().hexdigest()}")
    [first, second] = await received(guest, tmp_path / "layer")
    assert (first.name, len(first.version)) == ("a]0;x", 200)
    assert second.hash.startswith("sha512:cf83e135")
