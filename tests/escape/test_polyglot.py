"""Several languages in one sandbox: no runner speaks for another, and none to a browser
but through the policy: THREATS 17, 35."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import pytest_asyncio

from sandbox_kernel import events
from tests.support.polyglots import polyglot, require_languages
from tests.support.sessions import BACKENDS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def safe(backend):
    require_languages(backend, "bash", "ruby", "javascript")
    async with polyglot(backend, timeout_s=60, interrupt_grace_s=0.5) as driver:
        yield driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trusted(backend):
    async with polyglot(backend, policy="trusted") as driver:
        yield driver


@pytest.fixture
def driver(safe):
    safe.late.clear()
    return safe


# --- one runner for another ----------------------------------------------------------------

FORGE = """
import os, json, socket, struct, time
STDOUT, DISPLAY, ERROR, INPUT_REQUEST, REPLY, RUNNER_READY = 32, 34, 38, 39, 41, 42
def frame(kind, cell, meta=None, data=b""):
    meta = json.dumps(meta).encode() if meta else b""
    return struct.pack("!IBII", len(meta) + len(data), kind, cell, len(meta)) + meta + data
def push(each, data):
    data, end = memoryview(data), time.monotonic() + 3
    while data and time.monotonic() < end:  # not longer to who reads nothing
        try: data, end = data[each.send(data):], time.monotonic() + 3
        except BlockingIOError: time.sleep(0.001)
        except OSError: return
for name in os.listdir("/proc/self/fd"):
    if not os.path.exists("/proc/self/fd/" + name): continue
    if not os.readlink("/proc/self/fd/" + name).startswith("socket:"): continue
    each = socket.socket(fileno=os.dup(int(name)))
    each.setblocking(False)
    push(each, FORGERY)
    each.close()
print("pushed")
"""
# THEIRS is the number of Bash's last cell; the next of its cells is three later at most.
FORGERIES = {
    "text": "frame(STDOUT, THEIRS, data=b'forged')",
    "a display": "frame(DISPLAY, THEIRS, {'data': {'text/plain': 'forged'}})",
    "a failure": "frame(ERROR, THEIRS, {'ename': 'forged'})",
    "a question": "frame(INPUT_REQUEST, THEIRS, {'prompt': 'forged'})",
    "ends to come": "b''.join(frame(REPLY, THEIRS + n, {'status': 'error'}) for n in range(2, 20))",
    "endless ends": "frame(REPLY, THEIRS, {'status': 'ok'}) * 100_000",
    "ready as another": "frame(RUNNER_READY, 0, {'runner': 'bash', 'version': '6.6.6'}) * 3",
    "a huge introduction": "frame(RUNNER_READY, 0, {'version': 'x' * 15_000_000})",
    "huge metadata": "frame(INPUT_REQUEST, THEIRS, {'prompt': 'x' * 15_000_000})",
    "a runner of its own": "frame(15, 900, {'name': 'evil', 'argv': ['/bin/sh']})",
    "packages of its own": "frame(16, 900, {'environment': {'PATH': '/workspace'}})",
    "an answer of the host's": "frame(68, THEIRS + 1, {'generation': 1}) * 20",
    "a runner's end": "frame(67, 0, {'generation': 1, 'cause': 'exited', 'runner': 'bash'})",
}


def others(cell):
    """What a cell showed besides text, which may come in any number of pieces."""
    return [
        event
        for event in cell.events
        if not (isinstance(event, events.TextWritten) and event.stream == "stdout")
    ]


async def test_a_runner_cannot_speak_for_another_or_for_the_supervisor(driver):
    for name, forgery in FORGERIES.items():
        theirs = []
        said = await driver.run("x=kept; echo $x", runner="bash", on_cell=theirs.append)
        assert said.text() == "kept\n", name
        code = f"THEIRS = {theirs[0]}\n" + FORGE.replace("FORGERY", forgery)
        cell = await driver.run(code)
        # The last of it is heard by a runner that lives: or it was killed for its lie.
        assert cell.text() == "pushed\n" or cell.error.name == "RunnerExited", name
        after = await driver.run("echo $x", runner="bash")
        assert (after.text(), others(after)) == ("kept\n", []), name
        assert all(getattr(event, "cell", 0) != theirs[0] for event in driver.late), name
        assert (await driver.run("print('fine')")).text() == "fine\n", name
    shown = [event for event in driver.late if isinstance(event, events.RunnerReady)]
    assert "6.6.6" not in str(shown)
    assert not any(event.runner == "evil" for event in shown)


async def test_a_runner_can_speak_for_its_own_cells(driver):
    """The twin: the same bytes in the same way."""
    numbers = []
    await driver.run("pass", on_cell=numbers.append)
    code = f"THEIRS = {numbers[0]}\n" + FORGE.replace("FORGERY", FORGERIES["text"])
    await driver.run(code)
    await driver.heard(events.TextWritten)
    assert {event.cell for event in driver.late if isinstance(event, events.TextWritten)} == {
        numbers[0]
    }


LYING_KERNEL = """
kernel = get_ipython().kernel
own = kernel.get_parent()["header"]["msg_id"]
def say(kind, content, number, channel=kernel.iopub_socket):
    forged = {"header": {"msg_id": own.rpartition("-")[0] + "-%d" % number}}
    kernel.session.send(channel, kind, content, parent=forged)
for number in (THEIRS, THEIRS + 1, THEIRS + 2, THEIRS + 30, 2**31):
    say("stream", {"name": "stdout", "text": "forged"}, number)
    say("status", {"execution_state": "idle"}, number)
    say("error", {"ename": "forged", "evalue": "", "traceback": []}, number)
    say("comm_open", {"comm_id": "x" * 100_000, "target_name": "forged", "data": {}}, number)
say("nonsense", {"a": float("nan"), "b": [[[]]]}, THEIRS)
"""


async def test_a_kernel_that_lies_with_the_right_key_speaks_for_its_own_cells(driver, backend):
    require_languages(backend, "ipykernel")
    await driver.run("mine = 1", runner="ipykernel")
    theirs = []
    await driver.run("x = 'kept'", on_cell=theirs.append)
    code = LYING_KERNEL.replace("THEIRS", str(theirs[0]))
    lied = []
    await driver.run(code, runner="ipykernel", on_cell=lied.append)
    for number in range(4):
        cell = await driver.run(f"print(x, {number})")
        assert (cell.text(), others(cell)) == (f"kept {number}\n", [])
    assert all(getattr(event, "cell", 0) != theirs[0] for event in driver.late)
    assert (await driver.run("print(mine)", runner="ipykernel")).text() == "1\n"


# --- what other languages show ----------------------------------------------------------------

EVIL = "<b>shown</b><script>canary()</script><img src=x onerror=canary()>"
SHOWN = {
    "ruby": f"Jupyter.display('{EVIL}', mime: 'text/html'); Jupyter.html('{EVIL}'); nil",
    "javascript": f"display.html('{EVIL}'); undefined",
    "sql": f"SELECT '{EVIL}' AS \"{EVIL.replace('canary', 'alert')}\"",
    "r": f"IRdisplay::display_html('{EVIL}')",
}


class Scripts(HTMLParser):
    """What of a page runs script in its own origin; frames of another origin may."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        is_confined = "allow-same-origin" not in given.get("sandbox", "allow-same-origin")
        if tag == "script" or (tag == "iframe" and not is_confined):
            self.found.append(tag)
        self.found += [name for name in given if name.startswith("on")]


def _html(cell):
    kinds = (events.DisplayShown, events.ResultShown)
    bundles = [event.bundle for event in cell.events if isinstance(event, kinds)]
    assert bundles, cell.events
    return "".join(bundle.get("text/html", "") for bundle in bundles)


@pytest.mark.parametrize("language", SHOWN)
async def test_html_of_every_language_runs_no_script(driver, trusted, backend, language):
    require_languages(backend, language)
    html = _html(await driver.run(SHOWN[language], runner=language))
    assert html
    assert Scripts(html).found == [], html
    if language != "sql":  # whose tables escape what is in them, whatever the policy
        shown = _html(await trusted.run(SHOWN[language], runner=language))
        assert Scripts(shown).found[:2] == ["script", "onerror"]


async def test_script_as_such_is_not_shown(driver, trusted):
    code = "Jupyter.display('canary()', mime: 'application/javascript'); nil"
    shown = (await driver.run(code, runner="ruby")).of(events.DisplayShown)
    assert "canary()" not in str(shown)
    shown = (await trusted.run(code, runner="ruby")).of(events.DisplayShown)
    assert "canary()" in str(shown)
