"""Which kernel a notebook gets, and whether this machine can run it.

Rule 1: a notebook is somebody's file. It may ask for a language, and for a container; whatever
else it names, a kernel of another package among it, it runs in the usual sandbox. Only our
own examples of programs that drive sandboxes run on the host, in the kernel `python3`.
Rule 2: an example that this machine cannot run is left out, in one line with the remedy; a
notebook that was named is an error then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_kernel.errors import SandboxKernelError, SettingsError

KERNEL = "sandbox-python"
# The usual one, for our own examples of programs that drive sandboxes: nobody else's
# notebook is run outside of one.
HOST_KERNEL = "python3"
_AGENTS = ("openai", "pydantic_ai", "langchain_openai", "agents", "mcp")


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


def examples() -> list[Path]:
    """The notebooks that came with this package, from the checkout or the wheel."""
    package = Path(__file__).parent.parent
    for directory in (package.parent / "notebooks", package / "notebooks"):
        found = sorted(directory.glob("*.ipynb"))
        if found:
            return found
    raise SandboxKernelError("This installation has no example notebooks; name your own.")


def job_for(path: Path) -> Job:
    """
    Raises:
        SettingsError: it is not a notebook.
    """
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
    settings = Settings.load(installed_options(asked, match[1]) or {"backend": "docker"})
    image = settings.image or languages.get(match[1]).image
    return Job(path, notebook, asked, match[1], image)


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, LookupError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"{path} is not a notebook: {reason[:200]}.") from None


def installed_options(kernel: str, language: str) -> dict[str, str] | None:
    """The settings of the owner's own kernel for a language; None without one of that name."""
    from sandbox_kernel import kernelspecs

    spec = kernelspecs.find(kernel)
    if spec is None or not spec.is_ours:
        return None
    if kernel.endswith("-docker") != (spec.options.get("backend") == "docker"):
        return None
    return spec.options if spec.options.get("language", "python") == language else None


def possible(jobs: list[Job], *, may_skip: bool) -> list[Job]:
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
    option = option_of(job.language) if is_ours else f" --image {job.image}"
    setup = f"sandbox-kernel setup docker{option}"
    try:
        with closing(engine.connect()) as api:
            is_there = building.inspect(api, job.image) is not None
    except SandboxKernelError as error:
        return f"it needs Docker. {error} Then: {setup}"
    return "" if is_there else f"there is no image {job.image}. Make it with: {setup}"


def option_of(language: str) -> str:
    """What commands need to hear of a language."""
    return "" if language == "python" else f" --language {language}"
