"""The image that ours stand on: found, pulled from a registry, or made without one.

Rule 1: what is there is used as it is; a registry is asked only for what is not.
Rule 2: an image made here is imported when its tool has ended well, never before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sandbox_kernel.backends.docker import building, engine
from sandbox_kernel.backends.docker.build_errors import BuildFailed, plain, translated
from sandbox_kernel.backends.docker.building import Report
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import format_size

PULLED = "debian:bookworm-slim"
MADE = "sandbox-kernel/debian:bookworm"

_RELEASE = "bookworm"
# What nobody reads inside a sandbox; licences stay. As Debian's own slim images.
_EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
_INCLUDED = "/usr/share/doc/*/copyright"
# Without it the tool installs perl only to merge directories.
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_TAIL_LINES = 8
_CHUNK_BYTES = 1024 * 1024

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/@\[\]-]{0,511}")


def find(name: str | None, report: Report, *, last: str | None = None) -> str:
    """The name of a base that is there now: `name`, or the usual one for None.

    Args:
        last: the base of the last time, which stays the usual one as long as it is there.

    Raises:
        BuildFailed: it is not there and cannot be pulled.
        BackendUnavailable: there is no engine.
    """
    for each in (name,) if name else filter(None, (last, PULLED, MADE)):
        if _local(each) is not None:
            return each
    try:
        pull(name or PULLED, report)
    except BuildFailed as error:
        if name:
            raise
        raise BuildFailed(
            f"The base of the images, {PULLED}, is not there and cannot be pulled: {error} "
            "Or name another Debian that is there with --base IMAGE, or make one without a "
            "registry with --make-base."
        ) from None
    return name or PULLED


def _local(name: str) -> str | None:
    check_name(name)
    with closing(engine.connect()) as api, translated():
        return building.image_id(api, name)


def check_name(name: str) -> None:
    """Refuse what is no name of an image.

    Raises:
        SettingsError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not the name of an image, such as {PULLED}.")


# --- from a registry ------------------------------------------------------------------


def pull(name: str, report: Report) -> int:
    """Bring an image from its registry and give its size; the only code that asks one.

    Raises:
        BuildFailed: with the reason and the remedy.
        BackendUnavailable: there is no engine.
    """
    check_name(name)
    report.step(f"{name}: pulling")
    layers = _Layers(report)
    with building.hanging_up() as api, _pull_errors(name), translated():
        for message in api.pull(name, stream=True, decode=True):
            layers.add(message)
        found = building.inspect(api, name)
    if found is None:
        raise BuildFailed(f"The engine pulled {name} and does not have it. Run setup again.")
    return int(found.get("Size", 0))


class _Layers:
    """How far a pull is, summed over its layers."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, message: Mapping[str, Any]) -> None:
        if "error" in message:
            raise BuildFailed(plain(str(message["error"])))
        status, layer = plain(str(message.get("status", ""))), str(message.get("id", ""))
        amounts = message.get("progressDetail") or {}
        total = int(amounts.get("total") or 0)
        if status == "Downloading" and total > 0:
            self._layers[layer] = int(amounts.get("current") or 0), total
        elif status in ("Download complete", "Pull complete") and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1],) * 2
        done = sum(each[0] for each in self._layers.values())
        whole = sum(each[1] for each in self._layers.values())
        if whole:
            self._report.amount(done, whole)
        # As it is: layers announce their sizes one by one.
        size = f", {format_size(done)} of {format_size(whole)}" if whole else ""
        self._report.detail(f"{status}{size}")


@contextmanager
def _pull_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BuildFailed as error:
        text = str(error)
        for pattern, sentence in _PULL_MEANINGS:
            if re.search(pattern, text):
                raise BuildFailed(sentence.format(name=name)) from None
        raise BuildFailed(f"{name} cannot be pulled: {text}") from None


_PULL_MEANINGS = (
    (
        r"The disk of the engine is full|no space left",
        "The disk of the engine is full. Free some with `docker image prune`, then run setup "
        "again.",
    ),
    (
        r"no matching manifest|does not match the specified platform",
        "There is no {name} for the architecture of the engine's machine. Name another image, "
        "or an engine on such a machine with DOCKER_HOST.",
    ),
    (
        r"pull access denied|not found|manifest unknown|unauthorized|denied|no such image",
        "The registry has no image {name}, or shows it only to those who log in. Correct the "
        "name, or run `docker login`.",
    ),
    (
        r"dial tcp|lookup |timeout|connection refused|TLS|x509|EOF|no route|unreachable",
        "The engine cannot reach the registry of {name}. Check its network (the engine, not this "
        "shell, needs the proxy), or load the image from a file with `docker load`.",
    ),
)


# --- without a registry ---------------------------------------------------------------


def make(report: Report, *, is_fresh: bool = False) -> str:
    """Make a minimal Debian from its packages, as `MADE`, whose name it gives.

    Raises:
        BuildFailed: there is no tool for it, no right, or no network.
        BackendUnavailable: there is no engine.
    """
    before = _local(MADE)
    if before is not None and not is_fresh:
        return MADE
    _require_tool()
    with tempfile.TemporaryDirectory(prefix="sandbox-kernel-base-") as directory:
        report.step(f"{MADE}: installing Debian {_RELEASE} with mmdebstrap")
        archive = Path(directory) / "base.tar"
        _run(_mmdebstrap(archive), report)
        report.step(f"{MADE}: importing {format_size(archive.stat().st_size)}")
        _import(archive, before)
    return MADE


def _require_tool() -> None:
    """
    Raises:
        BuildFailed: nothing here makes a Debian.
    """
    if shutil.which("mmdebstrap") is None:
        raise BuildFailed(
            "--make-base needs mmdebstrap. Install it (sudo apt-get install mmdebstrap), or name "
            "a Debian image that is there with --base."
        )
    if os.geteuid() != 0:
        raise BuildFailed(
            "--make-base needs root for mmdebstrap. Run it with sudo once; setup finds the base "
            f"{MADE} from then on. Or name a Debian image that is there with --base."
        )


def _mmdebstrap(archive: Path) -> list[str]:
    command = ["mmdebstrap", "--variant=minbase", '--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command += [f"--dpkgopt=path-include={_INCLUDED}"]
    if _MERGED_USR.is_dir():
        command += ["--include=usr-is-merged", f"--hook-dir={_MERGED_USR}"]
    return [*command, _RELEASE, str(archive)]


def _run(command: list[str], report: Report) -> None:
    """One tool, its output told line by line.

    Raises:
        BuildFailed: it failed; its last lines say why.
    """
    lines: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as tool:
        assert tool.stdout is not None
        for line in tool.stdout:
            shown = plain(line)
            if shown:
                lines.append(shown)
                report.detail(shown)
    if tool.returncode:
        tail = "".join(f"\n  {line}" for line in lines)
        raise BuildFailed(
            f"{command[0]} could not make the base (code {tool.returncode}). It needs Debian's "
            "package sources over the network and some 500 MB in the temporary directory "
            f"(TMPDIR). Its last lines:{tail}"
        )


def _import(archive: Path, before: str | None) -> None:
    repository, _, tag = MADE.partition(":")
    with closing(engine.connect(timeout_s=building.SILENCE_S)) as api, translated():
        with archive.open("rb") as file:
            # An iterator: for a file the client would send two contradicting lengths.
            chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            api.import_image_from_stream(
                chunks, repository=repository, tag=tag, changes=['CMD ["bash"]']
            )
        made = building.image_id(api, MADE)
        building.remove_untagged(api, [before] if before else [])
    if made is None:
        raise BuildFailed(f"The engine imported {MADE} and does not have it. Run setup again.")
