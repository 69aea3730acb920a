"""What of an installer's output a reader sees, however it is cut."""

from __future__ import annotations

import pytest

from sandbox_kernel.dependencies.sayings import Sayings

SAID = (
    "Looking in indexes: http://127.0.0.1:8321/h/pypi.org/simple/\n"
    "Looking in links: http://127.0.0.1:8321/f/4/\n"
    "Collecting cowsay (from -r /tmp/x/locked.txt (line 1))\n  Looking in vain\nLook here\n"
    "npm error A complete log of this run can be found in: /tmp/x\n"
    "GET http://127.0.0.1:8321/h/registry.npmjs.org/x\nLooking"
)
SHOWN = "Collecting cowsay\n  Looking in vain\nLook here\nGET registry.npmjs.org/x\nLooking"


def test_a_reader_sees_no_addresses_that_are_only_inside():
    assert Sayings(8321).feed(SAID, is_last=True) == SHOWN


@pytest.mark.parametrize("size", [7, 40])
def test_lines_are_left_out_however_they_are_cut(size):
    sayings = Sayings(1)
    pieces = [SAID[start : start + size] for start in range(0, len(SAID), size)]
    shown = "".join(map(sayings.feed, pieces)) + sayings.feed("", is_last=True)
    assert "Looking in i" not in shown
    assert "complete log" not in shown
    assert "\n  Looking in vain\nLook here\n" in shown
    assert shown.endswith("Looking")


def test_what_is_held_back_is_a_few_letters():
    sayings = Sayings(1)
    for _ in range(1000):
        assert sayings.feed("Looking in " * 100) == ""
    assert len(sayings._held) < 100
