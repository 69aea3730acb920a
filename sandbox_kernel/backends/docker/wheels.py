"""The Python packages of an image, downloaded here for the Python that is in there.

The host's pip does it, because it knows this machine's index, proxy and certificates; the
build then installs them without any network.

Rule 1: wheels only. A source distribution would run its setup.py on the host.
Rule 2: the versions of the image's Python come from a container of the base, and are parsed.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_kernel.backends.docker.build_errors import BuildFailed, plain, translated
from sandbox_kernel.backends.docker.building import Report

# Of the Python image. pip itself is there to answer `pip list`; duckdb is what runs SQL.
PACKAGES = ("pip", "ipython", "ipywidgets", "numpy", "pandas", "matplotlib", "duckdb")
# pip asks the markers of requirements ("python_version < '3.12'") of the host's Python, not of
# the image's. So what any package wants for an older Python is always there to be chosen.
_FOR_OLDER_PYTHONS = ("typing_extensions", "exceptiongroup", "importlib_resources")
# The oldest that wheels are named for, as minor versions of glibc 2.
_OLDEST_GLIBC = 17

_QUESTION = (
    "import platform, sys; "
    "print('%d.%d' % sys.version_info[:2], platform.machine(), platform.libc_ver()[1])"
)
_ANSWER = re.compile(r"(3\.\d{1,3}) (x86_64|aarch64|ppc64le|s390x|armv7l|riscv64) 2\.(\d{1,3})\s*")


class Target(NamedTuple):
    """The Python of an image."""

    version: str  # "3.11"
    machine: str  # as `uname -m`
    glibc: int  # its minor version


def ask(api: Any, image: str) -> Target:
    """What Python an image has, said by a container of it that has no network.

    Raises:
        BuildFailed: no Python that wheels are made for.
    """
    question = ["python3", "-I", "-S", "-c", _QUESTION]
    with translated():
        made = api.create_container(image, question, network_disabled=True)["Id"]
        try:
            api.start(made)
            api.wait(made)
            text = api.logs(made, tail=1).decode("utf-8", "replace")
        finally:
            api.remove_container(made, force=True, v=True)
    found = _ANSWER.fullmatch(text)
    if found is None:
        raise BuildFailed(
            f"The Python of the base is none that packages are published for (it said "
            f"{plain(text)!r}). Give a Debian or Ubuntu with --base."
        )
    return Target(found[1], found[2], int(found[3]))


def download(
    packages: Sequence[str], target: Target, directory: Path, report: Report
) -> dict[str, Path]:
    """Packages and all they need, as wheels in `directory`: name -> file.

    Raises:
        BuildFailed: there is no pip, no index, or no wheel.
    """
    command = [*_pip(), "download", *_options(target), "--dest", str(directory)]
    command += [*packages, *_FOR_OLDER_PYTHONS]
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(plain(line))
            report.detail(lines[-1])
    if pip.returncode:
        raise _failure(lines)
    return {path.name: path for path in sorted(directory.glob("*.whl"))}


def _options(target: Target) -> list[str]:
    # Newest first: pip takes the first platform for which there is a wheel.
    glibcs = range(target.glibc, _OLDEST_GLIBC - 1, -1)
    platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in glibcs]
    platforms += [f"manylinux2014_{target.machine}", f"linux_{target.machine}"]
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={target.version}",
        "--no-input",
        "--progress-bar=off",
        "--disable-pip-version-check",
        *(f"--platform={name}" for name in platforms),
    ]


def _pip() -> list[str]:
    """The command that runs this environment's pip, or the one that every Python brings.

    Raises:
        BuildFailed: there is neither.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled is not None and bundled.origin is not None:
        for wheel in Path(bundled.origin).parent.glob("_bundled/pip-*.whl"):
            return [sys.executable, f"{wheel}/pip"]
    raise BuildFailed(
        f"{sys.executable} has no pip, which downloads the packages of the image. Install it "
        "(python -m ensurepip, apt-get install python3-pip or uv pip install pip)."
    )


def _failure(lines: list[str]) -> BuildFailed:
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
    reason = " ".join(errors[-1:]).removeprefix("ERROR: ") or "it does not say why"
    return BuildFailed(
        f"pip cannot download the packages of the image: {reason}. Check that "
        "`pip download pandas` works here; its index, proxy and certificates are used."
    )
