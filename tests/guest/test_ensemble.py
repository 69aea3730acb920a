"""Several runners under one supervisor: whose request, whose output, whose death."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox_kernel.guest.framing import Frame, Kind
from tests.guest.support import FAITHFUL, PRELUDE, Cell, Guest, poll
from tests.guest.test_namespace import init_guest

__all__ = ["init_guest"]

StartGuest = Callable[..., Guest]
Json = dict[str, Any]


class Pair:
    """A supervisor whose second runner is called "other", and is as scripted as the main one."""

    def __init__(self, guest: Guest, python: str, directory: Path, source: str = FAITHFUL) -> None:
        self.guest = guest
        script = directory / "other.py"
        script.write_text(source)
        self.argv = [python, "-I", "-S", str(script)]
        assert self.add("other").kind == Kind.ANSWER

    def add(self, name: object, argv: object = None) -> Frame:
        return self.guest.request(Kind.ADD_RUNNER, {"name": name, "argv": argv or self.argv})

    def run(self, code: str, runner: str = "other", **meta: Any) -> Cell:
        return self.guest.run(code, runner=runner, **meta)

    def start(self, code: str, runner: str = "other") -> int:
        return self.guest.start(code, runner=runner)

    def shown(self, code: str, runner: str = "other") -> Any:
        """What `code` sends as the metadata of its first frame."""
        return self.run(code, runner).frames[0].read_meta()

    def exits(self) -> list[Json]:
        return [frame.read_meta() for frame in self.guest.of_kind(Kind.RUNNER_EXITED)]

    def runners(self) -> dict[str, Json]:
        meta = self.guest.request(Kind.STATUS).read_meta()
        return {runner["name"]: runner for runner in meta["runners"]}


@pytest.fixture
def pair(guest: Guest, python: str, tmp_path: Path) -> Pair:
    return Pair(guest, python, tmp_path)


@pytest.fixture
def init_pair(init_guest: Guest, python: str, tmp_path: Path) -> Pair:
    """Within a PID namespace, as in a sandbox: there all others can be killed at once."""
    return Pair(init_guest, python, tmp_path)


VALUE = "send(DISPLAY, cell, {'value': globals().get('value')})"
HANG = "signal.signal(2, signal.SIG_IGN)\nsend(STDOUT, cell, data=b'on')\nwhile True: pass"


def test_a_request_goes_to_the_runner_that_it_names_and_each_has_its_own_variables(
    pair: Pair,
) -> None:
    pair.guest.run("value = 1")
    assert pair.shown(VALUE) == {"value": None}
    pair.run("value = 2")
    assert pair.guest.run(VALUE).frames[0].read_meta() == {"value": 1}
    assert pair.shown(VALUE) == {"value": 2}
    assert pair.shown(VALUE, "") == {"value": 1}


def test_another_runner_starts_with_its_first_request_and_the_host_hears_which(pair: Pair) -> None:
    assert pair.runners()["other"]["state"] == "waiting"
    assert len(pair.guest.of_kind(Kind.RUNNER_STARTED)) == 1
    pair.run("pass")
    started, ready = (
        [frame.read_meta().get("runner") for frame in pair.guest.of_kind(kind)]
        for kind in (Kind.RUNNER_STARTED, Kind.RUNNER_READY)
    )
    assert started == ready == [None, "other"]
    assert pair.runners()["other"]["state"] == "idle"
    assert pair.runners()[""]["pid"] != pair.runners()["other"]["pid"]


@pytest.mark.parametrize("kind", [Kind.COMPLETE, Kind.INSPECT, Kind.IS_COMPLETE, Kind.COMM])
def test_questions_are_routed_as_cells_are(
    guest: Guest, python: str, tmp_path: Path, kind: int
) -> None:
    marked = FAITHFUL.replace("'kind': kind", "'kind': 'other'").replace(
        '"kind": kind', '"kind": "other"'
    )
    Pair(guest, python, tmp_path, marked)
    assert guest.request(kind, {"runner": "other"}).read_meta()["kind"] == "other"
    assert guest.request(kind, {"runner": ""}).read_meta()["kind"] == kind
    assert guest.request(kind, {"deeper": {"runner": "other"}}).read_meta()["kind"] == kind


def test_a_runner_that_nobody_added_is_refused_by_name(pair: Pair) -> None:
    for meta in ({"runner": "nobody"}, {"runner": ["other"]}, {"runner": None}):
        frame = pair.guest.request(Kind.EXECUTE, meta)
        assert frame.kind == Kind.REFUSAL
    assert "'nobody'" in pair.guest.of_kind(Kind.REFUSAL)[0].read_meta()["reason"]
    assert pair.guest.request(Kind.RESTART_RUNNER, {"runner": "nobody"}).kind == Kind.REFUSAL
    assert pair.run("pass").outcome == "ok"


def test_adding_again_changes_nothing_and_another_program_of_that_name_is_refused(
    pair: Pair,
) -> None:
    pair.run("value = 2")
    assert pair.add("other").kind == Kind.ANSWER
    assert pair.shown(VALUE) == {"value": 2}
    assert pair.add("other", ["/bin/true"]).kind == Kind.REFUSAL


@pytest.mark.parametrize("name", ["", None, 7, "x" * 65, "a\nb", "a\x1b[0m"])
def test_a_name_that_is_none_is_refused(pair: Pair, name: object) -> None:
    assert pair.add(name).kind == Kind.REFUSAL


@pytest.mark.parametrize("argv", ["python", [], [1], ["a\0b"], {"a": 1}, 5])
def test_what_is_no_program_is_refused(pair: Pair, argv: object) -> None:
    meta = {"name": "new", "argv": argv}
    assert pair.guest.request(Kind.ADD_RUNNER, meta).kind == Kind.REFUSAL


def test_there_are_eight_others_and_no_more(pair: Pair) -> None:
    for number in range(2, 9):
        assert pair.add(f"runner{number}").kind == Kind.ANSWER
    refusal = pair.add("runner9")
    assert refusal.kind == Kind.REFUSAL
    assert "8 runners" in refusal.read_meta()["reason"]
    for number in range(2, 9):
        assert pair.run("value = 1", f"runner{number}").outcome == "ok"
    assert len(pair.runners()) == 9
    assert pair.guest.run(VALUE).outcome == "ok"


# -- one cell at a time


def test_cells_never_overlap_whatever_the_host_sends(pair: Pair) -> None:
    code = "open('log', 'a').write('+')\ntime.sleep(0.02)\nopen('log', 'a').write('-')"
    names = ["", "other"] * 5
    for cell in [pair.start(code, name) for name in names]:
        assert pair.guest.finish(cell).outcome == "ok"
    assert (pair.guest.workspace / "log").read_text() == "+-" * 10


def test_a_file_is_offered_by_the_cell_that_made_it_only(pair: Pair) -> None:
    pair.run("pass")
    first = pair.start("time.sleep(0.1)\nopen('main.txt', 'w').write('x')", "")
    second = pair.start("open('other.txt', 'w').write('x')")
    assert list(pair.guest.finish(first).files) == ["main.txt"]
    assert list(pair.guest.finish(second).files) == ["other.txt"]


def test_an_answer_goes_to_the_runner_whose_cell_asked(pair: Pair) -> None:
    code = "send(DISPLAY, cell, {'answer': ask('?', cell)})"
    for runner in ("", "other"):
        cell = pair.start(code, runner)
        pair.guest.wait(lambda f, cell=cell: f.cell == cell and f.kind == Kind.INPUT_REQUEST)
        pair.guest.send(Kind.INPUT_REPLY, cell, {}, runner.encode() or b"main")
        frames = pair.guest.finish(cell).frames
        [shown] = [frame for frame in frames if frame.kind == Kind.DISPLAY]
        assert shown.read_meta() == {"answer": runner or "main"}


def test_output_that_comes_late_belongs_to_the_cell_and_runner_that_started_it(pair: Pair) -> None:
    wait = "until [ -e go ]; do sleep 0.01; done; echo late"
    first = pair.start(f"import subprocess\nsubprocess.Popen(['sh', '-c', '{wait}'])")
    pair.guest.finish(first)
    pair.guest.run("open('go', 'w').close()")
    frame = pair.guest.wait_kind(Kind.STDOUT)
    assert (frame.cell, frame.data) == (first, b"late\n")


# -- hostile runners


FORGED = """
for kind in (STDOUT, STDERR, DISPLAY, UPDATE_DISPLAY, CLEAR_OUTPUT, RESULT, ERROR,
             INPUT_REQUEST, COMM_OUT, REPLY):
    for number in range(1, {victim} + 1):
        if number != cell:
            send(kind, number, {{'forged': 1, 'status': 'ok'}}, b'forged')
"""


@pytest.mark.parametrize(("victim", "forger"), [("", "other"), ("other", "")])
def test_a_runner_cannot_speak_for_anothers_cell(pair: Pair, victim: str, forger: str) -> None:
    pair.run("pass", forger)
    cells = [pair.start("pass", victim) for _ in range(3)]
    for cell in cells:
        pair.guest.finish(cell)
    seen = len(pair.guest.frames)
    outcome = pair.run(FORGED.format(victim=cells[-1]), forger)
    assert outcome.outcome == "ok"
    forged = [f.cell for f in pair.guest.frames[seen:] if f.kind < 64 and f.kind != Kind.REPLY]
    assert not set(forged) & set(cells)
    assert [f.cell for f in pair.guest.frames[seen:] if f.kind == Kind.REPLY] == [
        outcome.frames[0].cell
    ]


def test_a_runner_may_speak_for_its_own_past_however_old(pair: Pair) -> None:
    """The twin: what is dropped above passes for one's own cells."""
    first = pair.start("pass")
    pair.guest.finish(first)
    theirs = pair.start("pass", "")
    pair.guest.finish(theirs)
    for _ in range(600):  # more than are remembered one by one
        pair.guest.send(Kind.IS_COMPLETE, pair.guest.number(), {"runner": "other"})
    pair.run(f"for n in ({first}, {theirs}): send(STDOUT, n, data=b'late')")
    assert [f.cell for f in pair.guest.of_kind(Kind.STDOUT)] == [first]


def test_a_running_cell_cannot_be_ended_or_asked_for_by_another_runner(pair: Pair) -> None:
    code = "def forge():\n    number = cell + 1\n    for _ in range(300):\n"
    code += "        send(REPLY, number, {'status': 'error'})\n"
    code += "        send(INPUT_REQUEST, number, {'prompt': 'forged'})\n"
    code += "        send(STDOUT, number, data=b'forged')\n        time.sleep(0.001)\n"
    pair.run(code + "threading.Thread(target=forge, daemon=True).start()")
    cell = pair.guest.run("time.sleep(0.5)\nsend(STDOUT, cell, data=b'own')")
    assert cell.kinds == [Kind.STDOUT, Kind.REPLY, Kind.CELL_ENDED]
    assert cell.stdout == b"own"


@pytest.mark.parametrize("name", ["", "third"])
def test_who_came_up_is_the_supervisors_word(
    guest: Guest, python: str, tmp_path: Path, name: str
) -> None:
    said = f"send(RUNNER_READY, 0, {{'runner': '{name}', 'version': '1'}})\n"
    Pair(guest, python, tmp_path, PRELUDE + said + "serve()\n").run("pass")
    ready = guest.of_kind(Kind.RUNNER_READY)[-1].read_meta()
    assert ready == {"version": "1", "runner": "other"}


def test_the_main_runner_cannot_pass_for_another(start_guest: StartGuest) -> None:
    guest = start_guest(PRELUDE + "send(RUNNER_READY, 0, {'runner': 'other'})\nserve()\n")
    assert guest.wait_kind(Kind.RUNNER_READY).read_meta() == {}


@pytest.mark.parametrize(
    "said", ["b'{'", "b'[1]'", "b'{\"a\":' * 50000", "b'{\"a\": \"' + b'x' * 70000 + b'\"}'"]
)
def test_a_runner_that_introduces_itself_unreadably_is_killed(
    guest: Guest, python: str, tmp_path: Path, said: str
) -> None:
    source = PRELUDE + f"said = {said}\n"
    source += "requests.sendall(HEADER.pack(len(said), RUNNER_READY, 0, len(said)) + said)\n"
    pair = Pair(guest, python, tmp_path, source + "time.sleep(60)\n")
    cell = pair.start("pass")
    guest.wait(lambda frame: frame.kind == Kind.REFUSAL and frame.cell == cell)
    assert {exit_["cause"] for exit_ in pair.exits()} == {"protocol", "missing"}
    assert {exit_["runner"] for exit_ in pair.exits()} == {"other"}
    assert guest.run("pass").outcome == "ok"


# -- deaths


@pytest.mark.parametrize("code", ["os._exit(7)", "os.kill(os.getpid(), 9)", "send(CELL_ENDED)"])
@pytest.mark.parametrize(("dying", "living"), [("", "other"), ("other", "")])
def test_one_death_keeps_the_others_variables(
    init_pair: Pair, code: str, dying: str, living: str
) -> None:
    init_pair.run("value = 5", living)
    init_pair.run("value = 6", dying)
    assert init_pair.run(code, dying).outcome == "lost"
    [exit_] = init_pair.exits()
    assert exit_.get("runner", "") == dying
    assert init_pair.shown(VALUE, dying) == {"value": None}
    assert init_pair.shown(VALUE, living) == {"value": 5}


@pytest.mark.parametrize(("dying", "living"), [("", "other"), ("other", "")])
def test_a_restart_by_name_keeps_the_others(init_pair: Pair, dying: str, living: str) -> None:
    init_pair.run("value = 5", living)
    cell = init_pair.start(HANG, dying)
    init_pair.guest.wait_kind(Kind.STDOUT)
    answer = init_pair.guest.request(Kind.RESTART_RUNNER, {"runner": dying})
    assert answer.read_meta() == {"generation": 2}
    assert init_pair.guest.finish(cell).outcome == "lost"
    assert [exit_["cause"] for exit_ in init_pair.exits()] == ["restarted"]
    assert init_pair.shown(VALUE, living) == {"value": 5}
    assert init_pair.shown(VALUE, dying) == {"value": None}


DAEMON = """
if os.fork() == 0:
    os.setsid()
    for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)
    requests.close()
    open('up', 'w').close()
    time.sleep(600)
while not os.path.exists('up'): time.sleep(0.01)
"""


def test_the_main_runners_end_takes_its_daemons_and_no_other_runner(init_pair: Pair) -> None:
    init_pair.run("value = 5")
    init_pair.guest.run(DAEMON)
    init_pair.guest.request(Kind.RESTART_RUNNER, {"runner": ""})
    assert init_pair.shown(VALUE) == {"value": 5}
    poll(lambda: init_pair.guest.request(Kind.STATUS).read_meta()["processes"] == 2)


def test_the_end_of_another_takes_the_jobs_of_its_session(init_pair: Pair) -> None:
    """A shell gives each of its jobs a process group."""
    job = "import subprocess\nsubprocess.Popen(['sleep', '600'], preexec_fn=os.setpgrp)"
    init_pair.run(job)
    init_pair.guest.run("value = 5\nimport subprocess\nsubprocess.Popen(['sleep', '600'])")
    init_pair.guest.request(Kind.RESTART_RUNNER, {"runner": "other"})
    assert init_pair.shown(VALUE, "") == {"value": 5}
    poll(lambda: init_pair.guest.request(Kind.STATUS).read_meta()["processes"] == 3)


def test_a_restart_of_everything_forgets_all_variables_and_starts_the_others_when_needed(
    init_pair: Pair,
) -> None:
    init_pair.run("value = 5\nopen('kept', 'w').close()")
    init_pair.guest.run("value = 6")
    answer = init_pair.guest.request(Kind.RESTART_RUNNER)
    assert answer.read_meta() == {"generation": 2}
    poll(lambda: init_pair.guest.request(Kind.STATUS).read_meta()["processes"] == 1)
    assert init_pair.runners()["other"]["state"] == "waiting"
    assert init_pair.shown(VALUE) == {"value": None}
    assert init_pair.shown(VALUE, "") == {"value": None}
    causes = {(exit_.get("runner", ""), exit_["cause"]) for exit_ in init_pair.exits()}
    assert causes == {("", "restarted"), ("other", "restarted")}
    assert (init_pair.guest.workspace / "kept").exists()


def test_a_restart_of_everything_ends_another_runners_cell(init_pair: Pair) -> None:
    cell = init_pair.start(HANG)
    init_pair.guest.wait_kind(Kind.STDOUT)
    waiting = init_pair.start("pass")
    number = init_pair.guest.number()
    init_pair.guest.send(Kind.RESTART_RUNNER, number)
    at_once = init_pair.start(VALUE)  # it may not wait until the restart is through
    assert init_pair.guest.finish(cell).outcome == "lost"
    assert init_pair.guest.finish(at_once).outcome == "ok"
    assert [f.cell for f in init_pair.guest.of_kind(Kind.REFUSAL)] == [waiting]
    assert init_pair.guest.run("pass").outcome == "ok"


def test_restarts_in_a_row_are_all_answered(init_pair: Pair) -> None:
    init_pair.run("pass")
    numbers = []
    for meta in ({"runner": "other"}, {}, {"runner": ""}, {"runner": "other"}, {}):
        numbers.append(init_pair.guest.number())
        init_pair.guest.send(Kind.RESTART_RUNNER, numbers[-1], meta)
    for number in numbers:
        init_pair.guest.wait(lambda f, n=number: f.cell == n and f.kind == Kind.ANSWER)
    assert init_pair.run("pass").outcome == "ok"
    assert init_pair.guest.run("pass").outcome == "ok"


def test_a_runner_whose_program_is_missing_refuses_and_harms_nobody(pair: Pair) -> None:
    assert pair.add("gone", ["/nowhere/node", "x"]).kind == Kind.ANSWER
    cell = pair.start("pass", "gone")
    refusal = pair.guest.wait(lambda f: f.cell == cell and f.kind == Kind.REFUSAL)
    assert "/nowhere/node" in refusal.read_meta()["reason"]
    [exit_] = pair.exits()
    assert (exit_["runner"], exit_["cause"]) == ("gone", "missing")
    assert pair.runners()["gone"]["state"] == "missing"
    assert pair.guest.run("pass").outcome == "ok"
    assert pair.run("pass").outcome == "ok"


def test_a_runner_that_dies_early_says_why_in_its_refusal(
    guest: Guest, python: str, tmp_path: Path
) -> None:
    source = "import sys\nsys.exit('Install node, then restart the kernel.')"
    pair = Pair(guest, python, tmp_path, source)
    refusal = guest.request(Kind.EXECUTE, {"runner": "other"})
    assert "Install node" in refusal.read_meta()["reason"]
    assert guest.run("pass").outcome == "ok"
    guest.request(Kind.RESTART_RUNNER)
    Path(pair.argv[-1]).write_text(FAITHFUL)
    assert pair.run("pass").outcome == "ok"


# -- signals


def test_an_interrupt_goes_to_the_runner_that_has_the_cell(pair: Pair) -> None:
    for runner in ("other", ""):
        pair.run("value = 5", runner)
    for runner, meta in (("other", {}), ("", {}), ("other", {"runner": "other"})):
        seen = len(pair.guest.of_kind(Kind.STDOUT))
        cell = pair.start("send(STDOUT, cell, data=b'on')\ntime.sleep(60)", runner)
        pair.guest.wait_kind(Kind.STDOUT, count=seen + 1)
        pair.guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT", **meta})
        assert pair.guest.finish(cell).outcome == "error"
    assert pair.shown(VALUE) == pair.shown(VALUE, "") == {"value": 5}


def test_an_interrupt_ends_a_cell_whose_runner_has_not_come_up(
    guest: Guest, python: str, tmp_path: Path
) -> None:
    pair = Pair(guest, python, tmp_path, PRELUDE + "time.sleep(600)\n")
    cell = pair.start("pass")
    guest.wait_kind(Kind.RUNNER_STARTED, runner="other")
    guest.send(Kind.SIGNAL, 0, {"signal": "SIGINT"})
    assert guest.finish(cell).outcome == "error"
    assert guest.run("pass").outcome == "ok"


def test_memory_is_the_sandboxs_and_the_runner_that_used_it_is_killed(
    start_guest: StartGuest, python: str, tmp_path: Path
) -> None:
    guest = start_guest(watch_memory=True, limits={"memory_bytes": 256 << 20})
    pair = Pair(guest, python, tmp_path)
    guest.run("value = 5\nblock = b'x' * (64 << 20)")
    cell = pair.run("block = []\nwhile True: block.append(bytearray(b'x' * (8 << 20)))")
    assert cell.outcome in ("lost", "error")
    if cell.outcome == "lost":
        assert [(e["runner"], e["cause"]) for e in pair.exits()] == [("other", "memory")]
    assert pair.shown(VALUE, "") == {"value": 5}


# -- ATTACH

ENVIRONMENT = "send(DISPLAY, cell, {'seen': os.environ.get('ATTACHED')})"
LAYERS = [{"ecosystem": "pip", "path": "/layers/x"}]


def attach(guest: Guest, environment: object) -> Frame:
    return guest.request(Kind.ATTACH, {"layers": LAYERS, "environment": environment})


def test_what_is_attached_reaches_every_runner_that_starts_later(pair: Pair) -> None:
    assert attach(pair.guest, {"ATTACHED": "yes"}).read_meta() == {}
    assert pair.shown(ENVIRONMENT) == {"seen": "yes"}
    assert pair.shown(ENVIRONMENT, "") == {"seen": None}
    pair.guest.request(Kind.RESTART_RUNNER)
    assert pair.shown(ENVIRONMENT, "") == {"seen": "yes"}
    assert pair.shown(ENVIRONMENT) == {"seen": "yes"}


def test_living_runners_are_told_and_their_replies_stay_inside(
    guest: Guest, python: str, tmp_path: Path
) -> None:
    logging = FAITHFUL.replace(
        "        if kind != EXECUTE:\n",
        "        if kind == 16: open('told', 'a').write(json.dumps(meta) + '\\n')\n"
        "        if kind != EXECUTE:\n",
    )
    assert logging != FAITHFUL
    pair = Pair(guest, python, tmp_path, logging)
    pair.run("pass")
    answer = attach(guest, {})
    assert answer.kind == Kind.ANSWER
    assert not [frame for frame in guest.of_kind(Kind.REPLY) if frame.cell == answer.cell]
    told = (guest.workspace / "told").read_text()
    assert '"path": "/layers/x"' in told


def test_attaching_is_answered_when_the_running_cell_lets_its_runner_answer(pair: Pair) -> None:
    cell = pair.start("send(STDOUT, cell, data=b'on')\ntime.sleep(0.3)", "")
    pair.guest.wait_kind(Kind.STDOUT)
    answer = attach(pair.guest, {})
    [end] = [f for f in pair.guest.frames if f.cell == cell and f.kind == Kind.CELL_ENDED]
    assert pair.guest.frames.index(end) < pair.guest.frames.index(answer)


@pytest.mark.parametrize("code", ["receive()\nos._exit(1)", HANG])
def test_a_runner_that_dies_or_is_restarted_owes_no_answer(init_pair: Pair, code: str) -> None:
    cell = init_pair.start("send(STDOUT, cell, data=b'on')\n" + code)
    init_pair.guest.wait_kind(Kind.STDOUT)
    number = init_pair.guest.number()
    init_pair.guest.send(Kind.ATTACH, number, {})
    init_pair.guest.send(Kind.RESTART_RUNNER, init_pair.guest.number(), {"runner": "other"})
    init_pair.guest.finish(cell)
    init_pair.guest.wait(lambda f: f.cell == number and f.kind == Kind.ANSWER)


@pytest.mark.parametrize(
    "environment",
    [[], "x", {"A": 1}, {"A=B": "c"}, {"": "c"}, {"A\0": "c"}, {"A": "\0"}, {"A": "\ud800"}],
)
def test_an_environment_that_would_stop_runners_is_refused_whole(
    pair: Pair, environment: object
) -> None:
    if isinstance(environment, dict):
        environment = {"ATTACHED": "yes", **environment}
    assert attach(pair.guest, environment).kind == Kind.REFUSAL
    assert pair.shown(ENVIRONMENT) == {"seen": None}


def test_no_descriptor_of_one_runners_reaches_another(pair: Pair) -> None:
    """A runner has its standard streams and its two sockets, whoever runs beside it."""
    code = "send(DISPLAY, cell, {'fds': sorted(map(int, os.listdir('/proc/self/fd')))})"
    pair.run("pass")
    alone = pair.guest.run(code).frames[0].read_meta()["fds"]
    assert len(pair.shown(code)["fds"]) == len(alone) <= 6  # the sixth lists them
