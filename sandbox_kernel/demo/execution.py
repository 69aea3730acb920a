"""One notebook: its kernel started, its cells run, and what came of it kept as ipynb and html."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_kernel.demo.jobs import HOST_KERNEL, KERNEL, Job, installed_options
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from rich.progress import Progress

# The slowest cell of ours takes seconds; a hang should not look like work.
CELL_TIMEOUT_S = 300
# Data that a notebook reads is small enough to commit; a directory full of films is not it.
_LONGEST_DATA_BYTES = 50 * 1024 * 1024


class CellFailedInDemo(SandboxKernelError):
    """A cell of a notebook failed. Remedy: open the executed notebook that the message names."""


def provide_kernels(jobs: Iterable[Job], prefix: str) -> None:
    """A kernelspec under `prefix` for each kernel that Jupyter does not have."""
    from sandbox_kernel import kernelspecs

    for job in jobs:
        is_special = job.kernel not in (KERNEL, HOST_KERNEL)
        if is_special and installed_options(job.kernel, job.language) is None:
            kernelspecs.install(job.options, name=job.kernel, prefix=prefix)


def _manager(kernel: str, prefix: str) -> Any:
    """Who starts a kernel: one of those under `prefix`, else Jupyter's own."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    from sandbox_kernel import kernelspecs

    specs = KernelSpecManager()
    specs.kernel_dirs = [str(kernelspecs.directory_for(prefix)), *specs.kernel_dirs]
    return AsyncKernelManager(kernel_name=kernel, kernel_spec_manager=specs)


def execute(job: Job, output: Path, prefix: str, progress: Progress) -> None:
    """Run the notebook; whatever comes of it is kept in `output`.

    Raises:
        CellFailedInDemo: one of its cells failed, and the rest was not run.
        SettingsError: data beside the notebook are not those that lie in `output`.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path, notebook = job.path, job.notebook
    _copy_data(path, notebook, output)
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    task = progress.add_task(path.stem, total=total, cell="")
    client = NotebookClient(
        notebook,
        km=_manager(job.kernel, prefix),
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(output)}},
        on_cell_start=lambda cell, **_: progress.update(task, cell=_title(cell)),
        on_cell_executed=lambda **_: progress.advance(task),
    )
    try:
        client.execute(cleanup_kc=True)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise CellFailedInDemo(
            f"{path.name} failed; see {output / path.name}. {_last_line(error)}"
        ) from None
    finally:
        progress.update(task, cell="")
        nbformat.write(notebook, output / path.name)
        _write_html(notebook, output / f"{path.stem}.html")


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
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
