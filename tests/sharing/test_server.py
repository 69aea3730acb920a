"""A kernel, and a driver that does not keep to what was agreed: nobody's ruin."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel.sharing import places, server, wire
from tests.sharing.conftest import shared
from tests.support.waiting import until


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

    def greeted() -> int:
        others = [Raw(session_id, joins=False) for _ in range(server.MAX_DRIVERS + 1)]
        for other in others:
            other.close()
        return sum(other.greeting is not None for other in others)

    assert greeted() <= server.MAX_DRIVERS - 1
    # The twin: there is room for all but one of these, when those before them have been let go.
    until(lambda: greeted() >= server.MAX_DRIVERS - 3, "room for so many")
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
