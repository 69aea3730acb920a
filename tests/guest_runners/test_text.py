"""What cells print: complete, in order, in few frames, and as the cell that printed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner


def test_a_printed_line_is_one_frame(runner: Runner) -> None:
    cells = [runner.execute("print('hello, world')") for _ in range(10)]
    assert {cell.stdout for cell in cells} == {"hello, world\n"}
    # It is sent 10 ms after it was begun, and a busy machine may need longer for the rest.
    assert [Kind.STDOUT, Kind.REPLY] in [[frame.kind for frame in cell.frames] for cell in cells]


def test_ten_thousand_lines_are_a_handful_of_frames(runner: Runner) -> None:
    cell = runner.execute("for i in range(10_000): print(i)")
    assert cell.stdout == "".join(f"{i}\n" for i in range(10_000))
    assert len(cell.of(Kind.STDOUT)) <= 20


def test_flushing_every_line_makes_no_more_frames(runner: Runner) -> None:
    cell = runner.execute("for i in range(200_000): print(i, flush=True)")
    assert cell.stdout.count("\n") == 200_000
    assert len(cell.of(Kind.STDOUT)) <= 100


def test_fifty_mebibytes_arrive_whole_in_frames_of_a_mebibyte_at_most(runner: Runner) -> None:
    lines = runner.execute("for i in range(500_000): print('x' * 104)")
    assert len(lines.stdout) == 105 * 500_000
    assert max(len(frame.data) for frame in lines.of(Kind.STDOUT)) <= 2**20
    blocks = runner.execute("import sys\nfor i in range(50): sys.stdout.write('y' * 2**20)")
    assert blocks.stdout == "y" * 50 * 2**20
    assert max(len(frame.data) for frame in blocks.of(Kind.STDOUT)) <= 2**20


def test_text_written_long_before_the_cell_ends_arrives_before_it_ends(runner: Runner) -> None:
    cell = runner.begin("print('now')\nimport time\ntime.sleep(60)")
    runner.wait_for(lambda: cell.stdout == "now\n")
    assert not cell.is_answered


def test_streams_keep_their_order(runner: Runner) -> None:
    cell = runner.execute(
        "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\ndisplay(1)\nprint('d')"
    )
    shown = [data or kind for kind, data in cell.told]
    assert shown == [b"a\n", b"b\n", b"c\n", Kind.DISPLAY, b"d\n", Kind.REPLY]


def test_streams_that_alternate_much_are_merged(runner: Runner) -> None:
    cell = runner.execute(
        "import sys\nfor i in range(1000):\n    print(i)\n    print(-i, file=sys.stderr)"
    )
    assert cell.stdout == "".join(f"{i}\n" for i in range(1000))
    assert cell.stderr == "".join(f"{-i}\n" for i in range(1000))
    assert len(cell.frames) < 100


def test_characters_that_have_no_utf8_form_become_escapes(runner: Runner) -> None:
    cell = runner.execute(r"print('lone \udc80 surrogate', chr(0), 'é', '🙂')")
    assert cell.stdout == "lone \\udc80 surrogate \0 é 🙂\n"
    assert cell.reply["status"] == "ok"


def test_bytes_may_be_written_and_keep_their_place(runner: Runner) -> None:
    cell = runner.execute(
        r"import sys; print('a'); n = sys.stdout.buffer.write(b'\xff\n'); print('b', n)"
    )
    assert b"".join(frame.data for frame in cell.of(Kind.STDOUT)) == b"a\n\xff\nb 2\n"


def test_a_stream_has_what_programs_ask_of_one(runner: Runner) -> None:
    cell = runner.execute(
        "import sys, io\n"
        "for out in sys.stdout, sys.stderr:\n"
        "    assert isinstance(out, io.TextIOBase)\n"
        "    assert out.encoding.lower() == 'utf-8' and out.errors and not out.closed\n"
        "    assert out.writable() and not out.readable() and not out.isatty()\n"
        "    out.reconfigure(line_buffering=True); out.flush(); out.writelines(['x', 'y'])\n"
        "    repr(out), out.name, out.newlines, out.mode\n"
        "print(sys.stdout.fileno(), sys.stderr.fileno())\n"
        "sys.stdout.write(3)"
    )
    assert cell.stdout.endswith("1 2\n")
    assert cell.stderr == "xy"
    assert cell.error["ename"] == "TypeError"
    assert "must be str" in cell.error["evalue"]


def test_closing_a_stream_silences_nobody(runner: Runner) -> None:
    runner.execute("import sys; sys.stdout.close(); sys.stderr.close()")
    assert runner.execute("print('still here')").stdout == "still here\n"


@pytest.mark.parametrize("how", ["io.StringIO()", "open('log.txt', 'w')"])
def test_output_can_be_redirected(runner: Runner, how: str) -> None:
    cell = runner.execute(
        f"import io, contextlib\nwith contextlib.redirect_stdout({how}) as f: print('in')\nprint(1)"
    )
    assert cell.stdout == "1\n"


def test_a_replaced_stdout_stays_replaced_and_output_before_it_arrives(runner: Runner) -> None:
    cell = runner.execute(
        "import sys, io\nprint('before')\nkeep = sys.stdout; sys.stdout = io.StringIO()"
    )
    assert cell.stdout == "before\n"
    assert runner.execute("print('kept')").stdout == ""
    assert runner.execute("keep.write(sys.stdout.getvalue()); sys.stdout = keep").stdout == "kept\n"


def test_a_thread_prints_into_the_cell_that_started_it(runner: Runner) -> None:
    first = runner.execute(
        "import threading, sys\n"
        "go = threading.Event(); done = threading.Event()\n"
        "def late():\n"
        "    go.wait(); print('late'); display('shown')\n"
        "    threading.Thread(target=lambda: (print('nested'), done.set())).start()\n"
        "threading.Thread(target=late).start()"
    )
    assert first.stdout == ""
    second = runner.execute("print('mine'); go.set(); done.wait()")
    runner.wait_for(lambda: "nested" in first.stdout)
    assert first.stdout == "late\nnested\n"
    assert second.stdout == "mine\n"
    assert len(first.displays) == 1
    assert not second.displays


def test_a_thread_prints_after_its_cell_and_between_cells(runner: Runner, tmp_path: Path) -> None:
    cell = runner.execute(
        "import os, threading, time\n"
        "def late():\n    while not os.path.exists('go'): time.sleep(0.01)\n    print('after')\n"
        "threading.Thread(target=late).start()\nprint('end')"
    )
    assert cell.stdout == "end\n"
    (tmp_path / "go").touch()
    runner.wait_for(lambda: cell.stdout == "end\nafter\n")


def test_a_thread_that_fails_says_so_in_its_cell(runner: Runner) -> None:
    cell = runner.execute(
        "import threading\nt = threading.Thread(target=lambda: 1/0); t.start(); t.join()"
    )
    assert "ZeroDivisionError" in cell.stderr
    assert cell.reply["status"] == "ok"


def test_logging_and_warnings_go_to_stderr(runner: Runner) -> None:
    cell = runner.execute(
        "import logging, warnings\nlogging.warning('careful')\nwarnings.warn('beware')"
    )
    assert "careful" in cell.stderr
    assert "beware" in cell.stderr
