"""Spawns the launcher, before there is a plan for it.

The launcher's Python takes 15 ms to come up, and a kernel's own imports 40 ms until it
knows the plan. So a kernel calls `begin` as the first thing of all, and `launch` takes what
was begun. The launcher waits for its plan, and ends when the pipe closes without one.

Rule: this module, and the packages above it, import nothing but `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Imports only what this directory holds, and from compiled files: as a package of its own,
# whose parent packages are not imported. What is executed as a script is compiled each time.
_LAUNCHER = (
    "import sys; sys.dont_write_bytecode = False; package = type(sys)('janitor'); "
    f"package.__path__ = [{HERE!r}]; sys.modules['janitor'] = package; "
    "from janitor.launcher import main; main()"
)
PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031
# Those that a terminal or a shutting down session sends: blocked in the launcher.
_POLITE_SIGNALS = (1, 2, 3, 13, 15, 20)
# A host started with nohup or in the background ignores some; a guest must not inherit that.
_ALL_SIGNALS = tuple(number for number in range(1, 32) if number not in (9, 19))


_begun: list[tuple[int, dict[str, int]]] = []


def is_likely(argv: list[str]) -> bool:
    """Whether a kernel with these arguments wants a launcher; wrong is slow, not false."""
    words = " ".join(argv).replace("=", " ").split()
    chosen = os.environ.get("SANDBOX_KERNEL_BACKEND", "")
    if "--backend" in words[:-1]:
        chosen = words[words.index("--backend") + 1]
    return chosen in ("", "auto", "bubblewrap")


def begin() -> None:
    """Start one launcher ahead of time. Where that fails, `take` will say why."""
    if sys.platform == "linux" and not _begun:
        try:
            _begun.append(_spawn())
        except OSError:
            return


def take() -> tuple[int, dict[str, int]]:
    """A launcher that waits for its plan: its process number, and our ends of its pipes."""
    return _begun.pop() if _begun else _spawn()


def drop() -> None:
    """End what was begun and not taken. Safe to call twice."""
    while _begun:
        abandon(*_begun.pop())


def abandon(pid: int, descriptors: dict[str, int]) -> None:
    """Without a whole plan the launcher removes the groups and ends, within 20 ms."""
    for fd in descriptors.values():
        os.close(fd)
    os.waitpid(pid, 0)


def _spawn() -> tuple[int, dict[str, int]]:
    """Start the launcher: its process number, and our ends of its descriptors."""
    ours: dict[str, int] = {}
    theirs: list[int] = []
    try:
        for name, is_input in _PIPES:
            reader, writer = os.pipe()
            ours[name], other = (writer, reader) if is_input else (reader, writer)
            theirs.append(other)
            if name in _LARGE_PIPES:
                _enlarge(writer)
        _lift(theirs)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _LAUNCHER],
            {},  # no variable of ours reaches even the launcher
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, index) for index, fd in enumerate(theirs)],
            setsid=True,
            setsigmask=_POLITE_SIGNALS,
            setsigdef=_ALL_SIGNALS,
        )
    except BaseException:
        for fd in ours.values():
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return pid, ours


# Our name for it, and whether we write; in the order of the launcher's descriptors.
_PIPES = (
    ("stdin", True),
    ("stdout", False),
    ("stderr", False),
    ("plan", True),
    ("lifeline", True),
    ("status", False),
)
_LARGE_PIPES = ("stdin", "stdout", "plan")


def _lift(descriptors: list[int]) -> None:
    """Move them above all targets, so that one dup2 cannot overwrite another's source."""
    import fcntl

    for index, fd in enumerate(descriptors):
        if fd < 2 * len(descriptors):
            descriptors[index] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 2 * len(descriptors))
            os.close(fd)


def _enlarge(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        return  # the user has many pipes already; a small one is slower, no more
