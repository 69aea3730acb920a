"""Which directories of the host make the Python environment of a guest.

Rule 1: an environment is a prefix, the prefix below a virtual environment, and the user's
site directory; nothing else of the host comes along, so packages installed "editable"
from a working directory are not there.
Rule 2: a prefix that is a home directory, the root, or holds Jupyter's connection files is
refused: it would show the guest files or keys.
Rule 3: the interpreter that runs us is looked at without starting anything; another one is
asked once and remembered by its path and time of change.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import NamedTuple

from sandbox_kernel.errors import SettingsError

# In a prefix, but about the host: package indexes with passwords, server configuration.
PRIVATE_NAMES = ("pip.conf", "etc/jupyter", ".condarc", "etc/pip.conf", ".netrc", ".pypirc")
QUESTION_TIMEOUT_S = 20
_ADVICE = (
    " Make a virtual environment in a directory of its own (python -m venv) and give its "
    "interpreter."
)

_QUESTION = """
import site, sys
user = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
for value in (sys.prefix, sys.base_prefix, sys.executable, user, "%d.%d.%d" % sys.version_info[:3]):
    sys.stdout.write(value + "\\0")
"""


class Environment(NamedTuple):
    """Host paths of a Python environment; they are the guest's paths, too."""

    executable: str
    prefix: str
    base_prefix: str
    user_site: str  # "" when there is none
    version: str

    @property
    def is_virtual(self) -> bool:
        return self.prefix != self.base_prefix


def discover(python: str | None = None) -> Environment:
    """The environment of `python`, or of this process.

    Raises:
        SettingsError: `python` is no Python, or its environment must not be shown to a guest.
    """
    found = current() if python is None else _ask_remembered(python)
    for prefix in (found.prefix, found.base_prefix):
        _check_prefix(prefix)
    return found


@lru_cache(maxsize=1)
def current() -> Environment:
    """The environment this process runs in."""
    site = sys.modules.get("site")
    user_site = ""
    if site is not None and site.ENABLE_USER_SITE:
        user_site = site.getusersitepackages()
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return Environment(sys.executable, sys.prefix, sys.base_prefix, user_site, version)


def _ask_remembered(python: str) -> Environment:
    path = os.path.abspath(os.path.expanduser(python))
    if not os.path.isfile(path):
        raise SettingsError(
            f"There is no Python at {python!r}. Give the path of an interpreter, for example "
            f"{sys.executable}."
        )
    if not os.access(path, os.X_OK):
        raise SettingsError(
            f"{python!r} may not be executed. Make it executable (chmod +x), or give the path "
            "of another interpreter."
        )
    note = _note_path(path)
    found = _read_note(note)
    if found is None:
        found = _ask(path)
        _write_note(note, found)
    # An answer may name another file (a pyenv shim does); inside, only that one works.
    return found


def _ask(path: str) -> Environment:
    import subprocess

    try:
        answer = subprocess.run(
            [path, "-E", "-c", _QUESTION],
            capture_output=True,
            timeout=QUESTION_TIMEOUT_S,
            cwd="/",
            check=True,
            env={key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ},
            stdin=subprocess.DEVNULL,
        ).stdout
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"{path!r} did not answer within {QUESTION_TIMEOUT_S} s. Give the path of a Python "
            "interpreter."
        ) from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError(
            f"{path!r} does not work as a Python interpreter ({error}). Give the path of another."
        ) from None
    fields = [os.fsdecode(field) for field in answer.split(b"\0")]
    if len(fields) != 6 or not os.path.isabs(fields[0]) or not os.path.isabs(fields[2]):
        raise SettingsError(
            f"{path!r} is not a Python interpreter: it answered {answer[:80]!r}. Give the path "
            "of one."
        )
    prefix, base_prefix, executable, user_site, version = fields[:5]
    if tuple(int(part) for part in version.split(".")) < (3, 8):
        raise SettingsError(f"{path!r} is Python {version}; inside a sandbox 3.8 or newer works.")
    return Environment(executable, prefix, base_prefix, user_site, version)


def _note_path(path: str) -> str:
    import hashlib

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    changed = [os.stat(path).st_mtime_ns]
    configuration = os.path.join(os.path.dirname(os.path.dirname(path)), "pyvenv.cfg")
    if os.path.exists(configuration):
        changed.append(os.stat(configuration).st_mtime_ns)
    key = hashlib.sha256(repr((path, os.path.realpath(path), changed)).encode()).hexdigest()[:32]
    return os.path.join(cache, "sandbox-kernel", "pythons", key)


def _read_note(note: str) -> Environment | None:
    try:
        with open(note, encoding="utf-8", errors="surrogateescape") as file:
            fields = file.read().split("\0")
    except OSError:
        return None
    return Environment(*fields) if len(fields) == len(Environment._fields) else None


def _write_note(note: str, found: Environment) -> None:
    try:
        os.makedirs(os.path.dirname(note), mode=0o700, exist_ok=True)
        draft = f"{note}.{os.getpid()}"
        with open(draft, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("\0".join(found))
        os.replace(draft, note)
    except OSError:
        return  # a home that cannot be written to costs a question each time, no more


def _check_prefix(prefix: str) -> None:
    real = os.path.realpath(prefix)
    if not os.path.isdir(real):
        raise SettingsError(f"The Python environment {prefix!r} does not exist.")
    if os.path.dirname(real) == "/home":
        raise SettingsError(f"The Python environment {prefix!r} is a home directory.{_ADVICE}")
    for private, what in _private_directories():
        if private == real or private.startswith(real.rstrip("/") + "/"):
            raise SettingsError(
                f"The Python environment {prefix!r} contains {what} ({private}), which a guest "
                f"must not see.{_ADVICE}"
            )


def _private_directories() -> list[tuple[str, str]]:
    home = os.path.realpath(os.path.expanduser("~"))
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local/share")
    runtime = os.environ.get("JUPYTER_RUNTIME_DIR") or os.path.join(
        os.environ.get("JUPYTER_DATA_DIR") or os.path.join(data, "jupyter"), "runtime"
    )
    login = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return [
        (home, "the home directory"),
        (os.path.realpath(runtime), "Jupyter's connection files"),
        (os.path.realpath(login), "where programs of this login listen"),
        ("/etc", "the system's configuration"),
        ("/proc", "the system's processes"),
    ]
