"""What a session does with cells, in real sandboxes."""

import asyncio

import pytest

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused, SessionClosed
from sandbox_kernel.session import State


async def test_variables_live_from_cell_to_cell(open_session):
    driver = await open_session()
    await driver.run("x = 20")
    cell = await driver.run("print(x + 1)\nx + 22")
    assert cell.text() == "21\n"
    [result] = cell.of(events.ResultShown)
    assert result.bundle == {"text/plain": "42"}
    assert cell.outcome.status == "ok"


async def test_stdout_and_stderr_stay_apart(open_session):
    driver = await open_session()
    cell = await driver.run("import sys; print('out'); print('err', file=sys.stderr)")
    assert (cell.text(), cell.text("stderr")) == ("out\n", "err\n")


async def test_ten_thousand_lines_arrive_whole_in_a_handful_of_events(open_session):
    driver = await open_session()
    cell = await driver.run("for i in range(10_000): print(i)")
    assert cell.text() == "".join(f"{i}\n" for i in range(10_000))
    assert len(cell.of(events.TextWritten)) <= 20


async def test_output_of_subprocesses_and_of_c_code_is_captured(open_session):
    driver = await open_session()
    cell = await driver.run(
        "import subprocess, ctypes\n"
        "subprocess.run(['echo', 'from a child'])\n"
        "ctypes.CDLL(None).puts(b'from C')"
    )
    assert sorted(cell.text().splitlines()) == ["from C", "from a child"]


async def test_an_error_is_one_event_with_a_traceback_that_names_the_line(open_session):
    driver = await open_session()
    cell = await driver.run("a = 1\n\n1 / 0", execution_count=3)
    [failed] = cell.of(events.CellFailed)
    assert failed.name == "ZeroDivisionError"
    assert "line 3" in "\n".join(failed.traceback)
    assert (await driver.run("print(a)")).text() == "1\n"


async def test_a_receipt_says_what_a_cell_used(open_session):
    driver = await open_session()
    cell = await driver.run(
        "import time\nblock = bytearray(60_000_000)\n"
        "end = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nprint('x' * 1000)"
    )
    receipt = cell.outcome.receipt
    assert receipt.wall_s >= 0.2
    assert receipt.cpu_s >= 0.15
    assert receipt.peak_memory_bytes > 60_000_000
    assert receipt.output_bytes == 1001


async def test_input_is_answered_and_the_cell_goes_on(open_session):
    driver = await open_session()

    def answer(event):
        if isinstance(event, events.InputRequested):
            driver.session.answer_input("Ada")

    cell = await driver.run("name = input('Who? ')\nprint('Hello', name)", answer, allow_stdin=True)
    [asked] = cell.of(events.InputRequested)
    assert (asked.prompt, asked.is_password) == ("Who? ", False)
    assert cell.text().endswith("Hello Ada\n")


async def test_late_output_of_a_thread_belongs_to_the_cell_that_started_it(open_session):
    driver = await open_session()
    first = await driver.run(
        "import threading\ngo = threading.Event()\n"
        "def late():\n    go.wait()\n    print('late')\n"
        "thread = threading.Thread(target=late); thread.start(); print('first')"
    )
    second = await driver.run("go.set(); thread.join(); print('second')")
    number = first.of(events.TextWritten)[0].cell
    late = [event for event in driver.late if isinstance(event, events.TextWritten)]
    assert second.text() == "second\n"
    assert {event.cell for event in late} == {number}
    assert "".join(event.text for event in late) == "late\n"


async def test_completion_inspection_and_is_complete_are_answered(open_session):
    driver = await open_session()
    await driver.run("alphabet = 'abc'")
    assert "alphabet" in (await driver.session.complete("alpha", 5))["matches"]
    assert (await driver.session.inspect("alphabet", 4))["found"]
    assert (await driver.session.is_complete("for i in x:"))["status"] == "incomplete"


async def test_cells_sent_at_once_run_in_their_order(open_session):
    driver = await open_session()
    await driver.run("seen = []")
    await asyncio.gather(*(driver.run(f"seen.append({n})") for n in range(20)))
    assert (await driver.run("print(seen == list(range(20)))")).text() == "True\n"


async def test_restart_loses_the_variables_and_keeps_the_files(open_session):
    driver = await open_session()
    await driver.run("x = 1; open('kept.txt', 'w').write('here')")
    await driver.session.restart()
    cell = await driver.run("print('x' in globals(), open('kept.txt').read())")
    assert cell.text() == "False here\n"


async def test_files_go_in_and_come_out_and_are_listed_and_removed(open_session):
    driver = await open_session()
    content = bytes(range(256)) * 10_000
    await driver.session.files.write("data/in.bin", content)
    await driver.run("import shutil; shutil.copy('data/in.bin', 'out.bin')")
    assert await driver.session.files.read("out.bin") == content
    listed = {entry.name: entry.size for entry in await driver.session.files.list()}
    assert listed == {"data/in.bin": len(content), "out.bin": len(content)}
    await driver.session.files.remove("out.bin")
    assert [entry.name for entry in await driver.session.files.list()] == ["data/in.bin"]


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "", "a/../../b", "link/passwd"])
async def test_a_file_request_that_leaves_the_workspace_is_refused(open_session, name):
    driver = await open_session()
    await driver.run("import os; os.symlink('/etc', 'link')")
    with pytest.raises(RequestRefused):
        await driver.session.files.read(name)
    with pytest.raises(RequestRefused):
        await driver.session.files.write(name, b"x")


async def test_a_closed_session_says_so(open_session):
    driver = await open_session()
    await driver.session.close()
    await driver.session.close()
    assert driver.session.state is State.CLOSED
    with pytest.raises(SessionClosed, match="closed"):
        await driver.run("1")


PNG = (
    "import base64\n"
    "png = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg==')\n"
)


async def test_a_picture_that_a_cell_saves_appears_after_it(open_session):
    driver = await open_session()
    cell = await driver.run(PNG + "open('chart.png', 'wb').write(png); print('done')")
    [shown] = cell.of(events.DisplayShown)
    assert "image/png" in shown.bundle
    assert cell.events[-1] == shown
    again = await driver.run("print('nothing new')")
    assert again.of(events.DisplayShown) == []


async def test_a_picture_that_was_displayed_and_saved_appears_once(open_session):
    driver = await open_session()
    code = PNG + "from IPython.display import Image, display\n"
    cell = await driver.run(code + "open('c.png', 'wb').write(png); display(Image('c.png'))")
    assert len(cell.of(events.DisplayShown)) == 1


async def test_a_table_that_a_cell_writes_gets_a_preview(open_session):
    driver = await open_session()
    cell = await driver.run("open('t.csv', 'w').write('name,n\\nada,1\\n'); None")
    [shown] = cell.of(events.DisplayShown)
    assert "ada" in shown.bundle["text/plain"]
    assert "<table" in shown.bundle["text/html"]


async def test_output_over_the_budget_shows_head_and_tail_and_keeps_the_whole_as_a_file(
    open_session,
):
    driver = await open_session(output_bytes=40_000)
    cell = await driver.run("for i in range(50_000): print(f'line {i}')", execution_count=9)
    assert cell.text().startswith("line 0\n")
    assert cell.text().endswith("line 49999\n")
    assert len(cell.text()) < 60_000
    assert "output-9.txt" in cell.text("stderr")
    kept = await driver.session.files.read("output-9.txt")
    assert kept.decode() == "".join(f"line {i}\n" for i in range(50_000))


async def test_a_safe_session_cleans_what_a_trusted_one_passes(open_session):
    code = "from IPython.display import display, HTML\ndisplay(HTML('<b onclick=\"x()\">bold</b>'))"
    safe = await (await open_session()).run(code)
    trusted = await (await open_session(policy="trusted")).run(code)
    assert "onclick" not in safe.of(events.DisplayShown)[0].bundle["text/html"].split("srcdoc")[0]
    assert "onclick" in trusted.of(events.DisplayShown)[0].bundle["text/html"]


SAVE_AND_SHOW = (
    "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\n"
    "plt.savefig('chart.png'){between}\nplt.show()"
)


async def test_a_chart_that_is_saved_and_shown_appears_once(open_session):
    driver = await open_session()
    cell = await driver.run(SAVE_AND_SHOW.format(between=""))
    [shown] = cell.of(events.DisplayShown)
    assert "image/png" in shown.bundle
    assert [entry.name for entry in await driver.session.files.list()] == ["chart.png"]


async def test_a_chart_that_is_saved_and_then_closed_appears_as_a_file(open_session):
    driver = await open_session()
    cell = await driver.run(SAVE_AND_SHOW.format(between="; plt.close()"))
    [shown] = cell.of(events.DisplayShown)
    assert "chart.png" in shown.bundle["text/plain"]


async def test_two_charts_of_which_one_is_saved_are_two(open_session):
    driver = await open_session()
    code = SAVE_AND_SHOW.format(between="; plt.close(); plt.figure(); plt.plot([3, 1])")
    assert len((await driver.run(code)).of(events.DisplayShown)) == 2


async def test_a_wrong_magic_is_an_error_and_a_nested_failure_is_shown_and_none(open_session):
    driver = await open_session()
    wrong = await driver.run("%no_such_magic")
    assert wrong.error.name == "UsageError"
    nested = await driver.run("get_ipython().run_cell('1/0'); print('on')")
    assert nested.text() == "on\n"
    assert nested.outcome.status == "ok"
    assert [failed.name for failed in nested.of(events.CellFailed)] == ["ZeroDivisionError"]


async def test_a_program_can_serve_itself_by_the_usual_names(open_session):
    """Multiprocessing's managers and local clusters do; nobody outside hears of it."""
    driver = await open_session()
    cell = await driver.run(
        "import socket, threading\n"
        "server = socket.create_server(('localhost', 0))\n"
        "def serve(): server.accept()[0].sendall(b'served')\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "client = socket.create_connection((socket.gethostname(), server.getsockname()[1]), 10)\n"
        "print(client.recv(10))"
    )
    assert cell.text() == "b'served'\n", cell.text("stderr")
