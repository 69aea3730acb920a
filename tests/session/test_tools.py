"""Functions of the host's that cells call, in real sandboxes with the network off."""

import asyncio
import functools
import os
import threading
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from sandbox_kernel import events
from sandbox_kernel.errors import RequestRefused, SettingsError, ToolError
from sandbox_kernel.session.tool_failures import explain, scrub
from sandbox_kernel.session.tool_functions import shown_hint
from sandbox_kernel.session.tools import Toolbox
from tests.support.polyglots import POLYGLOT, require_languages


class Place(BaseModel):
    name: str
    rank: int = 0


@dataclass
class Found:
    title: str
    content: bytes


def search(query: str, limit: Annotated[int, Field(ge=1, le=10)] = 3) -> list[str]:
    """Find pages.

    The best come first.
    """
    return [f"{query} {number}" for number in range(limit)]


async def slow(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def place(place: Place) -> Place:
    return Place(name=place.name.upper(), rank=place.rank + 1)


def reverse(content: bytes) -> Found:
    return Found("reversed", content[::-1])


def fail(how: str) -> None:
    if how == "author":
        raise ToolError("The museum is closed on Mondays.")
    if how == "value":
        raise ValueError(
            "no guide in /home/ann/guides/list.txt, nor at https://k:v@host.example/a?key=s"
        )
    if how == "os":
        os.listdir("/nonexistent/of-the-host")
    raise SystemExit("/home/ann")


def box(*functions, **limits):
    return Toolbox(functions or [search, slow, place, reverse, fail], **limits)


# -- in Python ---------------------------------------------------------------------


async def test_a_cell_calls_a_function_of_the_hosts(open_session):
    tools = box()
    driver = await open_session(tools=tools)
    cell = await driver.run("print(tools.search('otters', limit=2))\nimport tools as again")
    assert cell.text() == "['otters 0', 'otters 1']\n"
    assert driver.session.tool_calls.calls["search"] == tools.calls["search"] == 1


async def test_async_functions_threads_and_await_work_alike(open_session):
    driver = await open_session(tools=box())
    cell = await driver.run(
        "import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(20) as pool:\n"
        "    print(sum(pool.map(tools.slow, [0.01] * 40)) > 0)\n"
        "print(await asyncio.gather(*[tools.slow.aio(0) for _ in range(20)]) == [0] * 20)\n"
        "print(tools.slow(0.01))"
    )
    assert cell.text() == "True\nTrue\n0.01\n"


async def test_arguments_and_results_are_json_and_bytes_are_base64(open_session):
    driver = await open_session(tools=box())
    cell = await driver.run(
        "import base64\nprint(tools.place({'name': 'zoo', 'rank': 2}))\n"
        "found = tools.reverse(b'\\xff\\x01')\n"
        "print(found['title'], base64.b64decode(found['content']))\n"
        "tools.search(object())"
    )
    assert cell.text() == "{'name': 'ZOO', 'rank': 3}\nreversed b'\\x01\\xff'\n"
    assert cell.error.name == "ToolError"
    assert "no form in JSON" in cell.error.value


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("search('a', limit='many')", "limit: Input should be a valid integer"),
        ("search('a', limit=11)", "limit: Input should be less than or equal to 10"),
        ("search()", "missing a required argument: 'query'"),
        ("search('a', depth=1)", "unexpected keyword argument 'depth'"),
        ("place({'rank': 1})", "place.name: Field required"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_and_the_function_is_not_called(call, said):
    """The signature stands in the message: what to do is plain."""
    tools = box()
    tool = tools.find(call.partition("(")[0])
    positional, named = eval(f"(lambda *a, **k: (list(a), k))({call.partition('(')[2]}")
    with pytest.raises(ToolError, match=said.replace("(", r"\(")) as caught:
        tool.bind(positional, named)
    assert tool.signature in str(caught.value)


async def test_a_cell_hears_of_arguments_that_do_not_fit_and_goes_on(open_session):
    driver = await open_session(tools=box())
    cell = await driver.run(
        "try:\n    tools.search('a', limit=0)\nexcept ToolError as error:\n    print(error)\n"
        "print(tools.search('a', limit=1))"
    )
    assert cell.text().startswith("search: limit: Input should be greater than or equal to 1")
    assert cell.text().endswith("['a 0']\n")


async def test_a_function_that_fails_raises_a_tool_error_that_keeps_the_hosts_secrets(
    open_session, caplog
):
    driver = await open_session(tools=box())
    told = {}
    for how in ("author", "value", "os", "exit"):
        cell = await driver.run(f"tools.fail({how!r})")
        assert cell.error.name == "ToolError"
        told[how] = cell.error.value
        shown = "\n".join(cell.error.traceback)
        assert not any(
            word in shown for word in ("/home/ann", "k:v", "key=", "tests/session", "of-the")
        )
    assert told["author"] == "The museum is closed on Mondays."
    assert told["value"].endswith("ValueError: no guide in [path], nor at https://host.example")
    assert told["os"] == "fail failed: FileNotFoundError: No such file or directory."
    assert "SystemExit" in told["exit"]
    assert "/home/ann/guides" in caplog.text


async def test_tools_are_completed_inspected_and_helped_with(open_session):
    driver = await open_session(tools=box())
    completed = await driver.session.complete("tools.se", 8)
    assert completed["matches"] == ["search"]
    inspected = await driver.session.inspect("tools.search", 12)
    assert "The best come first." in inspected["data"]["text/plain"]
    shown = (await driver.run("help(tools.search)")).text()
    assert "search(query: str, limit: int = 3) -> list[str]" in shown


async def test_an_interrupt_ends_a_call_and_the_cell_and_keeps_the_variables(open_session):
    ended = []

    async def wait() -> None:
        interrupting = asyncio.create_task(driver.session.interrupt())
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(interrupting)

    driver = await open_session(tools=box(wait))
    for call in ("x = 5\ntools.wait()", "await tools.wait.aio()"):
        assert (await driver.run(call)).error.name == "KeyboardInterrupt"
    assert len(ended) == 2
    assert (await driver.run("print(x)")).text() == "5\n"


async def test_a_timeout_of_the_cell_gives_its_calls_up(open_session):
    driver = await open_session(tools=box())
    await driver.run("x = 5")
    cell = await driver.run("tools.slow(60)", timeout_s=0.5)
    assert cell.error.name == "CellTimeout"
    assert not driver.session.tool_calls._running
    assert (await driver.run("print(x, tools.slow(0))")).text() == "5 0.0\n"


async def test_a_call_that_takes_too_long_fails_and_its_thread_keeps_its_place(open_session):
    go_on = threading.Event()

    def hang() -> None:
        go_on.wait(30)

    driver = await open_session(tools=box(hang, slow, timeout_s=0.3, max_concurrent=1))
    try:
        assert "longer than 0.3 s" in (await driver.run("tools.hang()")).error.value
        assert "hang, and take all 1 places" in (await driver.run("tools.hang()")).error.value
        assert (await driver.run("print(tools.slow(0))")).text() == "0.0\n"
    finally:
        go_on.set()


async def test_budgets_end_with_a_sentence_and_the_next_cell_has_its_own(open_session):
    driver = await open_session(tools=box(max_calls=7, max_calls_per_cell=5))
    loop = "n = 0\nwhile n < 20:\n    tools.slow(0); n += 1"
    assert "The 5 calls" in (await driver.run(loop)).error.value
    assert (await driver.run("print(n)")).text() == "5\n"
    assert "The 7 calls" in (await driver.run(loop)).error.value
    assert (await driver.run("print(n)")).text() == "2\n"
    assert driver.session.tool_calls.calls["slow"] == 7


async def test_what_is_too_long_is_refused_in_both_directions(open_session):
    def letters(count: int) -> str:
        return "x" * count

    def size(text: str) -> int:
        return len(text)

    limits = {"max_argument_bytes": 1000, "max_result_bytes": 1000}
    driver = await open_session(tools=box(letters, size, **limits))
    assert "over the limit of 1000" in (await driver.run("tools.letters(2000)")).error.value
    assert "over the limit of 1000" in (await driver.run("tools.size('x' * 2000)")).error.value
    assert "too many" in (await driver.run("tools.size('x' * 20_000_000)")).error.value
    cell = await driver.run("print(len(tools.letters(900)), tools.size('x' * 900))")
    assert cell.text() == "900 900\n"


async def test_a_thread_that_calls_between_cells_is_refused_and_during_the_next_is_not(
    open_session,
):
    driver = await open_session(tools=box())
    await driver.run(
        "import os, threading, time\nsaid = []\ndef call():\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
        "    while not said or isinstance(said[-1], ToolError):\n"
        "        try: said.append(tools.slow(0))\n"
        "        except ToolError as error:\n"
        "            said.append(error); print('refused'); time.sleep(0.05)\n"
        "thread = threading.Thread(target=call)\nthread.start()"
    )
    await driver.session.files.write("go", b"")
    await driver.heard_lines("refused")
    cell = await driver.run("thread.join(60); print(said[0], said[-1])")
    assert cell.text().startswith("Host tools answer only while a cell runs.")
    assert cell.text().endswith(" 0.0\n")


async def test_a_fresh_runner_and_a_fresh_sandbox_have_the_tools_again(open_session):
    driver = await open_session(tools=box())
    call = "print(tools.search('a', limit=1))"
    assert (await driver.run(call)).text() == "['a 0']\n"
    await driver.session.restart()
    assert (await driver.run(call)).text() == "['a 0']\n"

    def kill(event):
        if isinstance(event, events.TextWritten):
            driver.sandbox.kill()

    cell = await driver.run("print('on', flush=True)\nwhile True: pass", kill)
    assert cell.error.name == "SandboxDied"
    assert (await driver.run(call)).text() == "['a 0']\n"
    assert driver.session.tool_calls.calls["search"] == 3


async def test_input_is_answered_before_and_after_a_tool_was_called(open_session):
    driver = await open_session(tools=box())

    def answer(event):
        if isinstance(event, events.InputRequested):
            driver.session.answer_input(event.prompt.upper())

    code = "print(input('a'), tools.slow(0), input('b'), tools.slow(0))"
    assert (await driver.run(code, answer, allow_stdin=True)).text().endswith("A 0.0 B 0.0\n")
    assert (await driver.run(code, answer, allow_stdin=True)).text().endswith("A 0.0 B 0.0\n")


async def test_a_session_without_tools_has_no_such_module(open_session):
    driver = await open_session()
    assert driver.session.tool_calls is None
    assert (await driver.run("tools")).error.name == "NameError"
    assert (await driver.run("import tools")).error.name == "ModuleNotFoundError"


async def test_a_call_takes_milliseconds(open_session):
    driver = await open_session(tools=box(slow))
    await driver.run("tools.slow(0)")
    cell = await driver.run(
        "import time\ntook = []\nfor _ in range(100):\n    began = time.monotonic()\n"
        "    tools.slow(0); took.append(time.monotonic() - began)\n"
        "print(sorted(took)[25])"  # the others may have waited for a busy machine
    )
    assert float(cell.text()) < 0.02


# -- in other languages --------------------------------------------------------------


async def javascript(open_session, backend, **options):
    require_languages(backend, "javascript")
    image = POLYGLOT if backend == "docker" else None
    return await open_session(language="javascript", image=image, **options)


async def test_javascript_calls_by_position_by_name_and_many_at_once(open_session, backend):
    driver = await javascript(open_session, backend, tools=box())
    cell = await driver.run(
        "console.log(await tools.search('otters', {limit: 2}));\n"
        "console.log(await tools.search({query: 'seals', limit: 1}));\n"
        "console.log(await tools.place({name: 'zoo'}));\n"
        "console.log((await tools.reverse(new Uint8Array([1, 2]))).content);\n"
        "const all = await Promise.all(Array.from({length: 30}, () => tools.slow(0.001)));\n"
        "console.log(all.length);"
    )
    assert cell.text() == (
        "[ 'otters 0', 'otters 1' ]\n[ 'seals 0' ]\n{ name: 'ZOO', rank: 1 }\nAgE=\n30\n"
    )
    assert (
        "search(query: str"
        in (await driver.session.inspect("tools.search", 12))["data"]["text/plain"]
    )


async def test_javascript_gets_errors_interrupts_and_large_results(open_session, backend):
    def letters(count: int) -> str:
        return "é" * count

    driver = await javascript(open_session, backend, tools=box(search, slow, letters))
    cell = await driver.run("await tools.search('a', {limit: 99})")
    assert cell.error.name == "ToolError"
    assert "less than or equal to 10" in cell.error.value
    caught = await driver.run(
        "try { await tools.search() } catch (e) { console.log(e instanceof ToolError) }"
    )
    assert caught.text() == "true\n"
    assert (await driver.run("(await tools.letters(500_000)).length")).of(events.ResultShown)

    def interrupt(event):
        if isinstance(event, events.TextWritten):
            asyncio.get_running_loop().create_task(driver.session.interrupt())

    cell = await driver.run("console.log('on'); await tools.slow(60)", interrupt)
    assert cell.error.name == "Interrupted"
    assert (await driver.run("console.log(await tools.slow(0))")).text() == "0\n"


async def test_a_language_that_cannot_call_tools_says_so(open_session, backend):
    require_languages(backend, "perl")
    image = POLYGLOT if backend == "docker" else None
    driver = await open_session(language="perl", image=image, tools=box())
    with pytest.raises(RequestRefused, match="cannot call host tools"):
        await driver.run("print 1")


# -- the toolbox ---------------------------------------------------------------------


def test_of_takes_what_an_engine_is_given():
    tools = box()
    assert Toolbox.of(None) is Toolbox.of([]) is Toolbox.of({}) is None
    assert Toolbox.of(tools) is tools
    assert Toolbox.of([search]).names == ["search"]
    assert Toolbox.of({"find": search}).names == ["find"]


class Opaque:
    pass


def takes_opaque(value: Opaque) -> None:
    del value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Toolbox([lambda: 1]), "'<lambda>'"),
        (lambda: Toolbox({"a b": search}), "'a b'"),
        (lambda: Toolbox({"class": search}), "'class'"),
        (lambda: Toolbox({"_x": search}), "'_x'"),
        (lambda: Toolbox({"then": search}), "'then'"),
        (lambda: Toolbox({"x": 5}), "no function"),
        (lambda: Toolbox([search, search]), "Two tools"),
        (lambda: Toolbox(search), "must be a list"),
        (lambda: Toolbox([]), "1 to 100"),
        (lambda: Toolbox([takes_opaque]), "wants value to be Opaque"),
        (lambda: Toolbox([search], max_calls=0), "max_calls"),
        (lambda: Toolbox([search], timeout_s=-1), "timeout_s"),
        (lambda: Toolbox([search], max_result_bytes=2**30), "max_result_bytes"),
    ],
)
def test_what_cannot_be_a_toolbox_says_what_to_change(make, said):
    with pytest.raises(SettingsError, match=said):
        make()


def test_what_an_owner_has_filled_in_is_neither_shown_nor_changed():
    def query(text: str, key: str, where: str = "/home/ann/index") -> str:
        return f"{text} {key} {where}"

    tool = Toolbox({"query": functools.partial(query, key="secret")}).find("query")
    assert tool.signature == "query(text: str, *, where: str = ...) -> str"
    assert "secret" not in str(tool.describe())
    assert "/home" not in str(tool.describe())
    with pytest.raises(ToolError, match="unexpected keyword argument 'key'"):
        tool.bind(["a"], {"key": "mine"})
    assert tool.bind(["a"], {}) == (("a",), {})


def test_every_kind_of_parameter_is_checked():
    def every(a: int, /, b: int, *rest: int, c: int = 1, **others: int) -> None: ...

    tool = Toolbox([every]).find("every")
    assert tool.bind([1, "2", 3], {"c": 4, "d": "5"}) == ((1, 2, 3), {"c": 4, "d": 5})
    for positional, named in (([1, 2, "x"], {}), ([1, 2], {"d": "x"}), (["x", 1], {})):
        with pytest.raises(ToolError, match="valid integer"):
            tool.bind(positional, named)


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (dict[str, list[int]], "dict[str, list[int]]"),
        (Place | None, "Place | None"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, Field(gt=1)], "int"),
        (tuple[int, ...], "tuple[int, ...]"),
    ],
)
def test_hints_are_shown_without_the_hosts_modules(hint, shown):
    assert shown_hint(hint) == shown


def test_words_lose_paths_and_the_details_of_urls():
    assert scrub("see /etc/passwd, ~/.ssh/id or C:\\Users\\ann") == "see [path], [path] or [path]"
    assert (
        scrub("at http://u:p@h.example:1/x?key=1 and/or 3/4") == "at http://h.example:1 and/or 3/4"
    )
    assert scrub("x" * 10_000) == "x" * 2_000


def test_words_of_a_librarys_own_exceptions_stay_on_the_host():
    class HttpError(ValueError):
        pass

    assert "key=1" not in explain("search", HttpError("GET /a?key=1"))
    assert "HttpError" in explain("search", HttpError("GET /a?key=1"))


def test_a_toolbox_without_pydantic_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(SettingsError, match=r"sandbox-kernel\[ai\]"):
        Toolbox([search])
