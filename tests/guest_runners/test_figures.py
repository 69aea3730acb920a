"""Charts appear without being asked for, once, as pictures."""

from __future__ import annotations

import base64

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner

PLOT = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nline = ax.plot([1, 2, 3])\n"


@pytest.fixture(params=["ipython", "plain"])
def drawer(request, start_runner) -> Runner:
    return start_runner(request.param)


def pictures(cell) -> list[bytes]:
    return [base64.b64decode(shown["data"]["image/png"]) for shown in cell.displays]


def test_a_figure_appears_after_its_cell(drawer: Runner) -> None:
    cell = drawer.execute(PLOT + "print('drawn')")
    (picture,) = pictures(cell)
    assert picture.startswith(b"\x89PNG")
    assert cell.kinds == [Kind.STDOUT, Kind.DISPLAY, Kind.REPLY]
    assert not drawer.execute("1").displays


def test_show_shows_it_at_once_and_only_once(drawer: Runner) -> None:
    cell = drawer.execute(PLOT + "plt.show()\nprint('after')")
    assert cell.kinds == [Kind.DISPLAY, Kind.STDOUT, Kind.REPLY]


def test_every_figure_appears(drawer: Runner) -> None:
    cell = drawer.execute(
        "import matplotlib.pyplot as plt\nfor i in range(3): plt.figure(); plt.plot([i, 1])"
    )
    assert len(set(pictures(cell))) == 3


def test_a_figure_as_last_expression_is_a_picture(drawer: Runner) -> None:
    cell = drawer.execute(PLOT + "plt.close(fig)\nfig")
    (result,) = cell.metas(Kind.RESULT)
    assert base64.b64decode(result["data"]["image/png"]).startswith(b"\x89PNG")
    assert not cell.displays


def test_figures_of_a_failing_cell_appear_too(drawer: Runner) -> None:
    cell = drawer.execute(PLOT + "1/0")
    assert len(pictures(cell)) == 1
    assert cell.error["ename"] == "ZeroDivisionError"


def test_a_figure_is_saved_to_a_file(drawer: Runner, tmp_path) -> None:
    cell = drawer.execute(PLOT + "fig.savefig('chart.png'); plt.close()")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert not cell.displays


def test_another_backend_may_be_chosen(drawer: Runner) -> None:
    cell = drawer.execute("import matplotlib\nmatplotlib.use('Agg')\n" + PLOT)
    assert not cell.displays
    assert cell.reply["status"] == "ok"


def test_pandas_draws(drawer: Runner) -> None:
    assert len(drawer.execute("import pandas as pd; axes = pd.Series([1, 2]).plot()").displays) == 1


def test_the_inline_magic_works_as_ever(ipython: Runner) -> None:
    for line in ("%matplotlib inline", "%config InlineBackend.figure_formats = ['svg']"):
        assert ipython.execute(line).reply["status"] == "ok"
    cell = ipython.execute(PLOT)
    assert "<svg" in cell.displays[0]["data"]["image/svg+xml"]


def test_a_gui_is_refused_and_inline_goes_on(ipython: Runner) -> None:
    cell = ipython.execute("%matplotlib tk")
    assert "no display in the sandbox" in cell.error["evalue"]
    assert cell.reply["status"] == "error"
    assert "no display in the sandbox" in ipython.execute("%gui qt").stderr
    assert len(ipython.execute(PLOT).displays) == 1
