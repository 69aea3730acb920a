"""A hostile cell's output harms nobody: THREATS 10-19."""

import resource

import pytest

from sandbox_kernel import events
from sandbox_kernel.limits import MIB


async def next_cell_works(driver):
    assert (await driver.run("print('next')")).text() == "next\n"


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def test_endless_output_without_a_newline_is_bounded_and_marked(open_session):
    driver = await open_session(workspace_bytes=64 * MIB)
    before = peak_kib()
    endless = "import sys\nwhile True: sys.stdout.write('x' * 100_000)"
    cell = await driver.run(endless, timeout_s=3)
    assert cell.error.name == "CellTimeout"
    assert len(cell.text()) <= 2.5 * MIB
    assert "[sandbox]" in cell.text("stderr")
    assert peak_kib() - before < 64 * 1024
    await next_cell_works(driver)


async def test_a_line_of_a_gigabyte_does_not_grow_the_host(open_session):
    driver = await open_session(workspace_bytes=64 * MIB)
    before = peak_kib()
    cell = await driver.run("import os\nfor _ in range(1024): os.write(1, bytes(1 << 20))")
    assert cell.outcome.status == "ok"
    assert peak_kib() - before < 64 * 1024
    await next_cell_works(driver)


async def test_bytes_that_are_no_text_are_replaced(open_session):
    driver = await open_session()
    cell = await driver.run(
        "import os, sys\nos.write(1, b'a\\xff\\x00b')\nsys.stdout.write('\\ud800c'); None"
    )
    text = cell.text()
    assert "\x00" not in text
    assert "\ufffd" in text
    text.encode()
    await next_cell_works(driver)


async def test_a_character_split_between_writes_arrives_whole(open_session):
    driver = await open_session()
    cell = await driver.run(
        "import os, time\nfor byte in 'é€😀'.encode():\n"
        "    os.write(1, bytes([byte])); time.sleep(0.03)"
    )
    assert cell.text() == "é€😀"


@pytest.mark.parametrize(
    "evil",
    [
        r"\x1b]52;c;Y2FuYXJ5\x07",
        r"\x1b]8;;http://canary\x1b\\link\x1b]8;;\x1b\\",
        r"\x1b]0;canary\x07",
        r"\x1b[2J\x1b[1;1H",
        r"\x07\x07\x07",
        r"\x9b2J",
    ],
)
async def test_tricks_of_terminals_are_removed_and_colours_stay(open_session, evil):
    driver = await open_session()
    cell = await driver.run(f"print('{evil}', end=''); print('\\x1b[31mred\\x1b[0m')")
    assert "\x1b[31mred\x1b[0m" in cell.text()
    rest = cell.text().replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert not set(rest) & {"\x1b", "\x07", "\x9b"}
    assert "canary" not in rest


async def test_a_million_tiny_writes_are_coalesced(open_session):
    driver = await open_session()
    cell = await driver.run("for _ in range(200_000): print('x', end='', flush=True)")
    assert cell.text() == "x" * 200_000
    assert len(cell.of(events.TextWritten)) < 400


async def test_prints_and_displays_keep_their_order(open_session):
    driver = await open_session()
    cell = await driver.run(
        "from IPython.display import display\nfor i in range(5):\n    print('p', i); display(i)"
    )
    shown = [
        event.text if isinstance(event, events.TextWritten) else event.bundle["text/plain"] + "!"
        for event in cell.events
    ]
    assert "".join(shown) == "".join(f"p {i}\n{i}!" for i in range(5))


async def test_a_huge_display_is_one_message_that_says_so(open_session):
    driver = await open_session()
    cell = await driver.run(
        "from IPython.display import display\n"
        "display({'text/plain': 'x' * (64 << 20)}, raw=True)\nprint('on')"
    )
    assert cell.text() == "on\n"
    assert sum(len(str(event)) for event in cell.events) < 20 * MIB
    assert "limit" in cell.text("stderr")
    await next_cell_works(driver)


async def test_a_flood_of_displays_is_cut_at_the_limit(open_session):
    driver = await open_session(displays=100)
    cell = await driver.run(
        "from IPython.display import display\nfor i in range(5_000): display(i)"
    )
    assert len(cell.of(events.DisplayShown)) == 100
    assert "100 rich outputs" in cell.text("stderr")
    await next_cell_works(driver)


async def test_json_nested_without_end_is_refused_and_the_kernel_lives(open_session):
    driver = await open_session()
    await driver.run(
        "from IPython.display import display\n"
        "x = []\nfor _ in range(100_000): x = [x]\n"
        "display({'application/json': x, 'text/plain': 'deep'}, raw=True)"
    )
    await next_cell_works(driver)


FORGE = """
import os, socket, struct, sys
def sockets():
    for name in os.listdir('/proc/self/fd'):
        try:
            yield socket.socket(fileno=os.dup(int(name)))
        except OSError:
            pass
for each in sockets():
    each.setblocking(False)
    try: each.send(FORGERY)
    except OSError: pass
"""

FORGERIES = {
    "an end of the cell": "struct.pack('!IBII', 16, 64, 1, 16) + b'{\"outcome\":\"ok\"}'",
    "a generated file": "struct.pack('!IBII', 2, 65, 1, 2) + b'{}'",
    "a length of 4 GiB": "struct.pack('!IBII', 2**32 - 1, 32, 1, 0)",
    "garbage": "bytes(range(256)) * 64",
    "half a frame": "struct.pack('!IBII', 1000, 32, 1, 0) + b'half'",
    "output of another cell": "struct.pack('!IBII', 4, 32, 4_000_000, 0) + b'fake'",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_frame_hurts_only_its_own_sandbox(open_session, name):
    driver = await open_session(interrupt_grace_s=1)
    code = FORGE.replace("FORGERY", FORGERIES[name]) + "\nimport time; time.sleep(0.5)"
    await driver.run(code, timeout_s=10)
    await next_cell_works(driver)
    late = [event for event in driver.late if isinstance(event, events.TextWritten)]
    assert all(event.cell < 4_000_000 for event in late)


def test_nothing_that_the_guest_sends_is_unpickled():
    """There is no such call in what the host runs; the twin is that the search finds others."""
    import pathlib

    import sandbox_kernel

    package = pathlib.Path(sandbox_kernel.__file__).parent
    not_host_side = {
        *package.joinpath("guest").rglob("*.py"),
        # Reads the plan that its own parent wrote, before there is a guest.
        package / "backends/bubblewrap/launcher.py",
        # Runs in the container, and reads what the host sent.
        package / "backends/docker/shell/boot.py",
    }
    assert all(path.exists() for path in not_host_side)
    host_side = set(package.rglob("*.py")) - not_host_side
    sources = {path: path.read_text() for path in host_side}
    assert any("json.loads" in text or "loads(" in text for text in sources.values())
    for path, text in sources.items():
        for word in ("import pickle", "pickle.load", "marshal.load", "yaml.", " eval(", " exec("):
            assert word not in text, (path, word)
