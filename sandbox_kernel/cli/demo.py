"""`demo`: the example notebooks through the installed kernel, as a Jupyter client would."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel.cli import DONE, FAILED, complain
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from rich.progress import Progress

KERNEL = "sandbox-python"
# The slowest cell of ours takes seconds; a hang should not look like work.
CELL_TIMEOUT_S = 300
# Data that a notebook reads is small enough to commit; a directory full of films is not it.
_LONGEST_DATA_BYTES = 50 * 1024 * 1024


class CellFailedInDemo(SandboxKernelError):
    """A cell of a notebook failed. Remedy: open the executed notebook that the message names."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="execute the example notebooks in the sandbox",
        description="Execute notebooks through the installed kernel; keep them as ipynb and html.",
        allow_abbrev=False,
    )
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="default: the examples")
    parser.add_argument(
        "--output", metavar="DIR", default="demo-output", help="default: %(default)s"
    )
    parser.set_defaults(execute=demo)


def demo(arguments: argparse.Namespace) -> int:
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.settings import Settings

    paths = [Path(item) for item in arguments.notebooks] or examples()
    output = Path(arguments.output).absolute()
    _require_ready(paths, output)
    boundary = _boundary()
    warm_up(Settings.load())
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    failures = 0
    with Progress(*columns, TextColumn("{task.fields[cell]}")) as progress:
        for path in paths:
            try:
                _execute(path, output, progress)
            except CellFailedInDemo as error:
                progress.stop()
                failures += complain(error)
    _say_where(paths, output, boundary)
    return FAILED if failures else DONE


def examples() -> list[Path]:
    """The notebooks that came with this package, from the checkout or the wheel."""
    package = Path(__file__).parent.parent
    for directory in (package.parent / "notebooks", package / "notebooks"):
        found = sorted(directory.glob("*.ipynb"))
        if found:
            return found
    raise SandboxKernelError("This installation has no example notebooks; name your own.")


def _require_ready(paths: list[Path], output: Path) -> None:
    """Everything that can be known before a kernel is started."""
    from importlib.util import find_spec

    from sandbox_kernel import kernelspecs

    missing = [name for name in ("nbclient", "nbconvert") if find_spec(name) is None]
    if missing:
        raise SandboxKernelError(
            f"The demo needs {' and '.join(missing)}. "
            "Install them with: pip install 'sandbox-kernel[demo]'"
        )
    if kernelspecs.find(KERNEL) is None:
        raise SandboxKernelError(
            f"Jupyter has no kernel {KERNEL}. Install it with: sandbox-kernel install"
        )
    for path in paths:
        if not path.is_file():
            raise SettingsError(f"There is no notebook {path}.")
        if path.absolute().parent == output:
            raise SettingsError(f"{path} would be overwritten; choose another --output.")


def _boundary() -> str:
    """What isolates, found by trying.

    Raises:
        SandboxKernelError: nothing does.
    """
    from sandbox_kernel import backends
    from sandbox_kernel.settings import Settings

    check = backends.get(Settings.load().backend).check()
    if not check.is_usable:
        raise SandboxKernelError(f"{check.reason} {check.remedy}")
    return check.boundary


# --- one notebook ---------------------------------------------------------------------


def _execute(path: Path, output: Path, progress: Progress) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = _read(path)
    _copy_data(path, notebook, output)
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    task = progress.add_task(path.stem, total=total, cell="")
    client = NotebookClient(
        notebook,
        kernel_name=KERNEL,
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(output)}},
        on_cell_start=lambda cell, **_: progress.update(task, cell=_title(cell)),
        on_cell_executed=lambda **_: progress.advance(task),
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise CellFailedInDemo(
            f"{path.name} failed; see {output / path.name}. {_last_line(error)}"
        ) from None
    finally:
        progress.update(task, cell="")
        nbformat.write(notebook, output / path.name)
        _write_html(notebook, output / f"{path.stem}.html")


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, LookupError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"{path} is not a notebook: {reason[:200]}.") from None


def _copy_data(path: Path, notebook: Any, output: Path) -> None:
    """Files beside the notebook that its source names, to the same place beside the copy."""
    output.mkdir(parents=True, exist_ok=True)
    source = "\n".join(cell.source for cell in notebook.cells)
    for file in _files_beside(path):
        if file.name not in source:
            continue
        target = output / file.relative_to(path.parent)
        content = file.read_bytes()
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        elif target.read_bytes() != content:
            raise SettingsError(
                f"{target} exists and differs from {file}; choose another --output."
            )


def _files_beside(path: Path) -> Iterator[Path]:
    """The notebook's directory and the directories in it, no deeper."""
    for file in [*path.parent.glob("*"), *path.parent.glob("*/*")]:
        is_data = file.is_file() and file.suffix not in (".ipynb", ".html")
        if is_data and file.stat().st_size <= _LONGEST_DATA_BYTES:
            yield file


def _write_html(notebook: Any, path: Path) -> None:
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter().from_notebook_node(notebook)
    path.write_text(text, encoding="utf-8")


def _title(cell: Any) -> str:
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
    return first[:48]


def _last_line(error: BaseException) -> str:
    import re

    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


# --- what to do next ------------------------------------------------------------------


def _say_where(paths: list[Path], output: Path, boundary: str) -> None:
    print(f"\nEvery cell ran behind: {boundary}")
    print("Executed notebooks, each also as html:")
    for path in paths:
        print(f"  {output / path.name}")
        print(f"  {output / path.stem}.html")
    from importlib.util import find_spec

    lab = f"{Path(sys.executable).parent / 'jupyter'} lab {output}"
    if find_spec("jupyterlab") is None:
        print("For JupyterLab: pip install 'sandbox-kernel[lab]'")
    else:
        print(f"Next, in JupyterLab: {lab}\nThe launcher has it as “Python (sandbox)”.")
