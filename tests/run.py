"""The whole test suite from a fresh clone: `python tests/run.py [pytest's arguments]`.

Installs what the tests need where it may (Debian's packages, as root), says what is missing
where it may not, and goes on: the tests that need it are skipped and say so. Running it again
installs nothing. The exit code is pytest's.

Rule 1: the standard library only, since this also explains what is not installed.
Rule 2: nothing is installed into Python: that is the README's `pip install` before this.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without a font, charts and JupyterLab in a headless Chromium have no letters.
FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONT_ENDINGS = {".ttf", ".otf", ".pfb"}

# Package lists of a fresh machine are empty, and a mirror may be slow; neither may hang CI.
APT_TIMEOUT_S = 600
NO_TESTS_HERE = 2  # pytest's own code for "could not even begin"


def main(arguments: list[str]) -> int:
    missing_modules = [name for name in ("pytest", "pytest_timeout") if not _has_module(name)]
    if missing_modules:
        print(
            f"{sys.executable} has no {' and no '.join(missing_modules)}. Run the tests with the "
            "environment that the README makes: .venv/bin/pip install -e '.[dev]'",
            file=sys.stderr,
        )
        return NO_TESTS_HERE
    for line in provide():
        print(f"tests/run.py: {line}", flush=True)
    return _run_pytest(arguments)


def provide() -> list[str]:
    """Install what is missing where that is allowed; a line for each thing done or lacking."""
    wanted = missing_packages()
    if not wanted:
        return []
    names = ", ".join(wanted)
    if not _is_debian():
        return [f"There is no {names}, and this is not Debian: tests that need it are skipped."]
    if os.geteuid() != 0:
        return [
            f"There is no {names}: tests that need it are skipped. "
            f"Install with: sudo apt-get install {' '.join(wanted)}"
        ]
    return [_install(wanted)]


def missing_packages() -> list[str]:
    """Debian's names of what this machine lacks."""
    missing = []
    if not any(map(shutil.which, BROWSERS)):
        missing.append("chromium")
    if not _has_fonts():
        missing.append("fonts-dejavu-core")
    return missing


def _has_fonts() -> bool:
    return any(
        path.suffix in FONT_ENDINGS for folder in FONT_FOLDERS for path in folder.rglob("*.*")
    )


def _is_debian() -> bool:
    return shutil.which("apt-get") is not None


def _install(packages: list[str]) -> str:
    names = ", ".join(packages)
    print(f"tests/run.py: Installing {names} with apt-get.", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages],
    ):
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=APT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{names} could not be installed ({error}): tests that need it are skipped."
        # `update` may fail for one source of several; `install` then tells whether it matters.
        if done.returncode and "install" in command:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"{names} could not be installed ({last}): tests that need it are skipped."
    return f"{names} installed."


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _run_pytest(arguments: list[str]) -> int:
    environment = dict(os.environ)
    # `jupyter`, `papermill` and `sandbox-kernel` are those of this interpreter's environment.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    # -ra, in pyproject.toml, ends the output with every skip and its reason.
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
