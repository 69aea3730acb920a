"""JupyterLab as a user has it: a server on loopback, and a page in a real Chromium.

Rule 1: the server's configuration, data, settings and root are temporary directories, and
terminals stay enabled, since one proof of a break-out is a terminal that nobody opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from tests.support.kernels import Family
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Playwright's unit is the millisecond. JupyterLab's first load on two noisy cores.
PATIENCE_MS = 60_000

QUIET = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    # All cells stay in the page, also those that are scrolled away.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}


class Lab:
    """A running JupyterLab server."""

    def __init__(self, root: Path, url: str, token: str) -> None:
        self.root = root
        self.url = url
        self.token = token

    def get(self, path: str) -> Any:
        """The JSON of an API path, such as `api/terminals`."""
        request = urllib.request.Request(
            f"{self.url}/{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def end_kernels(self) -> None:
        """Shut down every kernel, as its menu does."""
        for session in self.get("api/sessions"):
            request = urllib.request.Request(
                f"{self.url}/api/sessions/{session['id']}",
                headers={"Authorization": f"token {self.token}"},
                method="DELETE",
            )
            with urllib.request.urlopen(request, timeout=30):
                pass

    def is_up(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            return bool(self.get("api/status"))
        return False

    def write_notebook(self, name: str, kernel_name: str, *sources: str) -> Path:
        """A notebook in the server's root. A source that begins with `#md ` is markdown."""
        specs = self.get("api/kernelspecs")["kernelspecs"]
        spec = specs[kernel_name]["spec"]
        notebook = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {
                    "name": kernel_name,
                    "display_name": spec["display_name"],
                    "language": spec["language"],
                },
                "language_info": {"name": spec["language"]},
            }
        )
        for source in sources:
            if source.startswith("#md "):
                notebook.cells.append(nbformat.v4.new_markdown_cell(source[4:]))
            else:
                notebook.cells.append(nbformat.v4.new_code_cell(source))
        path = self.root / name
        nbformat.write(notebook, path)
        return path

    def saved_cells(self, name: str) -> list[nbformat.NotebookNode]:
        """The notebook's cells on disk; none while the server is writing it."""
        with contextlib.suppress(nbformat.reader.NotJSONError):
            cells: list[nbformat.NotebookNode] = nbformat.read(self.root / name, 4).cells
            return cells
        return []

    def page_url(self, path: str = "") -> str:
        """A fresh workspace, so that no test sees what another left open."""
        workspace = secrets.token_hex(6)
        tree = f"/tree/{path}" if path else ""
        return f"{self.url}/lab/workspaces/{workspace}{tree}?token={self.token}"


@contextlib.contextmanager
def running_lab(home: Path) -> Iterator[Lab]:
    """A server whose files all are under `home`."""
    root = home / "root"
    settings = home / "settings"
    root.mkdir(parents=True)
    for name, content in QUIET.items():
        path = settings / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    arguments = [
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}", "--ServerApp.terminals_enabled=True",
    ]  # fmt: skip
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments], env=environment, cwd=home,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    family = Family(server.pid)
    lab = Lab(root, f"http://127.0.0.1:{port}", token)
    try:
        until(lambda: server.poll() is not None or lab.is_up(), "JupyterLab's server")
        assert server.poll() is None, (home / "server.log").read_text()
        yield lab
    finally:
        family.note()
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        family.end()


class NotebookPage:
    """A notebook open in JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @classmethod
    def open(cls, page: Page, lab: Lab, name: str) -> NotebookPage:
        page.goto(lab.page_url(name), timeout=PATIENCE_MS)
        notebook = cls(page)
        notebook.wait_until_connected()
        return notebook

    def wait_until_connected(self) -> None:
        """Until it is drawn and its kernel has answered. Before that, running asks for a kernel."""
        self.cells.first.wait_for(timeout=PATIENCE_MS)
        self.page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=PATIENCE_MS)

    @property
    def indicator(self) -> Locator:
        return self.panel.locator(".jp-Notebook-ExecutionIndicator")

    @property
    def cells(self) -> Locator:
        return self.panel.locator(".jp-Notebook .jp-Cell")

    def outputs(self, index: int) -> Locator:
        return self.cells.nth(index).locator(".jp-OutputArea-output")

    def wait_for_output(self, index: int, text: str) -> None:
        """Until the cell shows `text`: a page draws what it was sent when it has time."""
        shown = lambda: "".join(self.outputs(index).all_inner_texts())  # noqa: E731
        until(lambda: text in shown(), f"{text!r} below cell {index}")

    def wait_for_state(self, state: str) -> None:
        """`idle`, `busy`, …: what the toolbar's indicator says."""
        self.panel.locator(f'.jp-Notebook-ExecutionIndicator[data-status="{state}"]').wait_for(
            timeout=PATIENCE_MS
        )

    def wait_until_idle(self) -> None:
        self.wait_for_state("idle")

    def prompt(self, index: int) -> str:
        """`[3]:`, `[*]:` or `[ ]:`."""
        return self.cells.nth(index).locator(".jp-InputPrompt").inner_text()

    def wait_until_run(self, index: int) -> None:
        """Until the cell has its number."""
        until(lambda: self.prompt(index).strip("[]: ").isdigit(), f"the end of cell {index}")

    def run_all(self) -> None:
        """Run all cells from the menu; doesn't wait for them."""
        self.page.get_by_role("menuitem", name="Run", exact=True).first.click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()

    def run(self, index: int) -> None:
        """Run one cell; doesn't wait for it."""
        self.cells.nth(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def run_first(self, code: str) -> None:
        """Put `code` into the first cell and run it."""
        self.type_into(0, code)
        self.page.keyboard.press("Control+Enter")

    def toolbar(self, command: str) -> None:
        """Press the button of a command, such as `notebook:interrupt-kernel`."""
        self.panel.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').click()

    def type_into(self, index: int, code: str) -> None:
        editor = self.cells.nth(index).locator(".cm-content")
        editor.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(code)
