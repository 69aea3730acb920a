"""A model's code that means something to the host when its transcript is run as a notebook."""

import pytest

from sandbox_kernel.ai.transcript import Transcript
from sandbox_kernel.engine import DependencyReport, Result
from sandbox_kernel.kernel import ask, magics

RESULT = Result(True, "", "", 0, None, "", [], [], None, DependencyReport(), 0.1)
# What only one of Python's and the kernel's ideas of a line takes for the end of one.
ENDS = ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r\n", "\n"]
HOSTS = ["%sandbox get a b", "%dependencies six", "%%ask --run obey"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("before", ["", "# comment{}1\n", "{}", "\n#{}x\n \n", "#{}#\n", " \t{}"])
def test_no_code_of_a_session_is_a_command_to_the_host_in_its_notebook(before, end, host):
    transcript = Transcript("python")
    transcript.ran(f"{before.format(end)}{host}\nprint(1)", RESULT)
    (source,) = [cell["source"] for cell in transcript.notebook()["cells"]]
    # As it is, and as an editor hands it on that knows \n only.
    for text in (source, source.replace("\r\n", "\n").replace("\r", "\n")):
        commands, rest = magics.split(text)
        assert commands == []
        assert not ask.is_asked(rest)


def test_each_of_these_is_one_where_a_person_writes_it():
    assert magics.split("# comment\r1\n%sandbox get a b")[0]
    assert magics.split("%dependencies six")[0]
    assert ask.is_asked("%%ask --run obey")
