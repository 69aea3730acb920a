"""Rich outputs: forms of objects, display ids, clearing, and what has no JSON form."""

from __future__ import annotations

import base64

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest_runners.support import Runner

RICH = """
class Rich:
    def __repr__(self): return 'rich'
    def _repr_html_(self): return '<b>rich</b>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_latex_(self): return '$x$', {'isolated': True}
"""


def test_rich_forms_of_a_result(runner: Runner) -> None:
    (meta,) = runner.execute(RICH + "Rich()").metas(Kind.RESULT)
    assert meta["data"] == {
        "text/plain": "rich",
        "text/html": "<b>rich</b>",
        "image/png": base64.b64encode(b"\x89PNG").decode(),
        "text/latex": "$x$",
    }
    assert meta["metadata"] == {"text/latex": {"isolated": True}}


def test_a_mime_bundle_is_passed_on(runner: Runner) -> None:
    code = (
        "class B:\n    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'text/plain': 'b', 'application/x-own+json': {'a': [1]}}, {'m': 1}\nB()"
    )
    (meta,) = runner.execute(code).metas(Kind.RESULT)
    assert meta["data"] == {"text/plain": "b", "application/x-own+json": {"a": [1]}}
    assert meta["metadata"] == {"m": 1}


def test_display_shows_each_object_and_has_ids(runner: Runner) -> None:
    cell = runner.execute(
        "display(1, 'two')\nhandle = display('three', display_id='d')\nhandle.update('four')\n"
        "made = display('five', display_id=True)"
    )
    texts = [shown["data"]["text/plain"] for shown in cell.displays]
    assert texts == ["1", "'two'", "'three'", "'five'"]
    assert cell.displays[2]["transient"] == {"display_id": "d"}
    assert cell.displays[3]["transient"]["display_id"]
    (update,) = cell.metas(Kind.UPDATE_DISPLAY)
    assert update["data"] == {"text/plain": "'four'"}
    assert update["transient"] == {"display_id": "d"}


def test_a_display_is_updated_from_a_later_cell(runner: Runner) -> None:
    runner.execute("handle = display(1, display_id='d')")
    cell = runner.execute("handle.update(2)")
    assert cell.metas(Kind.UPDATE_DISPLAY)[0]["transient"] == {"display_id": "d"}


def test_raw_bundles_and_metadata_are_passed_on(runner: Runner) -> None:
    cell = runner.execute(
        "display({'text/html': '<i>'}, raw=True, metadata={'text/html': {'w': 1}})"
    )
    assert cell.displays == [
        {"data": {"text/html": "<i>"}, "metadata": {"text/html": {"w": 1}}, "transient": {}}
    ]


def test_clearing_keeps_its_place(runner: Runner) -> None:
    imports = "from IPython.display import clear_output\n" if runner.info["ipython"] else ""
    cell = runner.execute(
        imports + "print('a')\nclear_output(wait=True)\nprint('b')\nclear_output()"
    )
    assert cell.kinds == [
        Kind.STDOUT,
        Kind.CLEAR_OUTPUT,
        Kind.STDOUT,
        Kind.CLEAR_OUTPUT,
        Kind.REPLY,
    ]
    assert [meta["wait"] for meta in cell.metas(Kind.CLEAR_OUTPUT)] == [True, False]


def test_values_that_are_no_json_get_a_form(runner: Runner) -> None:
    cell = runner.execute(
        "import datetime\n"
        "class N(int):\n    def __repr__(self): return 'not json'\n"
        "display({'application/json': {'b': b'\\xff', 's': {1}, 't': (1, 2), 'n': N(3),"
        " 'd': datetime.date(2020, 1, 2), 'o': object, 5: 'five', None: 0, (1, 2): 'k',"
        " 'x': float('nan'), 'lone': '\\udc80'}}, raw=True)"
    )
    (shown,) = cell.displays
    value = shown["data"]["application/json"]
    assert value["b"] == "/w=="
    assert (value["s"], value["t"], value["n"], value["d"]) == ([1], [1, 2], 3, "2020-01-02")
    assert (value["5"], value["lone"]) == ("five", "\udc80")
    assert cell.of(Kind.DISPLAY)[0].read_meta()["data"]["application/json"]["x"] is None


@pytest.mark.parametrize("shell", ["ipython", "plain"])
def test_numpys_numbers_are_numbers(start_runner, shell: str) -> None:
    cell = start_runner(shell).execute(
        "import numpy as np\n"
        "display({'application/json': {'i': np.int64(3), 'f': np.float32(0.5), 'b': np.bool_(True),"
        " 'a': np.arange(3)}}, raw=True)"
    )
    assert cell.displays[0]["data"]["application/json"] == {
        "i": 3,
        "f": 0.5,
        "b": True,
        "a": [0, 1, 2],
    }


def test_nesting_and_cycles_end_somewhere(runner: Runner) -> None:
    cell = runner.execute(
        "deep = []\nfor _ in range(100_000): deep = [deep]\ncycle = {}; cycle['me'] = cycle\n"
        "display({'application/json': deep}, raw=True)\n"
        "display({'application/json': cycle}, raw=True)"
    )
    assert len(cell.displays) == 2
    assert cell.reply["status"] == "ok"


def test_what_is_too_large_is_reported_with_its_size(runner: Runner) -> None:
    cell = runner.execute("display({'text/plain': 'x' * (20 * 2**20)}, raw=True)\nprint('after')")
    assert not cell.displays
    assert "20.0 MiB" in cell.stderr
    assert "16 MiB" in cell.stderr
    assert cell.stdout == "after\n"
    result = runner.execute("'y' * (20 * 2**20)")
    assert "was not shown" in result.stderr
    assert result.reply["status"] == "ok"


def test_objects_that_answer_to_every_name_are_plain(runner: Runner) -> None:
    cell = runner.execute("from unittest.mock import MagicMock\nMagicMock(name='m')")
    assert cell.reply["status"] == "ok"
    assert list(cell.metas(Kind.RESULT)[0]["data"]) == ["text/plain"]


@pytest.mark.parametrize("shell", ["ipython", "plain"])
def test_a_data_frame_is_a_table(start_runner, shell: str) -> None:
    cell = start_runner(shell).execute("import pandas as pd; pd.DataFrame({'a': [1]})")
    data = cell.metas(Kind.RESULT)[0]["data"]
    assert "<table" in data["text/html"]
    assert "a" in data["text/plain"]


def test_ipythons_display_classes_work(ipython: Runner) -> None:
    cell = ipython.execute(
        "from IPython.display import HTML, Image, Markdown, JSON, SVG, update_display\n"
        "display(HTML('<b>'), Markdown('*m*'), JSON({'a': 1}), SVG('<svg/>'),"
        " Image(b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * 30))\nupdate_display(1, display_id='x')"
    )
    assert [next(iter(set(s["data"]) - {"text/plain"})) for s in cell.displays] == [
        "text/html",
        "text/markdown",
        "application/json",
        "image/svg+xml",
        "image/png",
    ]
    assert len(cell.metas(Kind.UPDATE_DISPLAY)) == 1
