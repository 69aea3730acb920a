"""The file that a cell's code is run from.

It lies in the working directory, because programs look for what a cell requires beside it,
under a hidden name, which nobody takes for a file that the cell made; elsewhere when the
workspace is full. It is gone when the cell has ended.
"""

import os
from contextlib import suppress

_ELSEWHERE = ("/tmp", "/dev/shm")


class CodeFile:
    """`with CodeFile(name, code) as path`: the path to run, "" when no place is left."""

    def __init__(self, name: str, code: bytes) -> None:
        self._name = "." + name
        self._code = code
        self._path = ""

    def __enter__(self) -> str:
        for directory in ("", *_ELSEWHERE):
            path = os.path.join(directory, self._name)
            if self._write(path):
                self._path = path
                break
        return self._path

    def __exit__(self, *_exc: object) -> None:
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)

    def _write(self, path: str) -> bool:
        with suppress(OSError):
            os.unlink(path)
        try:
            # O_EXCL: whatever a cell left under this name is not written through.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            with open(fd, "wb") as file:
                file.write(self._code)
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            return False
        return True
