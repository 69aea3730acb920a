"""Cells of several languages in one notebook, as a front end sees them."""

from __future__ import annotations

import pytest

from tests.conformance.test_interrupt import begin, interrupt_and_wait
from tests.support.kernels import IS_OURS, Kernel
from tests.support.waiting import DEADLINE_S

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)

pytestmark = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")


def test_each_language_keeps_its_own_variables_and_all_share_the_workspace(shared_kernel: Kernel):
    shared_kernel.run("x = 'of Python'; open('shared.txt', 'w').write('shared')")
    shared_kernel.run("%%bash\nx='of Bash'")
    assert shared_kernel.run('%%bash\necho "$x"; cat shared.txt').stdout == "of Bash\nshared"
    assert shared_kernel.run("print(x)").stdout == "of Python\n"
    assert shared_kernel.run("%%python\nprint(x)").stdout == "of Python\n"


def test_lines_of_errors_are_the_cells_own(shared_kernel: Kernel):
    run = shared_kernel.run("%%perl\n\ndie 'wanted'")
    assert run.status == "error"
    assert "line 3" in run.stderr + "\n".join(run.error["traceback"])
    assert "line 2" in "\n".join(shared_kernel.run("%%python\n1 / 0").error["traceback"])


def test_a_failed_cell_of_another_language_stops_what_is_queued_behind_it(shared_kernel: Kernel):
    code = "%%bash\nread -r -p '? ' answer\nno_such_command_here"
    message_id = shared_kernel.raw.execute(code, allow_stdin=True)
    shared_kernel.raw.get_stdin_msg(timeout=DEADLINE_S)
    behind = shared_kernel.raw.execute("print('ran')", allow_stdin=False)
    shared_kernel.raw.input("")
    assert shared_kernel.finish(message_id).status == "error"
    assert shared_kernel.finish(behind).status == "aborted"


def test_an_interrupt_of_one_language_keeps_the_variables_of_the_other(shared_kernel: Kernel):
    shared_kernel.run("x = 5")
    message_id = begin(shared_kernel, "%%bash\necho begun; sleep 3600")
    interrupt_and_wait(shared_kernel)
    assert shared_kernel.finish(message_id).status == "error"
    assert shared_kernel.run("print(x)").stdout == "5\n"
    assert shared_kernel.run("%%bash\necho next").stdout == "next\n"


def test_the_end_of_one_language_keeps_the_variables_of_the_other(shared_kernel: Kernel):
    shared_kernel.run("%%bash\necho up")
    shared_kernel.run("x = 5")
    shared_kernel.run("%%bash\nx=6; kill -KILL $$")
    assert shared_kernel.run("print(x)").stdout == "5\n"
    shared_kernel.run("import os; os._exit(1)")
    assert shared_kernel.run("%%bash\necho next").stdout == "next\n"


def test_late_output_belongs_to_the_cell_of_its_language(shared_kernel: Kernel):
    wait = (
        "(until [ -e late ]; do sleep 0.05; done; echo 'it is late') >&1 2>/dev/null & echo first"
    )
    first = shared_kernel.raw.execute("%%bash\n" + wait, allow_stdin=False)
    shared_kernel.finish(first)
    shared_kernel.run("open('late', 'w').close()")
    late = shared_kernel.wait_for_text("it is late")
    assert late["parent_header"]["msg_id"] == first


def test_a_files_picture_of_another_language_is_shown_by_its_cell(shared_kernel: Kernel):
    run = shared_kernel.run(f"%%bash\nbase64 -d <<< {PIXEL} > picture.png")
    assert any("image/png" in display for display in run.displays)


def test_ipythons_own_cell_magics_still_work(shared_kernel: Kernel):
    assert shared_kernel.run("%%capture kept\nprint('captured')").stdout == ""
    assert shared_kernel.run("print(kept.stdout)").stdout == "captured\n\n"
    assert "echo" in shared_kernel.run("%%bash -s echo\necho $1").stdout


def test_completion_is_the_languages(shared_kernel: Kernel):
    shared_kernel.run("%%bash\necho up")
    asked = {"code": "import os\nos.getcw", "cursor_pos": 18}
    assert "getcwd" in str(shared_kernel.request("complete_request", asked)["content"]["matches"])
    asked = {"code": "%%bash\nos.getcw", "cursor_pos": 15}
    assert shared_kernel.request("complete_request", asked)["content"]["matches"] == []
