"""Dependencies through the engine: declared, asked for by a run, refused, and paid for once.

The index is a directory of packages that the test made; builders are real.
"""

import pytest

from sandbox_kernel.engine import Strategy
from sandbox_kernel.errors import DependencyFailed, DependencyRefused, SettingsError
from tests.support.layers import HandMade
from tests.support.package_index import wheel

USE = "import greet; print(greet.WORD)"


@pytest.fixture
def index(building, monkeypatch, tmp_path):
    """Packages `greet` 1.0 and `other`, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel(building.packages, "greet", {"greet.py": "WORD = 'hello'\n"})
    wheel(building.packages, "other", {"other.py": "VALUE = 2\n"}, requires=("greet",))
    return building


@pytest.fixture
def hand_made(backend, monkeypatch, tmp_path):
    """`canary_package` is "installed" by the test, for what is no builder's concern."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return HandMade().install(monkeypatch)


@pytest.fixture(autouse=True)
def no_layers_left(backend):
    yield
    from sandbox_kernel.dependencies.store import Store
    from tests.support.layers import get

    store = get(backend).layer_store()
    if store is not None:
        Store(backend, store).remove_all()


async def test_a_run_asks_for_packages_and_is_told_of_them_apart(index, engine):
    session = await engine.create_session()
    await session.execute("kept = 7")
    heard, out = [], []
    result = await session.execute(
        "import other, greet; print(greet.WORD, other.VALUE, kept)",
        dependencies=["other"],
        on_dependency_output=heard.append,
        on_stdout=out.append,
    )
    assert result.stdout == "".join(out) == "hello 2 7\n"
    assert "greet" in "".join(heard)
    assert result.dependencies.stdout == "".join(heard)
    assert set(result.dependencies.packages) == {("greet", "1.0"), ("other", "1.0")}
    assert len(result.dependencies.checksum) == 64
    assert session.info().dependencies_checksum == result.dependencies.checksum
    # They stay, and the second time nobody installs anything.
    again = await session.execute(USE, dependencies=["other"])
    assert (again.stdout, again.dependencies.stdout) == ("hello\n", "")
    assert again.dependencies.checksum == result.dependencies.checksum
    assert (await session.execute(USE)).dependencies.packages == ()
    with pytest.raises(DependencyFailed, match="nothing-of-that-name"):
        await session.execute("1", dependencies=["nothing-of-that-name"])
    assert (await session.execute("kept")).text == "7"


async def test_declared_packages_are_there_from_the_start_and_after_a_death(hand_made, engine):
    heard = []
    session = await engine.create_session(
        dependencies=["canary"], on_dependency_output=heard.append
    )
    assert "Collecting canary" in "".join(heard)
    code = "import canary_package; canary_package.value"
    assert (await session.execute(code)).text == "42"
    checksum = session.info().dependencies_checksum
    assert checksum
    session._place.seats[0]._guest.sandbox.kill()
    await session._place.seats[0]._guest.sandbox.death()
    assert (await session.execute(code)).text == "42"
    another = await engine.create_session(dependencies="canary")
    assert (await another.execute(code)).text == "42"
    assert another.info().dependencies_checksum == checksum
    assert hand_made.asked == [["canary"]]


async def test_what_one_run_asked_for_is_not_in_the_next_ones_sandbox(hand_made, engine):
    session = await engine.create_session(strategy=Strategy.PER_EXECUTION)
    code = "import canary_package; print(canary_package.value)"
    assert (await session.execute(code, dependencies=["canary"])).stdout == "42\n"
    assert (await session.execute(code)).error.name == "ModuleNotFoundError"
    assert session.info().dependencies_checksum == ""
    assert hand_made.asked == [["canary"]]


async def test_a_run_gets_only_what_the_owner_allows(hand_made, engine):
    declared = await engine.create_session(dependencies=["canary"], dependency_policy="declared")
    assert (await declared.execute("1", dependencies=["canary"])).ok
    allowed = await engine.create_session(allowed_dependencies=["canary"])
    assert (await allowed.execute("1", dependencies=["canary"])).ok
    none = await engine.create_session(dependency_policy="none")
    for session in (declared, allowed, none):
        with pytest.raises(DependencyRefused, match="plotly"):
            await session.execute("1", dependencies=["plotly"])
    for text in ("--index-url=https://evil.example", "-r x", "git+https://evil.example/x", "a\nb"):
        with pytest.raises(DependencyRefused):
            await allowed.execute("1", dependencies=[text])
    assert hand_made.asked == [["canary"]]


async def test_names_are_those_of_the_language_of_the_run(hand_made, engine):
    session = await engine.create_session("python")
    with pytest.raises(DependencyRefused, match="@1"):
        await session.execute("1", dependencies=["left-pad@1"])
    # For npm that is a name and a version; whatever becomes of it, it was understood.
    report = await session._packages.provide(
        session._place.seats[0], ["left-pad@1"], None, language="javascript", is_kept=True
    )
    assert report.packages == (("left-pad", "1.0"),)


async def test_a_session_whose_packages_cannot_be_had_is_not_made(index, open_engine):
    engine = open_engine(max_sessions=1)
    with pytest.raises(DependencyFailed):
        await engine.create_session(dependencies=["nothing-of-that-name"])
    with pytest.raises(SettingsError, match="index-url"):
        await engine.create_session(dependencies=["--index-url=x"])
    assert (await (await engine.create_session()).execute("1 + 1")).text == "2"


async def test_a_callback_that_raises_while_packages_come_ends_the_run(hand_made, engine):
    session = await engine.create_session()

    def fail(_text):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await session.execute("1", dependencies=["canary"], on_dependency_output=fail)
    assert (await session.execute("1 + 1", dependencies=["canary"])).text == "2"
