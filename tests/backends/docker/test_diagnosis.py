"""What is said of a container's end, for every end that an engine tells of."""

from __future__ import annotations

import pytest

from sandbox_kernel.backends.docker.diagnosis import by_us, explain
from sandbox_kernel.backends.docker.engine import Event
from sandbox_kernel.limits import Limits

LIMITS = Limits(memory_bytes=256 * 2**20)


def events(*actions, code=137):
    return [Event(action, code if action == "die" else None) for action in actions]


def death(found, *, last_words=b"", has_spoken=True):
    return explain(found, LIMITS, last_words=last_words, has_spoken=has_spoken)


@pytest.mark.parametrize(
    ("found", "cause", "said"),
    [
        (None, "engine", "The engine went away"),
        ([], "engine", "The engine was restarted"),
        (events("create", "start"), "engine", "The engine was restarted"),
        (events("start", "kill", "die", "destroy"), "killed", "stopped or removed"),
        (events("start", "kill", "die", "stop", code=0), "killed", "stopped or removed"),
        (events("start", "oom", "die"), "memory", "more than 256 MiB (memory)"),
        # A runner was killed for memory once; that the first process ended is another matter.
        (events("start", "oom", "die", code=1), "exited", "exit code 1."),
        (events("start", "die", code=3), "exited", "exit code 3."),
    ],
)
def test_an_end_is_told_by_what_the_engine_remembers(found, cause, said):
    told = death(found)
    assert told.cause == cause
    assert said in told.detail
    assert told.detail.endswith((".", "one."))


def test_who_never_spoke_failed_to_start():
    told = death(events("start", "die", code=127), has_spoken=False, last_words=b"no python3\n")
    assert told.cause == "failed to start"
    assert "exit code 127 before its supervisor spoke" in told.detail
    assert "'no python3'" in told.detail
    assert "sandbox-kernel doctor" in told.detail


def test_last_words_are_cleaned_and_bounded():
    words = b"\x1b]52;c;aaaa\x07\x1b[2J\x00" + b"y" * 100_000 + b"\xff\nthe end"
    detail = death(events("die", code=1), last_words=words).detail
    assert "the end" in detail
    assert len(detail) < 1000
    assert detail.isprintable()


@pytest.mark.parametrize(
    ("how", "cause"), [("closed", "closed"), ("killed", "killed"), ("hung", "engine")]
)
def test_what_this_side_did_is_told_as_that(how, cause):
    assert by_us(how).cause == cause


def test_an_end_that_was_not_ours_is_nobodys_yet():
    assert by_us("") is None
