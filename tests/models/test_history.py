"""What is kept of a long conversation, and code blocks in a model's text."""

import pytest

from sandbox_kernel.models import fences, history
from sandbox_kernel.models.fences import Block
from sandbox_kernel.models.replies import ToolCall


def _turn(number: int, size: int) -> list[dict[str, object]]:
    function = {"name": "run_code", "arguments": "{}"}
    wanted = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": None, "tool_calls": [wanted]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": "x" * size},
        {"role": "assistant", "content": f"answer {number}"},
    ]


def test_the_oldest_outputs_go_first_and_what_was_said_stays():
    messages = [message for number in range(6) for message in _turn(number, 1000)]
    history.shorten(messages, limit=3500)
    lengths = [len(message["content"]) for message in messages if message["role"] == "tool"]
    assert lengths[:3] == [len("[left out, as the conversation is long]")] * 3
    assert lengths[3:] == [1000] * 3
    assert sum(str(message["content"]).startswith("question") for message in messages) == 6


def test_the_newest_output_stays_however_long():
    messages = _turn(1, 10_000)
    history.shorten(messages, limit=100)
    assert len(messages[2]["content"]) == 10_000


def test_outputs_of_fenced_code_go_too():
    ran = history.outcome(ToolCall(fences.CALL_ID, "run_code", "", {}), "x" * 1000)
    messages = [ran, *_turn(1, 10)]
    history.shorten(messages, limit=500)
    assert len(messages[0]["content"]) < 100
    history.shorten(messages, limit=1)
    assert messages[1:] == _turn(1, 10)


def test_of_many_notes_the_newest_stay():
    notes: list[str] = []
    for number in range(100):
        notes = history.newest([*notes, f"note {number} " + "x" * 90], limit=500)
    assert len(notes) == 6
    assert notes[0].startswith("[what was done before")
    assert [note.split()[1] for note in notes[1:]] == ["95", "96", "97", "98", "99"]
    assert history.newest(["x" * 1000], limit=500) == ["x" * 1000]


def test_a_short_conversation_stays_as_it_is():
    messages = _turn(1, 10)
    history.shorten(messages)
    assert messages == _turn(1, 10)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no code", []),
        ("```python\n1\n```", [Block("1", "python")]),
        ("```\n1\n2\n```\nafter", [Block("1\n2", "")]),
        ("~~~Ruby\n1\n~~~", [Block("1", "ruby")]),
        ("```py title=x\n1\n```", [Block("1", "py")]),
        ("````md\n```python\n1\n```\n````", [Block("```python\n1\n```", "md")]),
        ("```a\n1\n```\n```b\n2\n```", [Block("1", "a"), Block("2", "b")]),
        ("  ```python\n1\n  ```", [Block("1", "python")]),
        ("```python\ncut off", [Block("cut off", "python")]),
        ("```python", []),
        ("`inline` ```not a fence```", []),
    ],
)
def test_fenced_blocks_are_found(text, found):
    assert fences.blocks(text) == found


def test_the_last_block_in_a_known_language_is_the_one():
    text = "```py\n1\n```\n```python\n2\n```\n```html\n3\n```\n"
    assert fences.last_block(text, ["python"]) == Block("2", "python")
    assert fences.last_block(text, []) == Block("3", "html")
    assert fences.last_block(text, ["ruby"]) is None


def test_a_great_many_fences_take_no_time():
    assert len(fences.blocks("```a\n" * 100_000)) == 1
