"""The picture of the README: a real notebook, run by our kernel in JupyterLab.

`SANDBOX_TEST_SCREENSHOT` says where to write it; without, it goes to a temporary
directory, and the test still proves that it can be made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.kernels import IS_OURS, KERNEL_NAME
from tests.support.lab import NotebookPage
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.support.lab import Lab

WIDTH, HEIGHT = 1400, 960

# NOAA Global Monitoring Laboratory: mean CO2 at Mauna Loa in ppm, by year.
DATA = """\
import matplotlib.pyplot as plt
import pandas as pd

years = [1960, 1970, 1980, 1990, 2000, 2010, 2020]
air = pd.DataFrame({"CO₂ (ppm)": [316.9, 325.7, 338.8, 354.5, 369.7, 390.1, 414.2]}, index=years)
air["per decade"] = air["CO₂ (ppm)"].diff()
air.tail(3)"""

CHART = """\
figure, axes = plt.subplots(figsize=(9, 2.4))
axes.fill_between(air.index, air["CO₂ (ppm)"], 300, color="#2a9d8f", alpha=0.25)
axes.plot(air.index, air["CO₂ (ppm)"], marker="o", color="#1d6f66")
axes.set(ylabel="ppm", title="CO₂ at Mauna Loa")
plt.show()"""

PROBE = """\
import os, socket
print("my home is", os.path.expanduser("~"), "· your keys:", os.path.exists("/root/.ssh"))
try: socket.create_connection(("1.1.1.1", 443), timeout=2)
except OSError as error: print("the network:", error)"""

TITLE = "#md ## A data analysis, and what it cannot reach"


@pytest.fixture
def sharp_page(browser: Browser) -> Iterator[Page]:
    """A page with pixels enough for a picture that is read."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


@pytest.mark.skipif(not IS_OURS, reason="a picture of the sandbox kernel")
def test_the_picture_of_the_readme_can_be_made(sharp_page: Page, lab: Lab, tmp_path: Path):
    target = Path(os.environ.get("SANDBOX_TEST_SCREENSHOT") or tmp_path / "screenshot.png")
    lab.write_notebook("Sandboxed.ipynb", KERNEL_NAME, TITLE, DATA, CHART, PROBE)
    notebook = NotebookPage.open(sharp_page, lab, "Sandboxed.ipynb")
    notebook.run_all()
    notebook.wait_until_run(3)
    notebook.wait_until_idle()
    chart = notebook.cells.nth(2).locator("img")
    until(lambda: chart.evaluate("image => image.naturalWidth") > 300, "the chart")
    notebook.wait_for_output(3, "the network:")
    collapse_the_sidebars(sharp_page)
    sharp_page.screenshot(path=target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size > 50_000


def collapse_the_sidebars(page: Page) -> None:
    """Only the notebook, from its top."""
    page.keyboard.press("Control+B")
    page.locator("#jp-left-stack").wait_for(state="hidden")
    page.keyboard.press("Escape")
    first = page.locator(".jp-Notebook .jp-Cell").first
    first.evaluate("cell => cell.scrollIntoView()")
    page.mouse.move(WIDTH // 2, HEIGHT - 12)
