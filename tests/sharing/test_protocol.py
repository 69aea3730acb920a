"""What passes between kernel and program: bounded, checked, and nobody's ruin."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from sandbox_kernel import __version__, events
from sandbox_kernel.errors import BackendUnavailable, NoSuchSession, RequestRefused
from sandbox_kernel.session import Outcome
from sandbox_kernel.sharing import places, server, values, wire
from sandbox_kernel.sharing.client import connect
from tests.sharing.conftest import shared

RECEIPT = events.Receipt(0.5, 0.25, 1024, 12, 0)
FAILED = events.CellFailed(1, "E", "v\ud800", ["line"])


# -- values


@pytest.mark.parametrize(
    "value",
    [
        events.TextWritten(1, "stdout", "é\ud800\0"),
        events.DisplayShown(1, {"image/png": "aa"}, {"a": [1, {}]}, {}, ("a.png", "b.png")),
        events.DisplayUpdated(1, {"is": "forged", "of": []}, {}, {"display_id": "d"}),
        events.OutputCleared(1, True),
        events.ResultShown(1, {"application/json": [1, None, {"is": "x"}]}, {}),
        FAILED,
        events.InputRequested(1, "?", True),
        events.CommSent(1, "msg", "id", "", {"n": 1}, {}, [b"\0\xff", b"", b"abc"]),
        events.CellEnded(1, "ok", RECEIPT),
        Outcome("error", FAILED, RECEIPT, {"a": {"status": "ok"}}, [{"source": "page"}]),
        Outcome("ok", None, None, {}, []),
    ],
)
def test_events_and_outcomes_arrive_as_they_were(value):
    content, data = values.to_json(value)
    found = values.from_json(json.loads(json.dumps(content)), data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "forged",
    [
        {"is": "Popen", "of": [1]},
        {"is": "TextWritten", "of": [1]},
        {"is": "TextWritten", "of": {"cell": 1}},
        {"is": "bytes", "of": 10},
        {"is": "bytes", "of": -1},
        {"is": "bytes", "of": True, "x": 1, "of2": 1} | {"of": "1"},
        {"is": None, "of": []},
        {"is": ["dict"], "of": []},
        {},
        [[[[[[[[[]]]]]]]]],
    ],
)
def test_what_is_no_value_is_refused(forged):
    with pytest.raises(wire.ProtocolError):
        values.from_json(forged, b"abc")


# -- bytes


async def read_all(content: bytes, limit: int = wire.MAX_JSON_BYTES):
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return await wire.read(reader, limit)


async def test_a_message_arrives_whole_or_not_at_all():
    packed = wire.pack({"a": "\ud800é"}, b"data")
    assert await read_all(packed) == ({"a": "\ud800é"}, b"data")
    for length in range(len(packed)):
        assert await read_all(packed[:length]) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 8,
        wire.HEADER.pack(101, 0),
        wire.HEADER.pack(2, wire.MAX_DATA_BYTES + 1) + b"{}",
        wire.HEADER.pack(2, 0) + b"[]",
        wire.HEADER.pack(3, 0) + b"{x}",
        wire.HEADER.pack(2, 0) + b"\xff\xfe",
        wire.HEADER.pack(100, 0) + b"[" * 100,
    ],
)
async def test_what_is_no_message_is_refused(content):
    with pytest.raises(wire.ProtocolError):
        await read_all(content, limit=100)


def test_what_is_too_large_is_not_packed():
    with pytest.raises(wire.ProtocolError, match="bytes"):
        wire.pack({}, b"x" * (wire.MAX_DATA_BYTES + 1))
    with pytest.raises(wire.ProtocolError, match="JSON"):
        wire.pack({"x": object()})


# -- a kernel and a driver that does not keep to it


class Raw:
    """A connection without a client."""

    def __init__(self, session_id: str, *, joins: bool = True) -> None:
        with places.existing() as found:
            joined = [peer for place in found if (peer := places.connected(place, session_id))]
        (self.socket,) = joined
        self.socket.settimeout(30)
        self._file = self.socket.makefile("rb")
        self.greeting = self.hear()
        if joins:
            self.say({"verb": "join", "driver": "raw"})

    def say(self, message, data: bytes = b"") -> None:
        self.socket.sendall(wire.pack(message, data))

    def hear(self):
        header = self._file.read(wire.HEADER.size)
        if len(header) < wire.HEADER.size:
            return None
        lengths = wire.HEADER.unpack(header)
        message = json.loads(self._file.read(lengths[0]))
        self._file.read(lengths[1])
        return message

    def asks(self, **request):
        self.say({"id": 1, **request})
        return self.hear()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def raw(notebook):
    made = Raw(shared(notebook).id)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"verb": "fork"}, "no request 'fork'"),
        ({"verb": None}, "no request"),
        ({"verb": "execute"}, "has no 'code'"),
        ({"verb": "execute", "code": 7}, "'code' of that kind"),
        ({"verb": "execute", "code": "1", "env": {}}, "no 'env'"),
        ({"verb": "execute", "code": "1", "cpus": True}, "'cpus' of that kind"),
        ({"verb": "execute", "code": "1", "timeout_s": "9"}, "'timeout_s' of that kind"),
        ({"verb": "file", "kind": 2, "meta": {}}, "no request about files"),
        ({"verb": "file", "kind": 11, "meta": {"name": "../x"}}, ""),
        ({"verb": "install", "packages": []}, "names"),
        ({"verb": "install", "packages": [1]}, "names"),
        ({"verb": "_leave"}, "no request"),
    ],
)
def test_a_wrong_request_is_refused_and_the_next_one_answered(raw, request_, told):
    answer = raw.asks(**request_)
    assert answer["kind"] == "error"
    assert answer["name"] in ("RequestRefused", "FileRefused")
    assert told in answer["text"]
    assert raw.asks(verb="status")["kind"] == "answer"


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 8,
        wire.pack({"verb": "status"}),
        wire.pack({"id": 0, "verb": "status"}),
        wire.pack({"id": "1", "verb": "status"}),
        wire.pack({"id": 1, "verb": "execute", "code": "import time; time.sleep(60)"}) * 2,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_who_sends_nonsense_is_dropped_and_the_notebook_goes_on(notebook, raw, sent):
    raw.socket.sendall(sent)
    heard = []
    while (message := raw.hear()) is not None:
        heard.append(message["kind"])
    assert heard[-1] == "closed"
    assert notebook.run("6 * 7").result["text/plain"] == "42"


@pytest.mark.parametrize(
    "first", [{"id": 1, "verb": "status"}, {"verb": "join"}, {"verb": "join", "driver": "a\x1bb"}]
)
def test_who_does_not_say_who_it_is_gets_nothing(notebook, first):
    raw = Raw(shared(notebook).id, joins=False)
    raw.say(first)
    assert raw.hear()["kind"] == "closed"
    assert raw.hear() is None
    raw.close()


def test_there_is_an_end_to_how_many_come_and_ask(notebook, raw):
    session_id = raw.greeting["session_id"]
    others = [Raw(session_id, joins=False) for _ in range(server.MAX_DRIVERS + 1)]
    greeted = [other for other in others if other.greeting is not None]
    assert len(greeted) <= server.MAX_DRIVERS - 1
    # The twin: there is room for all but one of these, unless a look of ours is still there.
    assert len(greeted) >= server.MAX_DRIVERS - 3
    for other in others:
        other.close()
    slow = {"verb": "execute", "code": "import time; time.sleep(60)"}
    for number in range(1, server.MAX_PENDING + 2):
        raw.say({"id": number, **slow})
    while (message := raw.hear())["kind"] in ("event", "begun"):
        pass
    assert (message["id"], message["kind"]) == (server.MAX_PENDING + 1, "error")
    raw.close()
    assert notebook.run("6 * 7").result["text/plain"] == "42"


def test_who_does_not_read_is_dropped(notebook, raw):
    """The reader's own cells come through meanwhile."""
    write = {"verb": "file", "kind": 12, "meta": {"name": "big", "offset": 0, "truncate": True}}
    raw.say({"id": 1, **write}, b"x" * 2**20)
    assert raw.hear()["kind"] == "answer"
    read = {"verb": "file", "kind": 11, "meta": {"name": "big", "offset": 0, "length": 2**20}}
    numbers = iter(range(2, 5000))

    def ask_without_reading():
        while True:
            for _ in range(50):
                raw.say({"id": next(numbers), **read})
            assert notebook.run("6 * 7").result["text/plain"] == "42"

    with pytest.raises(OSError):
        ask_without_reading()
    assert next(numbers) < 1000
    notebook.run("import os; os.remove('big')")


# -- a program and a kernel that does not keep to it


class FakeKernel:
    """Listens in the place of one, and says what it is told."""

    def __init__(self, *said: bytes) -> None:
        self.id = places.new_id()
        self._said = said
        self.place = places.make()
        self._listener = places.listening(self.place, self.id)
        self._peers: list[socket.socket] = []

    async def __aenter__(self):
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    def _accept(self) -> None:
        peer, _ = self._listener.accept()
        self._peers.append(peer)
        peer.sendall(b"".join(self._said))

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self._listener)
        for one in (*self._peers, self._listener):
            one.close()
        self.place.remove(self.id + places.ENDING)
        self.place.close()


HELLO = {"kind": "hello", "protocol": 1, "version": __version__, "language": "python"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"\xff" * 8, "no message of ours"),
        (wire.pack({"kind": "closed"}), "no greeting"),
        (wire.pack({**HELLO, "version": "9.9"}), "runs sandbox-kernel 9.9"),
        (wire.pack({**HELLO, "limits": {"memory_bytes": 1}}), "limits"),
        (wire.pack({**HELLO, "limits": None}), "limits"),
    ],
)
async def test_a_kernel_of_another_kind_is_named(said, told):
    async with FakeKernel(said) as fake:
        with pytest.raises(BackendUnavailable, match=told):
            await connect(fake.id)


@pytest.mark.parametrize("answer", [{"id": 1, "kind": "answer", "content": {"outcome": {}}}])
async def test_an_answer_that_is_none_is_an_error_of_ours(answer):
    from sandbox_kernel.limits import Limits

    hello = wire.pack({**HELLO, "limits": Limits()._asdict()})
    async with FakeKernel(hello, wire.pack(answer)) as fake:
        seat = await connect(fake.id)
        with pytest.raises(RequestRefused, match="gave no answer"):
            async with asyncio.timeout(20):
                await seat.execute("1", on_event=lambda _event: None)
        await seat.close()


@pytest.mark.parametrize("wrong", ["", "../../x", "0" * 31, "x" * 32, "0" * 32])
async def test_an_id_of_nothing_is_told_with_the_remedy(wrong):
    with pytest.raises(NoSuchSession, match="list --sessions"):
        await connect(wrong)
