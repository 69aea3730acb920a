"""R by IRkernel: what only R has. What every language has is in `test_every_runner`."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox_kernel import events, languages
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.languages import native
from tests.languages.bridged import bridged_session, interrupted
from tests.support.sessions import BACKENDS, Driver

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=BACKENDS)
async def r(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    async with bridged_session(languages.get("r"), request.param) as driver:
        yield driver


async def test_a_plot_is_a_picture(r):
    cell = await r.run("plot(1:3, main = 'Größe')")
    (shown,) = cell.of(events.DisplayShown)
    assert base64.b64decode(shown.bundle["image/png"]).startswith(b"\x89PNG")
    assert shown.metadata["image/png"] == {"width": 420, "height": 420}


async def test_two_plots_are_two_pictures_in_order_with_text(r):
    cell = await r.run("plot(1); cat('between\\n'); hist(c(1, 2, 2)); 5")
    kinds = [type(event).__name__ for event in cell.events]
    # IRkernel sends a plot when nothing can be added to it any more: with the next one.
    assert kinds == ["TextWritten", "DisplayShown", "ResultShown", "DisplayShown"]


async def test_a_data_frame_is_a_table_and_text(r):
    cell = await r.run("data.frame(a = 1:2, b = c('<u>', 'v'))")
    (result,) = cell.of(events.ResultShown)
    assert "<table" in result.bundle["text/html"]
    assert "&lt;u&gt;" in result.bundle["text/html"]
    assert "1 1 <u>" in result.bundle["text/plain"]


async def test_an_error_has_its_call_and_traceback(r):
    cell = await r.run("f <- function(x) stop('boom')\nf(1)")
    assert cell.error.value == "Error in f(1): boom\n"
    assert any("f(1)" in line for line in cell.error.traceback)


async def test_a_syntax_error_has_its_line(r):
    assert ":2:2: unexpected ')'" in (await r.run("1 +\n+)")).error.value


async def test_warnings_and_messages_are_on_standard_error(r):
    cell = await r.run("message('m'); warning('w'); invisible(1)")
    assert cell.text("stderr").startswith("m\nWarning message")
    assert cell.of(events.ResultShown) == []


async def test_a_loop_is_seen_while_it_runs(r):
    cell = await interrupted(r, "cat('up\\n'); for (i in 1:9999) { print(i); Sys.sleep(0.05) }")
    assert cell.outcome.status == "error"
    assert cell.error.name == "Interrupted"


@pytest.mark.parametrize("code", ["repeat {}", "Sys.sleep(600)", "system('sleep 600'); stop()"])
async def test_an_interrupt_ends_the_cell_and_variables_stay(r, code):
    await r.run("kept <- 42")
    # R misses one that comes as it begins to wait, without a sandbox, too: a reader presses again.
    cell = await interrupted(r, f"cat('up\\n'); {code}", presses=5)
    assert cell.outcome.status == "error"
    assert (await r.run("cat(kept)")).text() == "42"


async def test_interrupts_between_cells_do_no_harm(r):
    await r.run("kept <- 42")
    for _ in range(20):
        await r.session.interrupt()
    assert (await r.run("cat(kept)")).text() == "42"


async def test_help_is_a_page(r):
    cell = await r.run("?mean")
    (page,) = cell.outcome.payload
    assert "Arithmetic Mean" in str(page["data"])


async def test_help_on_a_name_is_found(r):
    answer = await r.session.inspect("mean(1)", 3, 0)
    assert answer["found"]
    assert "Arithmetic" in str(answer["data"]).replace("_\x08", "")


async def test_quit_ends_r_with_its_status(r):
    cell = await r.run("cat('last words\\n'); quit(status = 3)")
    assert cell.text() == "last words\n"
    assert "exit code 3" in cell.error.value
    assert (await r.run("cat(1)")).text() == "1"


async def test_nothing_of_ours_is_in_the_workspace(r):
    names = (await r.run("cat(ls(all.names = TRUE))")).text().split()
    assert set(names) <= {".Random.seed", ".pbd_env"}  # R's and pbdZMQ's
    assert (await r.run("print({ cat('once '); 1 })")).text() == "once [1] 1\n"


IR = {
    "argv": ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
    "display_name": "R",
    "language": "R",
}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_kernelspec_becomes_a_language(backend):
    language = native.from_kernelspec(IR, "plain-r")
    assert (language.jupyter_name, language.pygments_lexer) == ("R", "r")
    async with bridged_session(language, backend) as driver:
        cell = await driver.run("cat(6 * 7)")
        assert cell.text() == "42"
        (shown,) = (await driver.run("6 * 7")).of(events.DisplayShown)
        assert shown.bundle["text/plain"] == "[1] 42"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_kernelspec_that_only_the_guest_has_is_found_there(backend):
    async with bridged_session(native.named("ir", "R"), backend) as driver:
        assert (await driver.run("cat(6 * 7)")).text() == "42"


def test_a_kernelspec_is_read_from_its_directory(tmp_path: Path):
    (tmp_path / "kernel.json").write_text(
        '{"argv": ["python", "{resource_dir}/k.py", "{connection_file}"], "language": "xyz",'
        ' "interrupt_mode": "message", "env": {"A": "b"}}'
    )
    language = native.from_kernelspec(tmp_path, "Xyz 1")
    assert language.name == "xyz-1"
    assert language.native_kernel == (
        *("--interrupt=message", "--env=A=b"),
        *("{python}", f"{tmp_path}/k.py", "{connection_file}"),
    )


@pytest.mark.parametrize("spec", [{}, {"argv": "R"}, {"argv": []}, {"argv": ["R"]}])
def test_a_kernelspec_without_a_command_is_refused(spec):
    with pytest.raises(SettingsError, match="argv"):
        native.from_kernelspec(spec, "x")
