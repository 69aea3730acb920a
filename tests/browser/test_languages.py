"""A notebook in each language, in JupyterLab: it starts, runs, shows, and is in colour.

Beside the picture of the README (`SANDBOX_TEST_SCREENSHOT`) each test writes one of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox_kernel import kernelspecs, languages
from sandbox_kernel.availability import find_problem
from tests.support.kernels import IS_OURS
from tests.support.lab import NotebookPage
from tests.support.samples import SAMPLES
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.lab import Lab

pytestmark = pytest.mark.skipif(not IS_OURS, reason="the languages of the sandbox kernel")

# Of every piece of text in an editor: what it says, and in which colour.
PIECES = """
content => {
    const pieces = [];
    const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (node.textContent.trim()) {
            pieces.push([node.textContent, getComputedStyle(node.parentElement).color]);
        }
    }
    return pieces;
}
"""


def install(lab: Lab, language: str) -> str:
    """Put a kernelspec where this server looks, as `install` writes it; its name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JUPYTER_DATA_DIR", str(lab.root.parent / "data"))
        return kernelspecs.install({"language": language}, prefix=None).name


@pytest.mark.parametrize("language", languages.names())
def test_a_notebook_runs_and_is_highlighted(page: Page, lab: Lab, tmp_path: Path, language: str):
    if reason := find_problem(language):
        pytest.skip(f"{language}: {reason}")
    sample = SAMPLES[language]
    path = f"{language}.ipynb"
    lab.write_notebook(path, install(lab, language), sample.code)
    notebook = NotebookPage.open(page, lab, path)
    notebook.run(0)
    notebook.wait_until_run(0)
    notebook.wait_until_idle()
    notebook.wait_for_output(0, sample.output)
    page.keyboard.press("Escape")  # the line with the cursor has a colour of its own
    editor = notebook.cells.nth(0).locator(".cm-content")
    comment = sample.code.splitlines()[0]
    # The page loads what knows a language when it needs it.
    until(lambda: is_highlighted(colours(editor), comment, sample.text), f"{language} in colours")
    page.screenshot(path=picture(tmp_path, language))
    lab.end_kernels()  # a dozen at a time is more than this is about


def colours(editor: Locator) -> dict[str, str]:
    """Piece of text -> its colour."""
    pieces: list[list[str]] = editor.evaluate(PIECES)
    return {text.strip(): colour for text, colour in pieces}


def is_highlighted(found: dict[str, str], comment: str, text: str) -> bool:
    """Whether comments, texts and the rest are told apart."""
    comments = {colour for piece, colour in found.items() if comment in piece}
    texts = {colour for piece, colour in found.items() if piece.strip("\"'") == text}
    are_apart = len(comments) == len(texts) == 1 and comments != texts
    return are_apart and len(set(found.values())) >= 4  # and words of the language, and names


def picture(directory: Path, language: str) -> Path:
    named = os.environ.get("SANDBOX_TEST_SCREENSHOT")
    return (Path(named).parent if named else directory) / f"jupyterlab-{language}.png"
