"""Events and outcomes, there and back; what is none is refused."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel import events
from sandbox_kernel.session import Outcome
from sandbox_kernel.sharing import values, wire

RECEIPT = events.Receipt(0.5, 0.25, 1024, 12, 0)
FAILED = events.CellFailed(1, "E", "v\ud800", ["line"])


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
