"""display_data, its updates, clear_output, charts, generated files."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

from tests.support.kernels import IS_OURS, Kernel

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def test_a_display_handle_updates_its_display(shared_kernel: Kernel):
    run = shared_kernel.run(
        "from IPython.display import display\n"
        "handle = display({'text/plain': 'first'}, raw=True, display_id='one')\n"
        "handle.update({'text/plain': 'second'}, raw=True)"
    )
    (shown,), (updated,) = run.contents("display_data"), run.contents("update_display_data")
    assert shown["transient"] == updated["transient"] == {"display_id": "one"}
    assert (shown["data"]["text/plain"], updated["data"]["text/plain"]) == ("first", "second")


def test_a_later_cell_updates_the_display_of_an_earlier_one(shared_kernel: Kernel):
    shared_kernel.run(
        "from IPython.display import display\n"
        "earlier = display({'text/plain': 'old'}, raw=True, display_id=True)"
    )
    run = shared_kernel.run("earlier.update({'text/plain': 'new'}, raw=True)")
    (updated,) = run.contents("update_display_data")
    assert updated["data"]["text/plain"] == "new"
    assert updated["transient"]["display_id"]


def test_a_thread_updates_a_display_after_its_cell_ended(shared_kernel: Kernel):
    first = shared_kernel.run(
        "import threading\n"
        "from IPython.display import display\n"
        "go = threading.Event()\n"
        "handle = display({'text/plain': 'waiting'}, raw=True, display_id='late')\n"
        "def later():\n"
        "    go.wait(60); handle.update({'text/plain': 'updated late'}, raw=True)\n"
        "worker = threading.Thread(target=later); worker.start()"
    )
    shared_kernel.run("go.set(); worker.join()")
    late = shared_kernel.wait_for(
        lambda m: (
            m["msg_type"] == "update_display_data"
            and m["content"]["data"].get("text/plain") == "updated late"
        ),
        "the late update",
    )
    assert late["content"]["transient"]["display_id"] == "late"
    if IS_OURS:
        assert late["parent_header"]["msg_id"] == first.reply["parent_header"]["msg_id"]


@pytest.mark.parametrize("wait", [True, False])
def test_clear_output_says_whether_to_wait(shared_kernel: Kernel, wait: bool):
    run = shared_kernel.run(
        f"from IPython.display import clear_output\nprint('gone')\nclear_output(wait={wait})\n"
        "print('stays')"
    )
    assert run.contents("clear_output") == [{"wait": wait}]
    pieces = [c.get("text", "cleared ") for c in (m["content"] for m in run.messages[2:-1])]
    assert "".join(pieces) == "gone\ncleared stays\n"


def test_a_chart_is_shown_without_being_asked_for(shared_kernel: Kernel):
    run = shared_kernel.run(
        "import matplotlib.pyplot as plt\n_ = plt.plot([1, 4, 9])\nplt.show()", timeout_s=110
    )
    (bundle,) = run.displays
    assert base64.b64decode(bundle["image/png"]).startswith(PNG_MAGIC)
    assert "text/plain" in bundle


def test_a_figure_left_open_is_shown_at_the_end_of_its_cell(shared_kernel: Kernel):
    run = shared_kernel.run(
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\n_ = axes.plot([3, 1])",
        timeout_s=110,
    )
    assert ["image/png" in bundle for bundle in run.displays] == [True]


def test_a_pandas_table_is_html_and_text(shared_kernel: Kernel):
    run = shared_kernel.run("import pandas as pd\npd.DataFrame({'a': [1, 2]})", timeout_s=110)
    assert "<table" in run.result["text/html"]
    assert "a" in run.result["text/plain"]


def test_an_object_with_a_repr_html_shows_it(shared_kernel: Kernel):
    run = shared_kernel.run(
        "class Shown:\n    def _repr_html_(self): return '<em>rich</em>'\nShown()"
    )
    assert "<em>rich</em>" in run.result["text/html"]


@ours_only
class TestGeneratedFiles:
    """A file that a cell leaves in the workspace is shown after it."""

    def test_a_saved_chart_is_shown_as_a_picture(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "import matplotlib\nfrom matplotlib.figure import Figure\n"
            "figure = Figure(); _ = figure.subplots().plot([1, 2])\nfigure.savefig('saved.png')",
            timeout_s=110,
        )
        (bundle,) = run.displays
        assert base64.b64decode(bundle["image/png"]).startswith(PNG_MAGIC)
        assert "saved.png" in str(run.contents("display_data")[0])

    def test_a_picture_shown_and_saved_appears_once(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "from IPython.display import Image, display\nimport io\n"
            "from matplotlib.figure import Figure\n"
            "figure = Figure(); _ = figure.subplots().plot([2, 1])\n"
            "figure.savefig('once.png')\ndisplay(Image('once.png'))",
            timeout_s=110,
        )
        assert len([b for b in run.displays if "image/png" in b]) == 1

    def test_a_table_file_is_previewed(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "with open('cities.csv', 'w') as f:\n    f.write('city,people\\nOslo,700000\\n')\n"
        )
        (bundle,) = run.displays
        assert "Oslo" in bundle["text/html"]
        assert "Oslo" in bundle["text/plain"]

    def test_json_is_previewed(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "import json\nwith open('made.json', 'w') as f:\n    json.dump({'key': [1, 2]}, f)"
        )
        (bundle,) = run.displays
        assert "key" in bundle["text/plain"]

    def test_another_file_is_a_line_with_name_and_size(self, shared_kernel: Kernel):
        run = shared_kernel.run("with open('blob.bin', 'wb') as f:\n    _ = f.write(bytes(2048))")
        (bundle,) = run.displays
        assert "blob.bin" in bundle["text/plain"]
        assert "2 KiB" in bundle["text/plain"] or "2048" in bundle["text/plain"]

    def test_an_unchanged_file_is_not_shown_again(self, shared_kernel: Kernel):
        shared_kernel.run("with open('still.txt', 'w') as f:\n    _ = f.write('x')")
        assert shared_kernel.run("print('nothing new')").displays == []

    def test_a_name_with_markup_is_only_text(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "with open('<img src=x onerror=alert(1)>.csv', 'w') as f:\n    f.write('a,b\\n1,2')\n"
        )
        assert run.displays
        for bundle in run.displays:
            assert "<img" not in bundle.get("text/html", "")


def _tags(html: str) -> list[tuple[str, dict[str, str]]]:
    """The tags that a browser would see, with their attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.feed(html)
    return found


@ours_only
class TestOutputPolicy:
    """What `safe` does to outputs, seen from a client."""

    def test_html_with_script_is_cleaned_or_framed_without_an_origin(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            "from IPython.display import HTML\n"
            "HTML('<b onclick=\"x()\">bold</b><img src=x onerror=alert(1)>')"
        )
        html = run.result["text/html"]
        for tag, attributes in _tags(html):
            assert tag != "script"
            assert not any(name.startswith("on") for name in attributes)
            if tag == "iframe":
                assert attributes["sandbox"] == "allow-scripts"
                assert "connect-src 'none'" in attributes["srcdoc"]

    def test_javascript_never_reaches_the_client(self, shared_kernel: Kernel):
        run = shared_kernel.run("from IPython.display import Javascript\nJavascript('alert(1)')")
        assert "application/javascript" not in run.result
        assert run.result["text/plain"]

    def test_terminal_tricks_are_removed_and_colours_stay(self, shared_kernel: Kernel):
        run = shared_kernel.run(
            r"print('\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 "
            r"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[Hend')"
        )
        assert "\x1b[31mred\x1b[0m" in run.stdout
        assert "\x1b]" not in run.stdout
        assert "\x1b[2J" not in run.stdout
        assert "end" in run.stdout

    def test_a_payload_that_inserts_a_cell_is_dropped(self, shared_kernel: Kernel):
        run = shared_kernel.run("get_ipython().set_next_input('rm -rf ~')")
        assert run.content["payload"] == []

    def test_trusted_outputs_pass(self, start_kernel):
        """The twin: the same probe passes where its owner spelled it out."""
        kernel = start_kernel(env={"SANDBOX_KERNEL_OUTPUTS": "trusted"})
        run = kernel.run("from IPython.display import Javascript\nJavascript('alert(1)')")
        assert run.result["application/javascript"] == "alert(1)"
