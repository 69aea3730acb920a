"""`demo`: the example notebooks through our kernels, as a Jupyter client would.

Rule 1: a notebook is somebody's file. It may ask for a language, and for a container; whatever
else it names, a kernel of another package among it, it runs in the usual sandbox. Only our
own examples of programs that drive sandboxes run on the host, in the kernel `python3`.
Rule 2: an example that this machine cannot run is left out, in one line with the remedy; a
notebook that was named is an error then.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel.cli import DONE, FAILED, complain
from sandbox_kernel.errors import SandboxKernelError, SettingsError

if TYPE_CHECKING:
    from rich.progress import Progress

KERNEL = "sandbox-python"
# The usual one, for our own examples of programs that drive sandboxes: nobody else's
# notebook is run outside of one.
HOST_KERNEL = "python3"
_AGENTS = ("openai", "pydantic_ai", "langchain_openai", "agents", "mcp")
# The slowest cell of ours takes seconds; a hang should not look like work.
CELL_TIMEOUT_S = 300
# Data that a notebook reads is small enough to commit; a directory full of films is not it.
_LONGEST_DATA_BYTES = 50 * 1024 * 1024


class Job(NamedTuple):
    """One notebook, and what executes it."""

    path: Path
    notebook: Any
    kernel: str  # a kernelspec's name
    language: str = "python"
    image: str = ""  # of its containers; "" for the backend that shows this host

    @property
    def options(self) -> dict[str, str]:
        """The settings of its kernel."""
        where = {"backend": "docker"} if self.image else {}
        return {**where, "language": self.language}


class CellFailedInDemo(SandboxKernelError):
    """A cell of a notebook failed. Remedy: open the executed notebook that the message names."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="execute the example notebooks in the sandbox",
        description="Execute notebooks in sandboxes; keep them as ipynb and html. Those that ask "
        "for a container need an engine and an image.",
        allow_abbrev=False,
    )
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="default: the examples")
    parser.add_argument(
        "--output", metavar="DIR", default="demo-output", help="default: %(default)s"
    )
    parser.set_defaults(execute=demo)


def demo(arguments: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    named = [Path(item) for item in arguments.notebooks]
    output = Path(arguments.output).absolute()
    _require_ready(named or examples(), output)
    jobs = _possible([_job(path) for path in named or examples()], may_skip=not named)
    boundary = _boundary(jobs)
    with TemporaryDirectory(prefix="sandbox-kernel-demo-") as prefix:
        _provide_kernels(jobs, prefix)
        failures = _execute_all(jobs, output, prefix)
    _say_where(jobs, output, boundary)
    return FAILED if failures else DONE


def _execute_all(jobs: list[Job], output: Path, prefix: str) -> int:
    """How many of them failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    failures = 0
    with Progress(*columns, TextColumn("{task.fields[cell]}")) as progress:
        for job in jobs:
            try:
                _execute(job, output, prefix, progress)
            except CellFailedInDemo as error:
                progress.stop()
                failures += complain(error)
    return failures


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

    missing = [name for name in ("nbclient", "nbconvert") if find_spec(name) is None]
    if missing:
        raise SandboxKernelError(
            f"The demo needs {' and '.join(missing)}. "
            "Install them with: pip install 'sandbox-kernel[demo]'"
        )
    for path in paths:
        if not path.is_file():
            raise SettingsError(f"There is no notebook {path}.")
        if path.absolute().parent == output:
            raise SettingsError(f"{path} would be overwritten; choose another --output.")


def _boundary(jobs: list[Job]) -> str:
    """What isolates notebooks without containers, found by trying; "" when there are none.

    Raises:
        SandboxKernelError: nothing does, or Jupyter lacks the kernel.
    """
    from sandbox_kernel import backends, kernelspecs
    from sandbox_kernel.cli.warm import warm_up
    from sandbox_kernel.settings import Settings

    if all(job.image for job in jobs):
        return ""
    if kernelspecs.find(KERNEL) is None:
        raise SandboxKernelError(
            f"Jupyter has no kernel {KERNEL}. Install it with: sandbox-kernel install"
        )
    settings = Settings.load()
    check = backends.get(settings.backend).check()
    if not check.is_usable:
        raise SandboxKernelError(f"{check.reason} {check.remedy}")
    warm_up(settings)
    return check.boundary


# --- which kernel ---------------------------------------------------------------------


def _job(path: Path) -> Job:
    from sandbox_kernel import languages
    from sandbox_kernel.settings import Settings

    notebook = _read(path)
    asked = str(notebook.metadata.get("kernelspec", {}).get("name", ""))
    match = re.fullmatch(r"sandbox-([a-z]+)(-docker)?", asked)
    if asked == HOST_KERNEL and path.resolve() in [own.resolve() for own in examples()]:
        return Job(path, notebook, HOST_KERNEL)
    if match is None or match[1] not in languages.names():
        return Job(path, notebook, KERNEL)
    if not match[2]:
        return Job(path, notebook, asked, match[1])
    settings = Settings.load(_installed_options(asked, match[1]) or {"backend": "docker"})
    image = settings.image or languages.get(match[1]).image
    return Job(path, notebook, asked, match[1], image)


def _installed_options(kernel: str, language: str) -> dict[str, str] | None:
    """The settings of the owner's own kernel for a language; None without one of that name."""
    from sandbox_kernel import kernelspecs

    spec = kernelspecs.find(kernel)
    if spec is None or not spec.is_ours:
        return None
    if kernel.endswith("-docker") != (spec.options.get("backend") == "docker"):
        return None
    return spec.options if spec.options.get("language", "python") == language else None


def _possible(jobs: list[Job], *, may_skip: bool) -> list[Job]:
    """Those that can be executed here; a line about each other one.

    Raises:
        SandboxKernelError: one cannot, and `may_skip` is false.
    """
    possible = []
    for job in jobs:
        problem = _problem(job)
        if not problem:
            possible.append(job)
        elif may_skip:
            print(f"Skipped {job.path.name}: {problem}")
        else:
            raise SandboxKernelError(f"{job.path.name} cannot be executed: {problem}")
    return possible


def _problem(job: Job) -> str:
    """Why a notebook cannot run here, with the remedy; "" when it can."""
    if job.image:
        return _problem_of_image(job)
    if job.kernel == HOST_KERNEL and (problem := _problem_on_host(job)):
        return problem
    from sandbox_kernel.availability import find_problem

    problems = (find_problem(name) for name in _languages(job))
    return next(filter(None, problems), "")


def _problem_on_host(job: Job) -> str:
    from importlib.util import find_spec

    from sandbox_kernel.settings import Settings

    if not job.notebook.metadata.get("sandbox_kernel", {}).get("needs_model"):
        return ""
    if not all(map(find_spec, _AGENTS)):
        return "it needs the agent libraries. Install them: pip install 'sandbox-kernel[agents]'"
    settings = Settings.load()
    if settings.model is None or settings.model_key is None:
        return (
            "it needs a language model. Set SANDBOX_KERNEL_MODEL, SANDBOX_KERNEL_MODEL_URL and "
            "SANDBOX_KERNEL_MODEL_KEY."
        )
    return ""


def _languages(job: Job) -> Iterator[str]:
    """Those of its kernel and of its `%%` cells."""
    from sandbox_kernel import languages

    yield job.language
    for cell in job.notebook.cells:
        match = re.match(r"\s*%%(\w+)[ \t]*\n", cell.source)
        name = languages.resolve(match[1]) if match and cell.cell_type == "code" else None
        if name:
            yield name


def _problem_of_image(job: Job) -> str:
    from contextlib import closing

    from sandbox_kernel import languages
    from sandbox_kernel.backends.docker import building, engine

    is_ours = job.image == languages.get(job.language).image
    option = _option(job.language) if is_ours else f" --image {job.image}"
    setup = f"sandbox-kernel setup docker{option}"
    try:
        with closing(engine.connect()) as api:
            is_there = building.inspect(api, job.image) is not None
    except SandboxKernelError as error:
        return f"it needs Docker. {error} Then: {setup}"
    return "" if is_there else f"there is no image {job.image}. Make it with: {setup}"


def _option(language: str) -> str:
    """What commands need to hear of a language."""
    return "" if language == "python" else f" --language {language}"


def _provide_kernels(jobs: list[Job], prefix: str) -> None:
    """A kernelspec under `prefix` for each kernel that Jupyter does not have."""
    from sandbox_kernel import kernelspecs

    for job in jobs:
        is_special = job.kernel not in (KERNEL, HOST_KERNEL)
        if is_special and _installed_options(job.kernel, job.language) is None:
            kernelspecs.install(job.options, name=job.kernel, prefix=prefix)


def _manager(kernel: str, prefix: str) -> Any:
    """Who starts a kernel: one of those under `prefix`, else Jupyter's own."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    from sandbox_kernel import kernelspecs

    specs = KernelSpecManager()
    specs.kernel_dirs = [str(kernelspecs.directory_for(prefix)), *specs.kernel_dirs]
    return AsyncKernelManager(kernel_name=kernel, kernel_spec_manager=specs)


# --- one notebook ---------------------------------------------------------------------


def _execute(job: Job, output: Path, prefix: str, progress: Progress) -> None:
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
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


# --- what to do next ------------------------------------------------------------------


def _say_where(jobs: list[Job], output: Path, boundary: str) -> None:
    images = dict.fromkeys(job.image for job in jobs if job.image)
    print()
    if boundary:
        which = "Every cell" if not images else "Cells without a container"
        print(f"{which} ran behind: {boundary}")
    for image in images:
        names = ", ".join(job.path.name for job in jobs if job.image == image)
        print(f"{names} ran in a container of {image}")
    print("Executed notebooks, each also as html:")
    for job in jobs:
        print(f"  {output / job.path.name}")
        print(f"  {output / job.path.stem}.html")
    _say_next(jobs, output)


def _say_next(jobs: Iterable[Job], output: Path) -> None:
    from importlib.util import find_spec

    from sandbox_kernel import kernelspecs

    missing = {job.kernel: job for job in jobs if kernelspecs.find(job.kernel) is None}
    missing.pop(HOST_KERNEL, None)
    for job in missing.values():
        backend = " --backend docker" if job.image else ""
        command = f"sandbox-kernel install{backend}{_option(job.language)}"
        print(f"For {job.path.name} in Jupyter: {command}")
    lab = f"{Path(sys.executable).parent / 'jupyter'} lab {output}"
    if find_spec("jupyterlab") is None:
        print("For JupyterLab: pip install 'sandbox-kernel[lab]'")
    else:
        print(f"Next, in JupyterLab: {lab}\nThe launcher has it as “Python (sandbox)”.")
