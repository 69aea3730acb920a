"""The engine without `await`: the same, from a plain program and from several threads."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import signal
import threading

import pytest

from sandbox_kernel import engine, sync
from sandbox_kernel.engine import Strategy
from sandbox_kernel.engine.files import SessionFiles
from sandbox_kernel.errors import NoSuchSession, SessionClosed, SettingsError
from tests.support.open_engines import left_of
from tests.support.sessions import backend, patience
from tests.support.waiting import DEADLINE_S, until

__all__ = ["backend", "patience"]

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def made(backend):
    before = set(left_of(os.getpid()))
    with sync.Engine(backend) as opened:
        yield opened
    until(lambda: set(left_of(os.getpid())) <= before, "the end of all that it made")


def threads():
    return [one for one in threading.enumerate() if one.name == "sandbox-kernel"]


def test_a_program_without_await(made, tmp_path):
    heard = []
    with made.create_session("python", labels={"user": "ann"}) as session:
        result = session.execute(
            "print(input('? '), open('in').read()); open('out', 'w').write('1'); 40 + 2",
            files={"in": "x"},
            stdin=lambda prompt: f"answer to {prompt}",
            on_stdout=heard.append,
        )
        assert (result.stdout, result.text) == ("answer to ?  x\n", "42")
        assert "".join(heard) == result.stdout
        assert session.run("echo hi; exit 3").exit_code == 3
        assert session.complete("impo")["matches"] == ["import"]
        assert session.inspect("print")["found"]
        session.files.write("a/b", b"1")
        assert session.files.read("a/b") == b"1"
        assert session.files.read_text("a/b") == "1"
        assert session.files.read_base64("a/b") == "MQ=="
        assert {entry.name for entry in session.files.list()} == {"in", "out", "a/b"}
        assert session.files.copy_out("out", tmp_path / "copy") == tmp_path / "copy"
        assert session.files.copy_in(tmp_path / "copy") == "copy"
        session.files.remove("copy")
        session.restart()
        assert session.info().runs == 2
        assert (session.language, session.labels) == ("python", {"user": "ann"})
        assert made.get(session.id).id == session.id
        assert [one.id for one in made.sessions({"user": "ann"})] == [session.id]
        assert not session.is_busy
        kept = session.close(keep_generated=tmp_path / "out")
        assert [one.name for one in kept] == ["out"]
    assert session.is_closed
    assert made.sessions() == []
    with pytest.raises(NoSuchSession):
        made.close_session("x")


def test_what_goes_wrong_is_raised_here(made):
    with pytest.raises(SettingsError, match="cobol"):
        made.create_session("cobol")
    session = made.create_session("python")
    with pytest.raises(LookupError, match="mine"):
        session.execute("print('a')", on_stdout=fail)
    made.close_session(session.id)
    with pytest.raises(SessionClosed):
        session.execute("1")


def fail(_text):
    raise LookupError("mine")


def test_an_interrupt_comes_from_another_thread(made):
    session = made.create_session("python")
    up = threading.Event()
    results = []
    code = "kept = 7\nprint('up', flush=True)\nimport time; time.sleep(60)"
    runner = threading.Thread(
        target=lambda: results.append(session.execute(code, on_stdout=lambda _: up.set()))
    )
    runner.start()
    assert up.wait(DEADLINE_S)
    assert session.is_busy
    session.interrupt()
    runner.join(DEADLINE_S)
    assert results[0].exit_code == 130
    assert session.execute("kept").text == "7"


def test_ctrl_c_stops_the_code_before_it_is_raised(made):
    session = made.create_session("python")
    session.execute("import time")

    presses = []

    def press(text):  # in the engine's thread
        presses.append(text)
        if len(presses) == 1:  # one line may come in two pieces
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    code = "begun = 1\nprint('up', flush=True)\ntime.sleep(600)\nbegun = 2"
    with pytest.raises(KeyboardInterrupt):
        session.execute(code, on_stdout=press)
    assert not session.is_busy
    assert session.execute("begun").text == "1"


def test_a_callback_that_waits_for_its_own_engine_is_told_instead_of_waiting_for_ever(made):
    session = made.create_session("python")
    for use in (session.interrupt, made.close, lambda: session.files.list()):
        with pytest.raises(RuntimeError, match="callback cannot wait"):
            session.execute("print('a')", on_stdout=lambda _, use=use: use())
    assert session.execute("1 + 1").text == "2"


def test_many_threads_use_one_engine(made):
    session = made.create_session("python", strategy=Strategy.PER_SESSION)
    results = []

    def work(number):
        results.append(session.execute(f"{number} * 2").text)
        made.sessions()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(map(int, results)) == [number * 2 for number in range(8)]


def test_who_watches_may_stop(made):
    session = made.create_session("python")
    changes = session.files.watch(interval_s=0.02)
    is_seen = threading.Event()

    def write():  # nobody tells when it begins to look, so there is something new all the time
        for number in itertools.count():
            session.files.write(f"a{number}", b"1")
            if is_seen.wait(0.1):
                return

    writer = threading.Thread(target=write)
    writer.start()
    assert next(changes).entry.name.startswith("a")
    is_seen.set()
    writer.join(DEADLINE_S)
    changes.close()


def test_a_closed_engine_says_so_and_its_thread_is_gone(backend):
    before = len(threads())
    made = sync.Engine(backend)
    session = made.create_session("python")
    assert len(threads()) == before + 1
    made.close()
    made.close()
    assert len(threads()) == before
    for use in (
        lambda: session.execute("1"),
        lambda: session.files.list(),
        session.info,
        made.sessions,
        lambda: made.create_session("python"),
    ):
        with pytest.raises(SessionClosed, match="engine is closed"):
            use()
    assert session.close() == []
    assert session.is_closed


def test_an_engine_that_cannot_be_leaves_no_thread():
    before = len(threads())
    with pytest.raises(SettingsError):
        sync.Engine("nothing")
    assert len(threads()) == before


@pytest.mark.parametrize(
    ("front", "of"),
    [(sync.Engine, engine.Engine), (sync.Session, engine.Session), (sync.Files, SessionFiles)],
)
def test_everything_is_there(front, of):
    left_out = {"begin_to_close", "age_s", "idle_s"}  # for the engine itself
    members = {name: one for kind in reversed(of.__mro__) for name, one in vars(kind).items()}
    names = {name for name in members if not name.startswith("_")} - left_out
    assert names <= set(vars(front))
    for name in names:
        function = members[name]
        if not inspect.isfunction(function):
            continue
        wanted = set(inspect.signature(function).parameters)
        taken = inspect.signature(vars(front)[name]).parameters
        is_open = any(item.kind is item.VAR_KEYWORD for item in taken.values())
        assert is_open or wanted - {"reason"} <= set(taken), name
        assert not asyncio.iscoroutinefunction(vars(front)[name])
