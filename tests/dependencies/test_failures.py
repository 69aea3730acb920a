"""What is said of an installer's last words."""

import time

import pytest

from sandbox_kernel.dependencies import failures
from sandbox_kernel.limits import Limits

SAYINGS = {
    "npm error 404  The requested resource 'left@*' could not be found or you do not have": "left.",
    "npm ERR! 404  '@a/left@1' is not in this registry.": "@a/left.",
    "npm error notarget No matching version found for left@99.": "fits left@99.",
    "E: Unable to locate package left": "no package left.",
    "E: Version '9' for 'left' was not found": "no version 9 of left.",
    "ERROR:  Could not find a valid gem 'left' (>= 0) in any repository": "no gem left (>= 0).",
    "Error: package 'left' is not available": "no package left.",
}


def explained(tail, **options):
    known = {"index": "INDEX", "problems": (), "limits": Limits(), **options}
    return failures.explain("reason", tail, **known)


@pytest.mark.parametrize("tail", SAYINGS)
def test_what_the_index_does_not_have_is_named(tail):
    sentence = explained(f"noise\n{tail}\nmore noise\n")
    assert sentence.startswith("The package index INDEX has no")
    assert SAYINGS[tail] in sentence


def test_an_index_that_cannot_be_reached_comes_before_what_installers_make_of_it():
    problem = "The package index at x cannot be reached from this machine: no route."
    assert explained("E: Unable to locate package left", problems=[problem]) == problem


def test_a_reason_that_nobody_knows_is_the_installers_own():
    assert explained("whatever") == "reason"
    assert failures.with_tail("reason", "") == "reason"


@pytest.mark.parametrize(
    "text",
    [
        "Could not find a version that satisfies the requirement x (from versions: ",
        "Could not find a version that satisfies the requirement ",
        "npm error 404 '",
        "Cannot install a",
    ],
)
def test_words_made_to_be_searched_for_ever_are_not(text):
    started = time.process_time()
    explained((text + "x" * 3000) * 5 + text * 200)
    explained(text + "y (from " * 2000)
    assert time.process_time() - started < 2
