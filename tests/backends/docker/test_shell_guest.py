"""`ShellGuest` alone: whatever a container says, the session hears its own protocol."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_kernel import events, languages
from sandbox_kernel.backends.docker.shell import ShellGuest, lines
from sandbox_kernel.backends.docker.shell.marks import Mark, Scanner
from sandbox_kernel.frames import EventDecoder
from sandbox_kernel.guest.framing import Kind, pack

TOKEN = "0123456789abcdef" * 2
MARK = f"\x1e{TOKEN} end 3\x1e".encode()


class Scripted:
    """A guest whose container is played by the test."""

    def __init__(self, output_bytes: int = 2**20) -> None:
        self.guest = ShellGuest(languages.get("bash"))
        self._decoder = EventDecoder()
        limits = {"output_bytes": output_bytes}
        configure = {"limits": limits, "workspace": "/workspace", "environment": {}}
        self.ready = self.token(self.ask(Kind.CONFIGURE, 0, configure))

    def ask(self, kind: int, cell: int, meta: dict | None = None, data: bytes = b"") -> bytes:
        return self.guest.hear_host(pack(kind, cell, meta, data))

    def token(self, written: bytes) -> bytes:
        return re.findall(rb"[0-9a-f]{32}", written)[-1]

    def hear(self, stream: int, data: bytes) -> list[events.Event]:
        return self._decoder.feed(self.guest.hear_guest(stream, data))

    def execute(self, cell: int = 1) -> bytes:
        written = self.ask(Kind.EXECUTE, cell, {"execution_count": cell}, b"echo")
        return re.findall(rb"[0-9a-f]{32}", written)[0]

    def mark(self, token: bytes, word: bytes) -> list[events.Event]:
        """The same mark on both streams."""
        text = b"\x1e" + token + b" " + word + b"\x1e"
        return self.hear(1, text) + self.hear(2, text)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


def test_a_runner_is_ready_when_the_container_says_so(scripted):
    first = scripted.hear(1, b"noise before anything\n")
    assert first == [events.RunnerStarted(0, 1)]
    (ready,) = scripted.hear(1, b"\x1e" + scripted.ready + b" said 0\x1e")
    assert isinstance(ready, events.RunnerReady)
    assert "variables don't" in ready.info["banner"]


def test_a_cell_ends_when_both_streams_have_said_so(scripted):
    token = scripted.execute()
    scripted.mark(token, b"begin")
    end = b"\x1e" + token + b" end 0\x1e"
    assert scripted.hear(1, b"out" + end) == [events.OutputWritten(1, "stdout", b"out")]
    heard = scripted.hear(2, b"err" + end)
    assert [type(event) for event in heard] == [
        events.OutputWritten,
        events.Replied,
        events.CellEnded,
    ]


def test_late_output_stays_with_its_cell_until_the_next_begins(scripted):
    first = scripted.execute(1)
    scripted.mark(first, b"begin")
    scripted.mark(first, b"end 0")
    second = scripted.execute(2)
    assert scripted.hear(1, b"late")[0].cell == 1
    scripted.mark(second, b"begin")
    assert scripted.hear(1, b"own")[0].cell == 2


def test_a_second_account_of_an_end_is_no_news(scripted):
    token = scripted.execute()
    scripted.mark(token, b"begin")
    scripted.mark(token, b"end 0")
    assert scripted.mark(token, b"lost") == []


def test_a_cell_while_another_runs_ends_as_an_error(scripted):
    scripted.execute(1)
    written = scripted.ask(Kind.EXECUTE, 2, {}, b"echo")
    heard = scripted.hear(1, b"\x1e" + scripted.token(written) + b" said 0\x1e")
    assert [type(event) for event in heard][-1] is events.CellEnded


def test_a_restart_settles_the_cell_in_the_supervisors_order(scripted):
    scripted.hear(1, b"")
    token = scripted.execute()
    scripted.mark(token, b"begin")
    halt = scripted.token(scripted.ask(Kind.RESTART_RUNNER, 7))
    assert [type(event) for event in scripted.mark(halt, b"gone")] == [
        events.RunnerExited,
        events.CellEnded,
        events.RunnerStarted,
        events.Answered,
        events.RunnerReady,
    ]


@pytest.mark.parametrize(
    "kind",
    [
        *(Kind.FILE_LIST, Kind.FILE_READ, Kind.FILE_WRITE),
        *(Kind.COMM, Kind.ADD_RUNNER, Kind.ATTACH),
    ],
)
def test_what_needs_python_is_refused(scripted, kind):
    scripted.hear(1, b"")
    written = scripted.ask(kind, 9, {"name": "a", "argv": ["a"]})
    (refused,) = scripted.hear(1, b"\x1e" + scripted.token(written) + b" said 0\x1e")
    assert isinstance(refused, events.Refused)
    assert "--image" in refused.reason


@given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=100))))
def test_any_bytes_at_all_are_output(pieces):
    scripted = Scripted()
    token = scripted.execute()
    scripted.mark(token, b"begin")
    heard = b""
    for stream, data in pieces:
        for event in scripted.hear(stream, data):
            assert isinstance(event, events.OutputWritten)
            heard += event.content
    whole = sum(len(data) for _, data in pieces)
    assert whole - 2 * 60 <= len(heard) <= whole


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 200))
@settings(max_examples=200)
def test_marks_are_found_however_they_are_cut(before, after, size):
    text = before + MARK + after + b"\n" * 60
    scanner = Scanner(lambda token: token == TOKEN)
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    found = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    assert [piece for piece in found if isinstance(piece, Mark)] == [Mark(TOKEN, "end", 3)]
    output = b"".join(piece for piece in found if isinstance(piece, bytes))
    assert output == before + after + b"\n" * 60


def test_a_forged_mark_without_an_end_does_not_hide_the_real_one():
    scanner = Scanner(lambda token: token == TOKEN)
    forged = b"\x1e" + b"0" * 32 + b" end 0"
    assert list(scanner.feed(forged + MARK)) == [forged, Mark(TOKEN, "end", 3)]


def test_what_is_held_back_is_shorter_than_a_mark():
    scanner = Scanner(lambda token: True)
    held = b"x" + b"\x1e" * 1000 + b"a" * 1000
    assert b"".join(p for p in scanner.feed(held) if isinstance(p, bytes)) == held
    assert list(scanner.feed(b"\x1e" + b"a" * 32 + b" end 123456789")) == []
    assert list(scanner.feed(b"0" * 20)) != []


def test_a_container_that_pays_no_answer_is_not_owed_more_and_more(scripted):
    for number in range(3000):
        scripted.ask(Kind.IS_COMPLETE, number, None, b"x")
    assert len(scripted.guest._owed) <= 1001


@given(st.binary())
def test_code_is_never_read_as_shell(content):
    escaped = lines.escape(content)
    assert re.fullmatch(rb"[ -~]*", escaped)
    assert b"'" not in escaped
    plain = re.sub(rb"\\0([0-7]{3})", lambda found: bytes([int(found[1], 8)]), escaped)
    assert plain == content.replace(b"\0", b"")
