"""The output budget: head and tail are shown, the whole text lies in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.guest.spill import OutputBudget
from tests.guest.support import Cell, Guest

StartGuest = Callable[..., Guest]

BUDGET = 100_000
LINES = b"".join(b"line %06d\n" % n for n in range(100_000))

PRINTERS = {
    "runner": "for n in range(0, len(text), 4096): send(STDOUT, cell, data=text[n : n + 4096])",
    "child": "for n in range(0, len(text), 4096): os.write(1, text[n : n + 4096])",
    "one huge frame": "send(STDOUT, cell, data=text)",
}


@pytest.fixture
def printer(start_guest: StartGuest) -> Callable[..., Cell]:
    """Print `text` in one of the ways, under the budget; the cell."""

    def run(text: bytes, how: str = "runner", **limits: int) -> Cell:
        guest = start_guest(limits={"output_bytes": BUDGET, **limits})
        (guest.workspace / ".text").write_bytes(text)
        return guest.run(f"text = open('.text', 'rb').read()\n{PRINTERS[how]}", execution_count=7)

    return run


@pytest.mark.parametrize("how", list(PRINTERS))
def test_head_and_tail_are_shown_and_the_whole_lies_in_a_file(
    printer: Callable[..., Cell], tmp_path: Path, how: str
) -> None:
    cell = printer(LINES, how)
    truncated = cell.notice("output_truncated")
    assert truncated == {
        "code": "output_truncated",
        "file": "output-7.txt",
        "limit_bytes": BUDGET,
    }
    split = next(n for n, frame in enumerate(cell.frames) if b"output_tail" in frame.meta)
    head = Cell(cell.frames[:split]).stdout
    tail = Cell(cell.frames[split:]).stdout
    assert LINES.startswith(head)
    assert head.endswith(b"\n")
    assert BUDGET * 0.7 < len(head) <= BUDGET * 3 // 4
    assert LINES.endswith(tail)
    assert tail.startswith(b"line ")
    assert BUDGET * 0.2 < len(tail) <= BUDGET // 4
    omitted = cell.notice("output_tail")["omitted_bytes"]
    assert len(head) + omitted + len(tail) == len(LINES)
    assert (tmp_path / "workspace/output-7.txt").read_bytes() == LINES
    assert cell.end["receipt"]["output_bytes"] == len(LINES)
    assert cell.files == {}


def test_output_within_the_budget_leaves_no_file(
    printer: Callable[..., Cell], tmp_path: Path
) -> None:
    text = LINES[: BUDGET * 3 // 4]
    cell = printer(text)
    assert cell.stdout == text
    assert list(cell.notices()) == []
    assert os.listdir(tmp_path / "workspace") == [".text"]


def test_a_little_over_omits_nothing(printer: Callable[..., Cell]) -> None:
    text = LINES[: int(BUDGET * 0.9)]
    cell = printer(text)
    assert cell.stdout == text
    assert cell.notice("output_tail")["omitted_bytes"] == 0


def test_no_budget_shows_everything(printer: Callable[..., Cell], tmp_path: Path) -> None:
    cell = printer(LINES, output_bytes=0)
    assert cell.stdout == LINES
    assert list(cell.notices()) == []
    assert os.listdir(tmp_path / "workspace") == [".text"]


def test_a_line_without_an_end_is_cut_between_characters(printer: Callable[..., Cell]) -> None:
    cell = printer("a€".encode() * 100_000)
    cell.stdout.decode()  # neither half of a euro sign


def test_both_streams_count_and_share_the_file(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 1000})
    code = "for n in range(400): send(STDERR if n % 2 else STDOUT, cell, data=b'%03d\\n' % n)"
    cell = guest.run(code)
    assert b"001\n" in cell.stderr
    text = (guest.workspace / "output-1.txt").read_bytes()
    assert text == b"".join(b"%03d\n" % n for n in range(400))


def test_the_file_stops_at_a_quarter_of_the_workspace(
    printer: Callable[..., Cell], tmp_path: Path
) -> None:
    cell = printer(LINES, workspace_bytes=400_000)
    assert (tmp_path / "workspace/output-7.txt").read_bytes() == LINES[:100_000]
    assert cell.end["receipt"]["output_bytes"] == len(LINES)


@pytest.mark.parametrize("obstacle", ["file", "symlink", "directory", "fifo"])
def test_what_has_the_name_already_stays_as_it_was(
    start_guest: StartGuest, tmp_path: Path, obstacle: str
) -> None:
    guest = start_guest(limits={"output_bytes": 1000})
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    taken = guest.workspace / "output-1.txt"
    {
        "file": lambda: taken.write_text("mine"),
        "symlink": lambda: taken.symlink_to(outside),
        "directory": lambda: taken.mkdir(),
        "fifo": lambda: os.mkfifo(taken),
    }[obstacle]()
    cell = guest.run("send(STDOUT, cell, data=b'x' * 5000)")
    assert cell.notice("output_truncated")["file"] == "output-1-2.txt"
    assert (guest.workspace / "output-1-2.txt").read_bytes() == b"x" * 5000
    assert outside.read_text() == "untouched"


def test_every_name_taken_costs_the_file_and_nothing_else(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 1000})
    (guest.workspace / "output-1.txt").touch()
    for number in range(2, 100):
        (guest.workspace / f"output-1-{number}.txt").touch()
    cell = guest.run("send(STDOUT, cell, data=b'x' * 5000)")
    assert cell.notice("output_truncated")["file"] is None
    assert cell.outcome == "ok"


def test_late_output_over_the_budget_is_dropped_with_one_notice(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"output_bytes": 1000})
    guest.run("first = cell")
    guest.run("for _ in range(100): send(STDOUT, first, data=b'x' * 100)")
    first = Cell([frame for frame in guest.frames if frame.cell == 1])
    assert 0 < len(first.stdout) <= 1000
    notices = list(first.notices())
    assert [notice["code"] for notice in notices] == ["output_truncated"]
    assert notices[0]["file"] is None
    assert not (guest.workspace / "output-1.txt").exists()


def test_what_a_dead_runner_printed_too_much_lies_in_the_file(
    start_guest: StartGuest,
) -> None:
    guest = start_guest(limits={"output_bytes": 1000})
    cell = guest.run("send(STDOUT, cell, data=b'y' * 5000)\nos._exit(1)")
    assert cell.outcome == "lost"
    assert cell.notice("output_tail")["file"] == "output-1.txt"
    assert guest.request(Kind.FILE_READ, {"name": "output-1.txt"}).data == b"y" * 5000


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000])
def test_whatever_the_pieces_nothing_is_lost_or_doubled(tmp_path: Path, size: int) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    text = "é€x\n".encode() * 500
    budget = OutputBudget(1000, 10**6, directory, "output-1")
    shown = b""
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        if budget.admits(len(piece)):
            budget.show(piece)
            shown += piece
        else:
            shown += budget.cut(piece)
    omitted, tail = budget.finish()
    assert text.startswith(shown)
    assert text.endswith(tail)
    assert len(shown) + omitted + len(tail) == len(text) == budget.written_bytes
    assert (tmp_path / "output-1.txt").read_bytes() == text
    os.close(directory)


def test_a_large_budget_begins_its_file_early_and_removes_it_unused(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    budget = OutputBudget(64 * 2**20, 2**30, directory, "output-1")
    piece = b"x" * 2**20
    for _ in range(20):
        budget.show(piece)
    assert (tmp_path / "output-1.txt").stat().st_size == 20 * 2**20
    budget.finish()
    assert list(tmp_path.iterdir()) == []
    os.close(directory)
