"""The sentences that end cells: each names its limit and what survived."""

import pytest

from sandbox_kernel import events
from sandbox_kernel.limits import MIB, Limits
from sandbox_kernel.outputs import OutputPolicy
from sandbox_kernel.session import causes
from sandbox_kernel.session.gate import Gate

LIMITS = Limits(memory_bytes=256 * MIB, processes=40, open_files=100, workspace_bytes=20 * MIB)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MemoryError", "", "256 MiB (memory)"),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate", "256 MiB"),
        ("OSError", "[Errno 28] No space left on device: 'x'", "20 MiB"),
        ("RuntimeError", "can't start new thread", "40 processes"),
        ("BlockingIOError", "[Errno 11] Resource temporarily unavailable", "40 processes"),
        ("OSError", "[Errno 24] Too many open files: 'x'", "100 files"),
        ("URLError", "<urlopen error [Errno -3] Temporary failure in name resolution>", "network"),
        ("OSError", "[Errno 101] Network is unreachable", "network is off"),
    ],
)
def test_an_error_that_a_limit_caused_gets_a_line_that_names_it(name, value, said):
    assert said in causes.hint(name, value, LIMITS)


@pytest.mark.parametrize(
    ("name", "value"), [("ValueError", "no"), ("NameError", "name 'MemoryError' is"), ("E", "")]
)
def test_an_ordinary_error_gets_no_such_line(name, value):
    assert causes.hint(name, value, LIMITS) == ""


@pytest.mark.parametrize(
    "failed",
    [
        causes.timed_out(1, 5, causes.KEPT),
        causes.interrupted_hard(1, 5, causes.LOST_RUNNER),
        causes.interrupted_hard(1, 5, causes.lost_runner("JavaScript")),
        causes.out_of_memory(1, LIMITS, 300 * MIB, causes.LOST_SANDBOX),
        causes.restarted(1),
    ],
)
def test_every_end_says_what_became_of_the_variables(failed):
    assert "variables" in failed.value.lower()
    assert failed.value in failed.traceback[0]


def test_where_there_are_several_languages_the_end_of_one_names_it():
    assert causes.lost_runner() == causes.LOST_RUNNER
    told = causes.lost_runner("JavaScript")
    assert told.startswith("The variables of JavaScript are lost; the others live on")
    exited = events.RunnerExited(0, 1, "exited", 3, None, "", "javascript")
    assert "The runner of JavaScript ended" in causes.runner_exited(exited, "JavaScript")
    assert "The runner ended" in causes.runner_exited(exited)


def test_a_guests_reason_why_a_cell_did_not_run_is_cleaned_by_the_gate():
    refused = causes.refused(1, "R", "Install R.\x1b]0;title\x07\x1b[2J")
    [shown] = Gate(OutputPolicy("safe"), LIMITS).admit([refused])
    assert shown.value.startswith("The cell of R did not run. Install R.")
    assert "\x1b]" not in shown.value + "".join(shown.traceback)
    assert "\x1b[2J" not in shown.value + "".join(shown.traceback)


def test_the_end_by_memory_names_limit_and_peak():
    failed = causes.out_of_memory(1, LIMITS, 300 * MIB, causes.LOST_RUNNER)
    assert "256 MiB" in failed.value
    assert "300 MiB" in failed.value


@pytest.mark.parametrize(
    ("code", "info"),
    [
        ("output_truncated", {"file": "output-3.txt", "limit_bytes": 40_000}),
        ("output_tail", {"file": "output-3.txt", "omitted_bytes": 1}),
        ("files_omitted", {"count": 7}),
        ("displays_dropped", {"limit": 5}),
        ("display_too_large", {"size": 10**9, "limit_bytes": 10**6}),
        ("anything", {}),
    ],
)
def test_a_notice_is_a_line_of_our_words(code, info):
    text = causes.notice(events.OutputNoticed(1, code, info))
    assert text.startswith("\n[sandbox] ")
    assert text.endswith((".\n", ":\n"))


def test_a_tail_behind_which_nothing_is_missing_says_so():
    whole = causes.notice(events.OutputNoticed(1, "output_tail", {"omitted_bytes": 0}))
    assert whole == "\n[sandbox] The rest of the output:\n"
    part = causes.notice(events.OutputNoticed(1, "output_tail", {"omitted_bytes": 2048}))
    assert "2 KiB of output are not shown" in part


@pytest.mark.parametrize("file", ["\x1b]0;x\x07", "<script>", 5, None, "output-1.txt\n"])
def test_a_notice_repeats_none_of_the_guests_words(file):
    text = causes.notice(events.OutputNoticed(1, "output_tail", {"file": file}))
    assert "file" not in text
    assert "script" not in text
