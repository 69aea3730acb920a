"""The kernel's command line, in the spellings that launchers use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel.kernel.argv import Arguments, parse


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "c.json"],
        ["-f=c.json"],
        ["--f=c.json"],
        ["--f", "c.json"],
        ["--connection-file", "c.json"],
        ["--connection-file=c.json"],
        ["--connection_file=c.json"],
        ["-f", "old.json", "-f", "c.json"],
    ],
)
def test_every_spelling_of_the_connection_file_is_understood(words):
    assert parse(words) == Arguments("c.json", {}, "")


def test_settings_come_with_a_space_or_an_equals_sign():
    words = ["--memory", "512m", "--python=/usr/bin/python3", "-f", "c.json", "--cpus", "1"]
    assert parse(words).options == {"memory": "512m", "python": "/usr/bin/python3", "cpus": "1"}


def test_the_last_of_two_settings_counts_and_variables_add_up():
    words = ["--cpus=1", "--cpus=2", "--env", "A=1", "--env=B=2"]
    assert parse(words).options == {"cpus": "2", "env": "A=1\nB=2"}


@pytest.mark.parametrize(
    "words",
    [
        ["--debug"],
        ["--log-level=10"],
        ["--log-level", "DEBUG"],
        ["--IPKernelApp.parent_appname='x'"],
        ["--SandboxSession.key=b''"],
        ["notebook.py"],
        ["-y"],
        ["-vv"],
        ["--"],
        ["-"],
        ["--pylab", "--no-secure"],
        ["--profile", "default"],
    ],
)
def test_what_other_programs_add_is_ignored(words):
    assert parse([*words, "-f", "c.json"]) == Arguments("c.json", {}, "")


def test_an_unknown_option_is_kept_so_that_the_settings_can_refuse_it():
    from sandbox_kernel.errors import SettingsError
    from sandbox_kernel.settings import Settings

    arguments = parse(["--netwrok", "all", "-f", "c.json"])
    assert arguments.options == {"netwrok": "all"}
    with pytest.raises(SettingsError, match="netwrok"):
        Settings.load(arguments.options, environ={"HOME": "/nonexistent"})


def test_a_setting_without_value_is_named():
    assert parse(["--timeout", "-f", "c.json"]) == Arguments("c.json", {"timeout": ""}, "timeout")
    assert parse(["-f", "c.json", "--memory"]).missing == "memory"


def test_no_connection_file_is_none():
    assert parse(["--memory=1g"]).connection_file is None
    assert parse(["-f"]).connection_file is None


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_words_at_all_are_sorted_without_an_exception(words):
    parse(words)
