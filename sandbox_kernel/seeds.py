"""Files that every new home starts with, so that first use is not first-use slow.

matplotlib lists the fonts of the system when it is first imported, and completion reads
the standard library's type stubs; both take seconds and keep what they found in the home
directory. A sandbox's home is new each time; so these files are made once, in a sandbox of
its own that runs nobody's code, and copied into the homes of later ones.

Rule 1: only `build` writes here, and it runs only the lines below. No session's files
are ever taken: what one could change, another would read.
Rule 2: `find` is on the way of every kernel's start: a few system calls, no imports.
Rule 3: the host copies these bytes and never parses them.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend, SandboxSpec

CODE = """
import os, shutil
def warm_fonts():
    import matplotlib.font_manager
def warm_completion():
    import jedi
    for code in ("import os; os.pa", "[].ap", "''.jo", "{}.ke", "print", "import re; re.co"):
        jedi.Interpreter(code, [{}]).complete()
for warm in (warm_fonts, warm_completion):
    try:
        warm()
    except Exception:
        pass  # not in this environment
for name in ("matplotlib", "jedi"):
    if os.path.isdir(os.path.expanduser("~/.cache/" + name)):
        shutil.copytree(os.path.expanduser("~/.cache/" + name), "cache/" + name)
"""
# What of that is worth having: paths below the guest's `.cache`.
_WANTED = re.compile(
    r"matplotlib/fontlist-v[0-9.]{1,20}\.json|jedi/[A-Za-z0-9.-]{1,40}/[0-9a-f-]{1,200}\.pkl"
)
# The stubs of what is completed most are 8 MB; a list of a thousand fonts is 400 kB.
_MAX_FILES, _MAX_BYTES = 100, 16 * 1024 * 1024
# New fonts show up after a while without anybody having to know why they did not.
_MAX_AGE_S = 30 * 86400
_BUILD_TIMEOUT_S = 120.0
_INDEX = "index"


def find(python: str | None = None) -> dict[str, str]:
    """Paths in the guest's home -> host files, for the environment of `python`."""
    directory = _directory(python)
    try:
        with open(f"{directory}/{_INDEX}", encoding="ascii") as file:
            names = file.read().split()
    except OSError:
        return {}
    return {f".cache/{name}": f"{directory}/{name}" for name in names if _WANTED.fullmatch(name)}


def is_due(python: str | None = None) -> bool:
    """Whether `build` would help: there is none, or it is old."""
    try:
        age_s = time.time() - os.stat(f"{_directory(python)}/{_INDEX}").st_mtime
    except OSError:
        return True
    return age_s > _MAX_AGE_S


async def build(backend: Backend, spec: SandboxSpec) -> list[str]:
    """Make the seeds for `spec`'s environment in a sandbox that runs nobody's code.

    Returns the names of what was made: none when the environment has no matplotlib.

    Raises:
        BackendUnavailable, SandboxDied: no sandbox came up.
    """
    from sandbox_kernel.session import SandboxSession

    _compile_guest()
    session = SandboxSession(backend, spec)
    made: dict[str, bytes] = {}
    try:
        await session.execute(CODE, on_event=lambda _event: None, timeout_s=_BUILD_TIMEOUT_S)
        for entry in (await session.files.list())[:_MAX_FILES]:
            name = entry.name.removeprefix("cache/")
            if _WANTED.fullmatch(name) and sum(map(len, made.values())) < _MAX_BYTES:
                made[name] = await session.files.read(entry.name, limit_bytes=_MAX_BYTES)
    finally:
        await session.close()
    _store(_directory(spec.python), made)
    return sorted(made)


def _compile_guest() -> None:
    """Compile what runs inside, which cannot write beside its sources itself.

    pip does this for a wheel; of an editable install nobody else would.
    """
    import compileall

    from sandbox_kernel import guest

    for path in guest.__path__:
        compileall.compile_dir(path, quiet=2, workers=1)


def _store(directory: str, made: dict[str, bytes]) -> None:
    """The index comes last: what it names is whole."""
    for name, content in {**made, _INDEX: "\n".join(made).encode("ascii")}.items():
        path = f"{directory}/{name}"
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)


def _directory(python: str | None) -> str:
    """Where the seeds of an environment are: named by its interpreter's path."""
    from hashlib import sha256

    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    key = sha256(os.fsencode(python or sys.executable)).hexdigest()[:16]
    return os.path.join(base, "sandbox-kernel", "seeds", key)


def main() -> None:
    """Build for the interpreter in argv (default: ours), until standard input ends."""
    import asyncio

    os.nice(19)
    asyncio.run(_build_while_wanted(sys.argv[1] if len(sys.argv) > 1 else None))


async def _build_while_wanted(python: str | None) -> None:
    import asyncio

    from sandbox_kernel import backends
    from sandbox_kernel.backends.base import SandboxSpec
    from sandbox_kernel.errors import SandboxKernelError

    work = asyncio.ensure_future(build(backends.get(), SandboxSpec(python=python)))
    loop = asyncio.get_running_loop()

    def give_up() -> None:
        loop.remove_reader(0)  # once: a second cancellation would cut the clean-up short
        work.cancel()

    # Who wants them holds the other end of the pipe, and writes nothing to it.
    loop.add_reader(0, give_up)
    try:
        await work
    except (asyncio.CancelledError, SandboxKernelError) as error:
        print(f"sandbox-kernel: no files for new homes were made. {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
