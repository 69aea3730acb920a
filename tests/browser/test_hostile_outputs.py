"""Outputs that attack the page: nothing runs, nothing is fetched, nothing is opened.

The same notebook is shown twice: by our kernel, where nothing may happen, and without a
policy, where the probes must fire. Its saved form is seen once more as nbconvert's html.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

try:
    from playwright.sync_api import Error
except ImportError:  # the fixture `browser` skips and says so
    Error = RuntimeError

from tests.support.hostile_outputs import (
    CLICK_IN_FRAME,
    CLICK_IN_PAGE,
    DESTRUCTIVE,
    MUST_BE_REQUESTED_UNPROTECTED,
    MUST_FIRE_UNPROTECTED,
    CanaryServer,
    attack,
)
from tests.support.kernels import IS_OURS, KERNEL_NAME
from tests.support.lab import Lab, NotebookPage, running_lab
from tests.support.waiting import DEADLINE_S, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

# That something does not happen can only be seen by waiting. The twin's probes fire within
# a second of the click.
SETTLE_MS = 4_000

ours_only = pytest.mark.skipif(not IS_OURS, reason="a promise of the sandbox kernel's alone")


class Seen(NamedTuple):
    """What the attack reached."""

    canaries: set[str]  # names of probes that ran script in the page
    requests: set[str]  # paths asked of the canary server
    terminals: int
    planted: set[str]  # files that appeared in the server's root
    cells: int  # how many more cells there are
    is_restyled: bool
    went_to: str  # where the page is, if it went away

    @property
    def is_nothing(self) -> bool:
        return self == Seen(set(), set(), 0, set(), 0, False, "")


@pytest.fixture
def canary() -> Iterator[CanaryServer]:
    with CanaryServer() as server:
        yield server


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A server of the test's own: an attack that succeeds harms no other test."""
    with running_lab(tmp_path / "lab") as lab:
        yield lab


def show_the_attack(page: Page, lab: Lab, kernel_name: str, cells: list[str]) -> NotebookPage:
    lab.write_notebook("attack.ipynb", kernel_name, *cells)
    notebook = NotebookPage.open(page, lab, "attack.ipynb")
    notebook.run_all()
    until(lambda: _count_finished(page) == len(cells), "the end of the attack", every_s=0.5)
    return notebook


def _count_finished(page: Page) -> int:
    """How many cells have their number. Not `inner_text`, which a hidden page doesn't have."""
    prompts = page.locator(".jp-Notebook .jp-InputPrompt").all_text_contents()
    return sum(prompt.strip("[]: ").isdigit() for prompt in prompts)


def _is_saved(lab: Lab) -> bool:
    cells = lab.saved_cells("attack.ipynb")
    return bool(cells) and all(cell.execution_count for cell in cells)


def look_around(page: Page) -> None:
    """Scroll through all outputs, press everything in them, and wait."""
    for cell in page.locator(".jp-Cell").all():
        cell.evaluate("cell => cell.scrollIntoView()")
    press_everything(page)


def press_everything(page: Page) -> None:
    """In the page and in all its frames; then wait for what comes of it."""
    page.evaluate(CLICK_IN_PAGE)
    for frame in page.frames[1:]:
        # A frame that went away with the click before is no frame to press anything in.
        with contextlib.suppress(Error):
            frame.evaluate(CLICK_IN_FRAME)
    page.wait_for_timeout(SETTLE_MS)


def what_was_seen(page: Page, lab: Lab, canary: CanaryServer, cells: list[str]) -> Seen:
    count = page.locator(".jp-Notebook .jp-Cell").count()
    visibility = page.evaluate("() => getComputedStyle(document.body).visibility")
    covered = page.evaluate("() => document.elementsFromPoint(700, 5).some(e => e.id === 'cover')")
    return Seen(
        canaries=set(page.evaluate("() => window.__canary || []")),
        requests=set(canary.paths),
        terminals=len(lab.get("api/terminals")),
        planted={path.name for path in lab.root.iterdir()} - {"attack.ipynb", ".ipynb_checkpoints"},
        cells=count - len(cells),
        is_restyled=visibility != "visible" or covered,
        went_to="" if page.url.startswith(lab.url) else page.url,
    )


@ours_only
def test_no_output_reaches_the_page_the_network_or_the_server(
    page: Page, own_lab: Lab, canary: CanaryServer
):
    opened: list[str] = []
    page.context.on("page", lambda popup: opened.append(popup.url))
    cells = attack(canary.url)
    notebook = show_the_attack(page, own_lab, KERNEL_NAME, cells)
    look_around(page)
    assert what_was_seen(page, own_lab, canary, cells) == Seen(set(), set(), 0, set(), 0, False, "")
    assert opened == []
    # The saved notebook again, as the user finds it tomorrow.
    page.keyboard.press("Control+S")
    until(lambda: _is_saved(own_lab), "the saved notebook")
    page.reload()
    notebook.wait_until_connected()
    look_around(page)
    assert what_was_seen(page, own_lab, canary, cells).is_nothing


def test_the_same_outputs_do_harm_where_nobody_cleans_them(
    page: Page, own_lab: Lab, canary: CanaryServer
):
    """The twin: it proves that the probes can fire."""
    cells = attack(canary.url, without=DESTRUCTIVE)
    show_the_attack(page, own_lab, "python3", cells)
    look_around(page)

    def what_is_missing() -> list[object]:
        seen = what_was_seen(page, own_lab, canary, cells)
        return [
            *(MUST_FIRE_UNPROTECTED - seen.canaries),
            *(MUST_BE_REQUESTED_UNPROTECTED - seen.requests),
            *({"pwned-script.txt"} - seen.planted),
            *(name for name in ("terminals", "cells", "is_restyled") if not getattr(seen, name)),
        ]

    wait_for_nothing(page, what_is_missing)


def wait_for_nothing(page: Page, what_is_missing: Callable[[], list[object]]) -> None:
    """What must happen may take longer than `SETTLE_MS` on a busy machine."""
    end_s = time.monotonic() + DEADLINE_S
    while (missing := what_is_missing()) and time.monotonic() < end_s:
        page.wait_for_timeout(250)
    assert not missing, missing


def as_html(page: Page, lab: Lab, kernel_name: str, cells: list[str]) -> Path:
    """The executed attack as nbconvert's html, open in the browser."""
    lab.write_notebook("attack.ipynb", kernel_name, *cells)
    arguments = ["--to", "html", "--execute", "--allow-errors", "attack.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", *arguments],
        cwd=lab.root, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = lab.root / "attack.html"
    page.goto(path.as_uri())
    press_everything(page)
    return path


@ours_only
def test_the_html_view_of_the_notebook_is_harmless_too(
    page: Page, own_lab: Lab, canary: CanaryServer
):
    path = as_html(page, own_lab, KERNEL_NAME, attack(canary.url))
    assert page.evaluate("() => window.__canary || []") == []
    assert set(canary.paths) == set()
    assert page.url == path.as_uri()
    assert page.evaluate("() => getComputedStyle(document.body).visibility") == "visible"


def test_the_html_view_does_harm_where_nobody_cleans_it(
    page: Page, own_lab: Lab, canary: CanaryServer
):
    as_html(page, own_lab, "python3", attack(canary.url, without=DESTRUCTIVE))

    def what_is_missing() -> list[object]:
        fired = set(page.evaluate("() => window.__canary || []"))
        return [*({"script", "onerror"} - fired), *({"/image"} - set(canary.paths))]

    wait_for_nothing(page, what_is_missing)
