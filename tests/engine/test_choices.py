"""What a caller asks for, and what the settings say where they are silent."""

import math

import pytest

from sandbox_kernel.backends.base import Mount
from sandbox_kernel.engine.choices import (
    TIMEOUT_S,
    UNSET,
    Strategy,
    Workspace,
    check_count,
    check_seconds,
    choose,
    list_of,
)
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.settings import Settings

DEFAULTS = {
    "strategy": Strategy.PER_SESSION,
    "workspace": None,
    "limits": None,
    "image": None,
    "python": None,
    "runtime": None,
    "mounts": None,
    "environment": None,
    "outputs": None,
    "dependencies": (),
    "dependency_policy": None,
    "allowed_dependencies": (),
    "preload": (),
    "allow_forward": False,
}


def settings(**variables):
    environ = {f"SANDBOX_KERNEL_{name}": text for name, text in variables.items()}
    return Settings.load(environ={"HOME": "/nonexistent", **environ})


def chosen(language=None, found=None, **options):
    return choose(found or settings(), language, **{**DEFAULTS, **options})


def test_what_is_left_out_comes_from_the_settings():
    found = settings(LANGUAGE="bash", OUTPUTS="trusted", MEMORY="512m", ENV="A=1", IMAGE="mine")
    made = chosen(found=found)
    assert made.spec.language == "bash"
    assert made.spec.limits.memory_bytes == 512 * 2**20
    assert made.spec.environment == {"A": "1"}
    assert made.spec.image == "mine"
    assert made.outputs == "trusted"


def test_what_the_caller_says_is_stronger_than_the_settings():
    found = settings(LANGUAGE="bash", OUTPUTS="trusted", MEMORY="512m", ENV="A=1", IMAGE="mine")
    made = chosen(
        "js",
        found,
        limits=Limits(memory_bytes=2**28),
        outputs="safe",
        environment={},
        image="other",
    )
    assert made.spec.language == "javascript"
    assert made.spec.limits.memory_bytes == 2**28
    assert made.spec.environment == {}
    assert (made.spec.image, made.outputs) == ("other", "safe")


@pytest.mark.parametrize(
    ("variables", "limits", "expected"),
    [
        ({}, None, TIMEOUT_S),
        ({}, Limits(), TIMEOUT_S),
        ({}, Limits(timeout_s=7), 7),
        ({"TIMEOUT": "5s"}, None, 5),
        ({"TIMEOUT": "none"}, None, None),  # somebody's word
        ({"TIMEOUT": "5s"}, Limits(), TIMEOUT_S),
    ],
)
def test_a_run_has_a_minute_unless_somebody_says_otherwise(variables, limits, expected):
    assert chosen(found=settings(**variables), limits=limits).timeout_s == expected


@pytest.mark.parametrize(
    ("strategy", "workspace", "expected"),
    [
        ("per_session", None, Workspace.SHARED),
        ("per_execution", None, Workspace.ISOLATED),
        (Strategy.POOL, None, Workspace.ISOLATED),
        ("pool", "shared", Workspace.SHARED),
        ("per_session", "isolated", Workspace.ISOLATED),
    ],
)
def test_files_stay_by_default_where_the_sandbox_does(strategy, workspace, expected):
    assert chosen(strategy=strategy, workspace=workspace).workspace is expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "forever"}, "per_session, per_execution, pool"),
        ({"workspace": "mine"}, "shared, isolated"),
        ({"outputs": "loud"}, "safe, trusted"),
        ({"dependency_policy": "some"}, "any, declared, none"),
        ({"environment": {"A=B": "1"}}, "A=B"),
        ({"environment": {"": "1"}}, "environment"),
        ({"environment": {"A": "\0"}}, "'A'"),
        ({"dependencies": ["--index-url=x"]}, "index-url"),
        ({"dependencies": ["pandas"], "dependency_policy": "none"}, "pandas"),
        ({"dependencies": [5]}, "texts is 5"),
        ({"dependencies": 5}, "Give a list"),
        ({"limits": {"memory_bytes": 2**30}}, "limits is"),
        ({"environment": ["A=1"]}, "environment is"),
        ({"allow_forward": "no"}, "allow_forward is 'no'"),
        ({"mounts": "/srv:/data"}, "give a list"),
        ({"mounts": [5]}, "A mount is 5"),
        ({"mounts": ["nonsense"]}, "'nonsense' is not a mount"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, words):
    with pytest.raises(SettingsError, match=words):
        chosen(**options)


def test_an_unknown_language_is_refused_with_those_that_there_are():
    with pytest.raises(SettingsError, match=r"'cobol'.*python"):
        chosen("cobol")


def test_declared_packages_are_those_of_the_caller_and_of_the_settings():
    found = settings(DEPENDENCY="numpy")
    made = chosen(found=found, dependencies=["pandas", "npm:left-pad"])
    assert {item.title for item in made.policy.declared} == {"numpy", "pandas", "npm:left-pad"}


def test_one_text_is_one_dependency_and_not_its_letters():
    assert list_of("pandas") == ["pandas"]
    assert [item.name for item in chosen(dependencies="pandas").policy.declared] == ["pandas"]


def test_one_text_is_one_module_and_not_its_letters():
    assert chosen(strategy="pool", preload="json").preload == ("json",)


def test_a_mount_is_written_as_on_the_command_line():
    expected = Mount("/data", host_path="/srv/data", is_writable=True)
    assert chosen(mounts=["/srv/data:/data:rw", expected]).spec.mounts == (expected, expected)


@pytest.mark.parametrize("value", [0, 7])
def test_a_number_of_things_is_taken(value):
    check_count("pool_size", value)


@pytest.mark.parametrize("value", [None, -1, "3", 1.5, True])
def test_what_counts_nothing_is_refused_by_name(value):
    with pytest.raises(SettingsError, match="pool_size is"):
        check_count("pool_size", value)


def test_without_packages_nothing_of_their_store_is_shown():
    assert not chosen(dependency_policy="none").spec.shows_layers
    assert chosen().spec.shows_layers


@pytest.mark.parametrize("value", [None, 0.1, 60, 10**9])
def test_a_time_that_can_pass_is_taken(value):
    check_seconds("timeout_s", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, "3", True, UNSET])
def test_a_time_that_cannot_pass_is_refused_by_name(value):
    with pytest.raises(SettingsError, match="timeout_s is"):
        check_seconds("timeout_s", value)
