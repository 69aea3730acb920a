"""Files that every new home starts with, so that first use is not first-use slow.

matplotlib lists the fonts of the system when it is first imported, which takes seconds,
and keeps the list in the home directory. A sandbox's home is new each time; so the list
is made once, in a sandbox of its own that runs nobody's code, and copied into the homes
of later ones.

Rule 1: only `build` writes here, and it runs only the line below. No session's files
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

_CODE = """
import glob, os, matplotlib.font_manager
for path in glob.glob(os.path.join(matplotlib.get_cachedir(), "fontlist-*.json")):
    with open(path, "rb") as source, open(os.path.basename(path), "wb") as copy:
        copy.write(source.read())
"""
_GUEST_DIRECTORY = ".cache/matplotlib"
_NAME = re.compile(r"fontlist-v?[0-9]{1,9}\.json")
# A list of a thousand fonts is 400 kB.
_MAX_BYTES = 4 * 1024 * 1024
# New fonts show up after a while without anybody having to know why they did not.
_MAX_AGE_S = 30 * 86400
_BUILD_TIMEOUT_S = 120.0


def find(python: str | None = None) -> dict[str, str]:
    """Paths in the guest's home -> host files, for the environment of `python`."""
    directory = _directory(python)
    try:
        names = os.listdir(directory)
    except OSError:
        return {}
    return {
        f"{_GUEST_DIRECTORY}/{name}": os.path.join(directory, name)
        for name in names
        if _is_ours(name)
    }


def is_due(python: str | None = None) -> bool:
    """Whether `build` would help: there is none, or it is old."""
    try:
        age_s = time.time() - os.stat(_directory(python)).st_mtime
    except OSError:
        return True
    return age_s > _MAX_AGE_S


async def build(backend: Backend, spec: SandboxSpec) -> list[str]:
    """Make the seeds for `spec`'s environment in a sandbox that runs nobody's code.

    Returns the names of what was made: none when the environment has no matplotlib.

    Raises:
        BackendUnavailable, SandboxDied: no sandbox came up.
    """
    from sandbox_kernel.session import Session

    session = Session(backend, spec)
    try:
        await session.execute(_CODE, on_event=lambda _event: None, timeout_s=_BUILD_TIMEOUT_S)
        made = {
            entry.name: await session.files.read(entry.name, limit_bytes=_MAX_BYTES)
            for entry in await session.files.list()
            if _is_ours(entry.name)
        }
    finally:
        await session.close()
    _store(_directory(spec.python), made)
    return sorted(made)


def _store(directory: str, made: dict[str, bytes]) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for name, content in made.items():
        temporary = os.path.join(directory, f".{name}.{os.getpid()}")
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, os.path.join(directory, name))
    os.utime(directory)


def _is_ours(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _directory(python: str | None) -> str:
    """Where the seeds of an environment are: named by its interpreter's path."""
    from hashlib import sha256

    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    key = sha256(os.fsencode(python or sys.executable)).hexdigest()[:16]
    return os.path.join(base, "sandbox-kernel", "seeds", key)


def main() -> None:
    """Build what is due for this interpreter's environment, in the background of a kernel."""
    import asyncio

    from sandbox_kernel import backends
    from sandbox_kernel.backends.base import SandboxSpec
    from sandbox_kernel.errors import SandboxKernelError

    python = sys.argv[1] if len(sys.argv) > 1 else None
    os.nice(10)
    try:
        asyncio.run(build(backends.get(), SandboxSpec(python=python)))
    except SandboxKernelError as error:
        print(f"sandbox-kernel: no seeds were made. {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
