"""JupyterLab in a real browser: what a user does on the first day."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import IS_OURS, KERNEL_NAME
from tests.support.lab import NotebookPage
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.lab import Lab

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")

SHOWN = "import matplotlib.pyplot as plt\nlines = plt.plot([1, 4, 9])\nplt.show()"
SAVED = (
    "from matplotlib.figure import Figure\nfigure = Figure(figsize=(4, 2))\n"
    "bars = figure.subplots().bar(['a', 'b'], [3, 1])\nfigure.savefig('bars.png')"
)
TABLE = (
    "with open('cities.csv', 'w') as f:\n"
    "    n = f.write('city,people\\nOslo,709000\\nBergen,289000\\n')"
)


def drawn_width(picture: Locator) -> int:
    """Pixels of a picture that the browser could decode; 0 for a broken one."""
    return picture.evaluate("image => image.complete ? image.naturalWidth : 0")


def test_a_notebook_opens_from_the_launcher(page: Page, lab: Lab):
    name = lab.get("api/kernelspecs")["kernelspecs"][KERNEL_NAME]["spec"]["display_name"]
    page.goto(lab.page_url())
    card = page.locator(f'.jp-LauncherCard[data-category="Notebook"][title^="{name}"]')
    logo = card.locator("img")
    logo.wait_for()
    until(lambda: drawn_width(logo), "the card's logo")
    card.click()
    notebook = NotebookPage(page)
    notebook.wait_until_connected()
    assert name in page.locator("#jp-main-statusbar").inner_text()
    notebook.run_first("6 * 7")
    notebook.wait_until_run(0)
    notebook.wait_for_output(0, "42")


def test_run_all_shows_charts_tables_and_files(page: Page, lab: Lab):
    frame = "import pandas as pd\npd.DataFrame({'city': ['Oslo'], 'people': [709000]})"
    lab.write_notebook("all.ipynb", KERNEL_NAME, "#md # Title", SHOWN, SAVED, TABLE, frame)
    notebook = NotebookPage.open(page, lab, "all.ipynb")
    notebook.run_all()
    notebook.wait_until_run(4)
    notebook.wait_until_idle()
    for index in (1, 2) if IS_OURS else (1,):
        picture = notebook.cells.nth(index).locator(".jp-OutputArea-output img")
        picture.wait_for()
        until(lambda picture=picture: drawn_width(picture) > 100, f"the chart of cell {index}")
        assert picture.count() == 1
    if IS_OURS:
        preview = notebook.cells.nth(3).locator(".jp-OutputArea-output table")
        preview.get_by_text("Bergen").wait_for()
    notebook.cells.nth(4).locator(".jp-OutputArea-output table").get_by_text("709000").wait_for()


def test_the_toolbar_interrupts_a_cell(page: Page, lab: Lab):
    code = "import time\nkept = 5\nprint('running')\ntime.sleep(3600)"
    lab.write_notebook("stop.ipynb", KERNEL_NAME, code, "kept")
    notebook = NotebookPage.open(page, lab, "stop.ipynb")
    notebook.run(0)
    notebook.outputs(0).get_by_text("running").wait_for()
    notebook.toolbar("notebook:interrupt-kernel")
    notebook.wait_until_run(0)
    notebook.wait_for_output(0, "KeyboardInterrupt")
    notebook.run(1)
    notebook.wait_until_run(1)
    notebook.wait_for_output(1, "5")


def test_the_toolbar_restarts_the_kernel(page: Page, lab: Lab):
    lab.write_notebook("again.ipynb", KERNEL_NAME, "kept = 5", "'kept' in globals()")
    notebook = NotebookPage.open(page, lab, "again.ipynb")
    notebook.run(0)
    notebook.wait_until_run(0)
    notebook.toolbar("notebook:restart-kernel")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator(".jp-Dialog").wait_for(state="detached")
    notebook.wait_until_connected()
    notebook.run(1)
    notebook.wait_until_run(1)
    assert notebook.prompt(1) == "[1]:"
    notebook.wait_for_output(1, "False")


def test_tab_completes_a_name(page: Page, lab: Lab):
    lab.write_notebook("tab.ipynb", KERNEL_NAME, "unmistakable_name = 1", "")
    notebook = NotebookPage.open(page, lab, "tab.ipynb")
    notebook.run(0)
    notebook.wait_until_run(0)
    notebook.type_into(1, "unmistak")

    def is_completed() -> bool:
        # A single match is inserted at once; several are offered.
        if "unmistakable_name" in notebook.cells.nth(1).locator(".cm-content").inner_text():
            return True
        offered = page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item")
        return any("unmistakable_name" in text for text in offered.all_inner_texts())

    def press_tab() -> bool:
        page.keyboard.press("Tab")
        with contextlib.suppress(AssertionError):
            until(is_completed, "the completion", timeout_s=5)
        return is_completed()

    # JupyterLab gives up after a second, and a cold completer may take longer: again, then.
    until(press_tab, "the completion")


def test_input_is_asked_and_answered_in_the_page(page: Page, lab: Lab):
    lab.write_notebook("ask.ipynb", KERNEL_NAME, "name = input('Who? ')\nname[::-1]")
    notebook = NotebookPage.open(page, lab, "ask.ipynb")
    notebook.run(0)
    field = notebook.cells.nth(0).locator("input.jp-Stdin-input")
    field.fill("Ada")
    field.press("Enter")
    notebook.wait_until_run(0)
    notebook.wait_for_output(0, "adA")


def test_a_slider_moves_a_value_in_the_sandbox(page: Page, lab: Lab):
    code = (
        "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=9)\n"
        "label = ipywidgets.Label()\n"
        "slider.observe(lambda c: setattr(label, 'value', f'now {c[\"new\"]}'), 'value')\n"
        "ipywidgets.VBox([slider, label])"
    )
    lab.write_notebook("slide.ipynb", KERNEL_NAME, code, "slider.value")
    notebook = NotebookPage.open(page, lab, "slide.ipynb")
    notebook.run(0)
    handle = notebook.cells.nth(0).locator(".noUi-handle")
    handle.wait_for()
    handle.focus()
    page.keyboard.press("ArrowRight")
    notebook.cells.nth(0).get_by_text("now 4", exact=True).wait_for()
    notebook.run(1)
    notebook.wait_until_run(1)
    notebook.wait_for_output(1, "4")


@ours_only
def test_a_dead_sandbox_is_told_in_the_cell_and_the_notebook_goes_on(page: Page, lab: Lab):
    lab.write_notebook("dead.ipynb", KERNEL_NAME, "import os\nos._exit(1)", "'goes on'")
    notebook = NotebookPage.open(page, lab, "dead.ipynb")
    notebook.run(0)
    notebook.wait_until_run(0)
    notebook.wait_for_output(0, "variables")
    notebook.run(1)
    notebook.wait_until_run(1)
    notebook.wait_for_output(1, "goes on")
    assert page.locator(".jp-Dialog").count() == 0


def test_a_finished_notebook_is_saved_with_its_outputs(page: Page, lab: Lab):
    lab.write_notebook("saved.ipynb", KERNEL_NAME, SHOWN)
    notebook = NotebookPage.open(page, lab, "saved.ipynb")
    notebook.run_all()
    notebook.wait_until_run(0)
    notebook.wait_until_idle()
    page.keyboard.press("Control+S")

    def pictures() -> list[str]:
        outputs = [output for cell in lab.saved_cells("saved.ipynb") for output in cell.outputs]
        return [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]

    until(pictures, "the saved chart")
    assert base64.b64decode(pictures()[0]).startswith(b"\x89PNG")
