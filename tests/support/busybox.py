"""Images without Python: as small as Alpine's base, Debian's static busybox and its links.

`shell_image("dash")` has another shell at /bin/sh, with the libraries that it needs.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from tests.support.engines import give_up, shared_engine

NAME = "sandbox-kernel-tests/busybox"
_TIMEOUT_S = 120
_CHANGES = ["ENV PATH=/bin"]


@cache
def busybox_image() -> str:
    """Its name on the shared engine, where it is made once and kept."""
    return _make(NAME, {})


@cache
def shell_image(shell: str) -> str:
    """The same with this machine's `shell` as /bin/sh; "busybox" leaves its own."""
    if shell == "busybox":
        return busybox_image()
    path = shutil.which(shell)
    if path is None:
        give_up(f"this machine has no {shell}")
    return _make(f"sandbox-kernel-tests/{shell}", {"bin/sh": path, **_libraries(path)})


def _libraries(path: str) -> dict[str, str]:
    """What `path` is linked with: name in the image -> file here."""
    listed = subprocess.run(["ldd", path], check=True, capture_output=True, text=True, timeout=30)
    return {found.lstrip("/"): found for found in re.findall(r"(/\S+) \(0x", listed.stdout)}


def _make(name: str, added: dict[str, str]) -> str:
    from docker.errors import NotFound

    api = shared_engine().api()
    try:
        api.inspect_image(name)
    except NotFound:
        content = _archive(_program(), added)
        api.import_image_from_data(content, repository=name, tag="latest", changes=_CHANGES)
    return name


def _program() -> bytes:
    """A busybox that needs no libraries: this machine's, or the package's."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            for command in (
                ["apt-get", "download", "busybox-static"],
                ["sh", "-c", "dpkg-deb -x busybox-static_*.deb ."],
            ):
                subprocess.run(
                    command, cwd=directory, check=True, capture_output=True, timeout=_TIMEOUT_S
                )
        except (OSError, subprocess.SubprocessError) as error:
            give_up(f"no busybox-static can be had here: {error}")
        return (Path(directory) / "bin" / "busybox").read_bytes()


def _archive(program: bytes, added: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "tmp", "etc", "root"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        for applet in _applets(program):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if link.name not in added:
                tar.addfile(link)
        _add(tar, "bin/busybox", program)
        for name, path in added.items():
            _add(tar, name, Path(path).read_bytes())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def _applets(program: bytes) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "busybox"
        path.write_bytes(program)
        path.chmod(0o755)
        listed = subprocess.run(
            [path, "--list"], check=True, capture_output=True, text=True, timeout=30
        )
    return [name for name in listed.stdout.split() if name != "busybox"]
