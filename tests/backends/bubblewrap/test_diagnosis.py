"""How ends are explained."""

from __future__ import annotations

import pytest

from sandbox_kernel.backends.bubblewrap import diagnosis

OK = {"ending": "", "last_words": b"", "has_spoken": True, "launcher_status": 0}


def explain(report, **changes):
    return diagnosis.explain(report, **(OK | changes))


@pytest.mark.parametrize(
    ("report", "changes", "cause", "words"),
    [
        ({"code": "0"}, {"ending": "closed"}, "closed", "closed"),
        ({"code": "9"}, {"ending": "killed"}, "killed", "kernel"),
        ({"code": str(137 << 8), "kills": "1"}, {}, "memory", "memory limit"),
        ({"code": "9", "kills": "2"}, {}, "memory", "memory limit"),
        ({"code": str(3 << 8), "kills": "1"}, {}, "exited", "exit code 3"),
        ({"code": str(137 << 8), "kills": "0"}, {}, "killed", "signal 9"),
        ({"code": str(139 << 8)}, {}, "killed", "signal 11"),
        ({}, {"launcher_status": 9}, "killed", "signal 9"),
        ({}, {"launcher_status": 256, "has_spoken": False}, "failed to start", "exit code 1"),
        (
            {"failed": "could not mount"},
            {"has_spoken": False},
            "failed to start",
            "could not mount",
        ),
        (
            {"code": "256"},
            {"has_spoken": False, "last_words": b"bwrap: setting up uid map: Permission denied\n"},
            "failed to start",
            "uid map",
        ),
    ],
)
def test_each_end_has_its_cause(report, changes, cause, words):
    death = explain(report, **changes)
    assert death.cause == cause
    assert words in death.detail


def test_guest_that_spoke_cannot_pretend_that_bwrap_failed():
    assert explain({"code": "256"}, last_words=b"bwrap: no").cause == "exited"


def test_report_lines_that_make_no_sense_are_skipped():
    found = diagnosis.parse_report(b"\n=x\ncode=0\nfailed=a=b\n\xff\n")
    assert found["code"] == "0"
    assert found["failed"] == "a=b"
