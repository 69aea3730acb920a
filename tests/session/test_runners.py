"""Several languages in one session: each with its own variables, in one sandbox."""

import asyncio

import pytest

from sandbox_kernel import events, languages
from sandbox_kernel.errors import RequestRefused, SandboxDied, SettingsError
from sandbox_kernel.languages.base import Language
from tests.session.test_truth import EXITS_LATER, IGNORES_SIGINT
from tests.support.waiting import DEADLINE_S


def language(name: str, *runner: str) -> Language:
    return Language(
        name=name,
        display_name=name.capitalize(),
        file_extension=".py",
        mimetype="text/x-python",
        codemirror_mode="python",
        pygments_lexer="python",
        image="",
        command=("python3", "{file}"),
        runner=runner,
    )


@pytest.fixture(autouse=True)
def made_up_languages(monkeypatch):
    """`twin` is Python under another name, so that it has variables; `ghost` is nowhere."""
    made_up = [language(f"twin{n or ''}", *languages.PYTHON.runner) for n in range(9)]
    made_up += [language("ghost", "/nowhere/ghost")]
    made_up += [language("broken", "{python}", "-c", "raise SystemExit('Install it with care.')")]
    absent = language("absent")._replace(command=("no-such-program", "{file}"))
    absent = absent._replace(interpreter=("-",), remedy="Install it.")
    made_up.append(absent._replace(image=languages.PYTHON.image))
    for one in made_up:
        monkeypatch.setitem(languages._registered, one.name, one)


async def interrupt_when_it_prints(driver, code, **options):
    def hear(event):
        if isinstance(event, events.TextWritten) and "on" in event.text:
            asyncio.get_running_loop().create_task(driver.session.interrupt())

    return await driver.run(code, hear, **options)


async def lose_the_sandbox(driver, **options):
    def kill(event):
        if isinstance(event, events.TextWritten):
            driver.sandbox.kill()

    cell = await driver.run("print('on', flush=True)\nwhile True: pass", kill, **options)
    assert cell.error.name == "SandboxDied"


async def test_each_language_has_its_own_variables_and_they_share_the_workspace(open_session):
    driver = await open_session()
    await driver.run("x = 1; open('shared.txt', 'w').write('kept')")
    await driver.run("x = 2", runner="twin")
    assert (await driver.run("print(x)")).text() == "1\n"
    cell = await driver.run("print(x, open('shared.txt').read())", runner="twin")
    assert cell.text() == "2 kept\n"
    assert (await driver.run("cat shared.txt", runner="bash")).text() == "kept"


async def test_the_sessions_own_language_by_name_is_the_main_runner(open_session):
    driver = await open_session()
    await driver.run("x = 1")
    assert (await driver.run("print(x)", runner="python")).text() == "1\n"
    assert len((await driver.session.status())["runners"]) == 1


async def test_questions_are_answered_by_the_language_that_is_asked(open_session):
    driver = await open_session()
    await driver.run("alphabet = 'main'")
    await driver.run("alphanumeric = 'twin'", runner="twin")
    session = driver.session
    assert (await session.complete("alpha", 5))["matches"] == ["alphabet"]
    assert (await session.complete("alpha", 5, runner="twin"))["matches"] == ["alphanumeric"]
    assert not (await session.inspect("alphabet", 4, runner="twin"))["found"]
    assert (await session.inspect("alphabet", 4))["found"]
    assert (await session.is_complete("for i in x:", runner="twin"))["status"] == "incomplete"


async def test_a_question_to_a_language_that_cannot_start_has_no_answer(open_session):
    driver = await open_session()
    assert await driver.session.complete("a", 1, runner="ghost") == {}


async def test_expressions_are_the_cells_own_languages(open_session):
    driver = await open_session()
    await driver.run("x = 'main'")
    cell = await driver.run("x = 'twin'", runner="twin", user_expressions={"value": "x"})
    assert cell.outcome.user_expressions["value"]["data"]["text/plain"] == "'twin'"


async def test_input_is_answered_to_the_language_that_asked(open_session):
    driver = await open_session()

    def answer(event):
        if isinstance(event, events.InputRequested):
            driver.session.answer_input("Ada")

    cell = await driver.run("print('Hello', input())", answer, allow_stdin=True, runner="twin")
    assert cell.text().endswith("Hello Ada\n")


async def test_a_receipt_and_the_files_belong_to_the_cell_of_the_other_language(open_session):
    driver = await open_session()
    await driver.run("x = 1")
    cell = await driver.run("open('made.txt', 'w').write('text')\nprint('x' * 99)", runner="twin")
    assert cell.outcome.receipt.output_bytes == 100
    assert len(cell.of(events.DisplayShown)) == 1


async def test_late_output_belongs_to_the_cell_and_language_that_started_it(open_session):
    driver = await open_session()
    first = await driver.run(
        "(until [ -e go ]; do sleep 0.01; done; echo late) & echo first", runner="bash"
    )
    number = first.of(events.TextWritten)[-1].cell
    await driver.run("import time; open('go', 'w').close()")
    await driver.heard(events.TextWritten)
    late = [event for event in driver.late if isinstance(event, events.TextWritten)]
    assert [(event.cell, event.text) for event in late] == [(number, "late\n")]


@pytest.mark.parametrize(("dying", "living"), [("", "twin"), ("twin", "")])
async def test_one_languages_end_keeps_the_others_variables_and_says_whose_are_lost(
    open_session, dying, living
):
    driver = await open_session()
    await driver.run("x = 5", runner=living)
    await driver.run("x = 6", runner=dying)
    cell = await driver.run("import os; os._exit(3)", runner=dying)
    title = "Twin" if dying else "Python"
    assert cell.error.name == "RunnerExited"
    assert f"The runner of {title} ended by itself with exit code 3." in cell.error.value
    assert f"The variables of {title} are lost; the others live on" in cell.error.value
    assert (await driver.run("print(x)", runner=living)).text() == "5\n"
    assert (await driver.run("print('x' in dir())", runner=dying)).text() == "False\n"


@pytest.mark.parametrize(("stopped", "living"), [("", "twin"), ("twin", "")])
async def test_an_interrupt_keeps_the_variables_of_all(open_session, stopped, living):
    driver = await open_session()
    await driver.run("x = 5", runner=living)
    code = "x = 6\nprint('on', flush=True)\nwhile True: pass"
    cell = await interrupt_when_it_prints(driver, code, runner=stopped)
    assert cell.error.name == "KeyboardInterrupt"
    assert (await driver.run("print(x)", runner=living)).text() == "5\n"
    assert (await driver.run("print(x)", runner=stopped)).text() == "6\n"


@pytest.mark.parametrize(("stuck", "living"), [("", "twin"), ("twin", "")])
async def test_a_cell_that_ignores_interrupts_loses_its_own_languages_variables_only(
    open_session, stuck, living
):
    driver = await open_session(interrupt_grace_s=0.5)
    await driver.run("x = 5", runner=living)
    cell = await interrupt_when_it_prints(driver, IGNORES_SIGINT, runner=stuck)
    assert cell.error.name == "KeyboardInterrupt"
    title = "Twin" if stuck else "Python"
    assert f"The variables of {title} are lost; the others live on" in cell.error.value
    assert (await driver.run("print(x)", runner=living)).text() == "5\n"
    assert (await driver.run("print('fresh')", runner=stuck)).text() == "fresh\n"


async def test_a_timeout_of_one_language_keeps_the_others(open_session):
    driver = await open_session(interrupt_grace_s=0.5)
    await driver.run("x = 5")
    await driver.run("true", runner="bash")  # that it has to start is no part of the time
    cell = await driver.run("trap '' INT; while :; do sleep 0.1; done", runner="bash", timeout_s=1)
    assert cell.error.name == "CellTimeout"
    assert "The variables of Bash are lost; the others live on" in cell.error.value
    assert (await driver.run("print(x)")).text() == "5\n"
    assert (await driver.run("echo next", runner="bash")).text() == "next\n"


async def test_a_stuck_completion_of_one_language_keeps_the_others(open_session):
    driver = await open_session(interrupt_grace_s=0.5)
    await driver.run("x = 5")
    await driver.run(
        "import time, signal\nclass Slow:\n    def __dir__(self):\n"
        "        signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "        print('on', flush=True); time.sleep(600)\nslow = Slow()",
        runner="twin",
    )
    asking = asyncio.ensure_future(driver.session.complete("slow.a", 6, runner="twin"))
    await driver.heard(events.TextWritten)
    await driver.session.interrupt()
    await asyncio.wait_for(asking, DEADLINE_S)
    cell = await driver.run("print(x)")
    assert cell.text() == "5\n"
    assert "The variables of Twin are lost; the others live on" in cell.text("stderr")
    assert (await driver.run("print('next')", runner="twin")).text() == "next\n"


async def test_a_death_that_nobody_saw_is_told_with_the_next_cell_of_any_language(open_session):
    driver = await open_session()
    await driver.run("x = 5")
    await driver.run(EXITS_LATER, runner="twin")
    await driver.session.files.write("go", b"")
    await driver.heard(events.RunnerReady, count=3)
    cell = await driver.run("print(x)")
    assert "The runner of Twin ended by itself with exit code 5" in cell.text("stderr")
    assert cell.text() == "5\n"


async def test_a_restart_loses_the_variables_of_all_and_every_language_works_on(open_session):
    driver = await open_session()
    for runner in ("", "twin"):
        await driver.run("x = 1; open('kept.txt', 'w').write('kept')", runner=runner)
    await driver.session.restart()
    for runner in ("twin", ""):
        cell = await driver.run("print('x' in dir(), open('kept.txt').read())", runner=runner)
        assert cell.text() == "False kept\n"
        assert cell.text("stderr") == ""


async def test_a_sandbox_that_died_is_replaced_with_its_languages(open_session):
    driver = await open_session()
    await driver.run("x = 1", runner="twin")
    await lose_the_sandbox(driver, runner="twin")
    assert (await driver.run("print('x' in dir())", runner="twin")).text() == "False\n"


@pytest.mark.parametrize(
    ("name", "reason"), [("ghost", "/nowhere/ghost"), ("broken", "Install it with care.")]
)
async def test_a_language_that_cannot_start_fails_its_cell_with_the_reason(
    open_session, name, reason
):
    driver = await open_session()
    await driver.run("x = 5")
    for _ in range(2):
        cell = await driver.run("whatever", runner=name)
        assert cell.error.name == "RunnerUnavailable"
        assert f"The cell of {name.capitalize()} did not run." in cell.error.value
        assert reason in cell.error.value
        assert len(cell.of(events.CellFailed)) == 1
    assert (await driver.run("print(x)")).text() == "5\n"


async def test_a_program_that_an_image_lacks_is_no_matter_of_the_host(open_session, backend):
    driver = await open_session()
    told = [(await driver.run("whatever", runner="absent")).error.value]
    with pytest.raises(SandboxDied) as caught:
        await open_session(language="absent")
    told.append(str(caught.value))
    for reason in told:
        assert "There is no no-such-program in this sandbox. Install it." in reason
        assert ("setup docker --language polyglot" in reason) == (backend == "docker")


async def test_a_language_that_is_none_is_refused_and_the_session_goes_on(open_session):
    driver = await open_session()
    with pytest.raises(SettingsError, match="klingon"):
        await driver.run("x", runner="klingon")
    assert (await driver.run("print(1)")).text() == "1\n"


async def test_eight_languages_beside_the_own_are_enough(open_session):
    driver = await open_session()
    for name in [f"twin{n or ''}" for n in range(8)]:
        assert (await driver.run("print(1)", runner=name)).text() == "1\n"
    with pytest.raises(RequestRefused, match="8 runners"):
        await driver.run("print(1)", runner="twin8")
    assert (await driver.run("print(1)")).text() == "1\n"


# -- attaching


async def test_attached_packages_can_be_imported_at_once_and_after_all_that_follows(open_session):
    driver = await open_session()
    await driver.run("x = 5; import os; os.makedirs('layer/lib')")
    await driver.run("open('layer/lib/attached.py', 'w').write('value = 42')")
    layer = {"ecosystem": "pip", "path": "/workspace/layer"}
    environment = {"PYTHONPATH": "/workspace/layer/lib", "ATTACHED": "yes"}
    await driver.session.attach([layer], environment)
    show = "import attached, os; print(attached.value, os.environ['ATTACHED'])"
    assert (await driver.run(f"print(x)\n{show}")).text() == "5\n42 yes\n"
    assert (await driver.run(show, runner="twin")).text() == "42 yes\n"
    await driver.session.restart()
    assert (await driver.run(show)).text() == "42 yes\n"
    await lose_the_sandbox(driver)
    assert (await driver.run("import os; print(os.environ['ATTACHED'])")).text() == "yes\n"


async def test_what_lies_in_the_workspace_comes_before_what_is_attached(open_session):
    driver = await open_session()
    await driver.session.attach([{"ecosystem": "pip", "path": "/layers/a"}], {})
    await driver.session.attach([{"ecosystem": "pip", "path": "/layers/a"}], {})
    cell = await driver.run("import sys; print(sys.path[:2], sys.path.count('/layers/a/lib'))")
    assert cell.text() == "['', '/layers/a/lib'] 1\n"


async def test_layers_of_other_ecosystems_are_none_of_pythons(open_session):
    driver = await open_session()
    await driver.session.attach([{"ecosystem": "npm", "path": "/layers/a"}], {"A": "b"})
    cell = await driver.run("import sys, os; print('/layers/a' in str(sys.path), os.environ['A'])")
    assert cell.text() == "False b\n"


async def test_an_environment_that_no_program_can_have_is_refused(open_session):
    driver = await open_session()
    with pytest.raises(RequestRefused, match="cannot be set"):
        await driver.session.attach([], {"A=B": "c"})
    assert "A=B" not in driver.session.spec.environment
    await driver.session.restart()
    assert (await driver.run("print(1)")).text() == "1\n"
