"""One image out of a Dockerfile of ours and some files, by the engine's own builder.

Rule 1: the classic builder of Docker 20.10 does: no BuildKit, no bind mounts, no secrets.
Rule 2: whatever ends a build, Ctrl-C included, leaves no container and no untagged image of it.
Rule 3: what a build prints was written by programs of its base: it is shown as plain text.
"""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from sandbox_kernel.backends.docker import engine
from sandbox_kernel.backends.docker.build_errors import BuildFailed, explained, plain, translated
from sandbox_kernel.errors import SandboxKernelError

IMAGES = Path(__file__).parent / "images"
# On each image that a step made: what it was made of (see `setup`).
RECIPE_LABEL = "org.sandbox-kernel.recipe"

# The longest that a step says nothing: compiling pandas on a slow machine takes two minutes.
SILENCE_S = 900.0
# From hanging up to the engine having removed the build's container.
_CANCEL_S = 15.0
_TAIL_LINES = 12
# A context in memory up to this, then on disk: wheels are 60 MB.
_SPOOL_BYTES = 1024 * 1024

_STEP = re.compile(r"Step (\d{1,4})/(\d{1,4}) : (.*)", re.DOTALL)
# About the builder's own business.
_NOISE = ("--->", "Removing intermediate container")
_RUNNING = re.compile(r" ---> Running in ([0-9a-f]{12,64})")
_MADE = re.compile(r" ---> ([0-9a-f]{12})\s*")


class Report(Protocol):
    """Who is told how it goes. Every text is one line, free of control characters."""

    def step(self, text: str) -> None:
        """Something new has begun; what was before is done."""

    def detail(self, text: str) -> None:
        """What the current step is at."""

    def amount(self, done: int, total: int) -> None:
        """How far the current step is; `total` 0 when nobody knows."""


class Recipe(NamedTuple):
    """What one build needs.

    Args:
        dockerfile: name of a file in `images/`.
        base: id or name of the image that it stands on.
        tag: what the result is called.
        labels: of the result.
        files: path in the build's context -> content, or a file of the host.
        has_network: whether the steps may reach one; who installs with apt has to.
    """

    dockerfile: str
    base: str
    tag: str
    labels: Mapping[str, str]
    files: Mapping[str, bytes | Path] = {}
    has_network: bool = False


def build(recipe: Recipe, report: Report, *, is_fresh: bool = False) -> str:
    """Make the image, tag it and give its id. What the tag named before goes, when unused.

    Raises:
        BuildFailed: with the reason, the remedy and the last lines of the build.
        BackendUnavailable: the engine went away.
    """
    log = _Log(report)
    is_done = False
    try:
        with hanging_up() as api, translated(log.lines), _context(recipe) as context:
            before = image_id(api, recipe.tag)
            _run(api, recipe, context, log, is_fresh)
        is_done = True
    finally:
        if not is_done:
            _tidy(log)
    with closing(engine.connect()) as api, translated(log.lines):
        remove_untagged(api, [*reversed(log.made), *([before] if before else [])])
        made = image_id(api, recipe.tag)
    if made is None:
        raise BuildFailed(
            f"The engine built {recipe.tag} and does not have it: something removed it. "
            "Run setup again."
        )
    return made


@contextmanager
def hanging_up() -> Iterator[Any]:
    """A client whose connections are closed at the end, whatever is on them.

    The engine ends a build or a pull when its client hangs up. `close()` alone leaves a
    stream open that is still being read.
    """
    responses: list[Any] = []
    with closing(engine.connect()) as api:
        api.hooks["response"].append(lambda response, **_: responses.append(response))
        try:
            yield api
        finally:
            for response in responses:
                response.close()


def image_id(api: Any, name: str) -> str | None:
    """The id of the image called `name`; None when the engine has none."""
    found = inspect(api, name)
    return None if found is None else str(found["Id"])


def inspect(api: Any, name: str) -> dict[str, Any] | None:
    """What the engine knows of an image; None when it has none of that name."""
    from docker.errors import ImageNotFound, NotFound

    try:
        found: dict[str, Any] = api.inspect_image(name)
    except (ImageNotFound, NotFound):
        return None
    return found


def _run(api: Any, recipe: Recipe, context: IO[bytes], log: _Log, is_fresh: bool) -> None:
    stream = api.build(
        fileobj=context,
        custom_context=True,
        dockerfile=recipe.dockerfile,
        tag=recipe.tag,
        buildargs={"BASE": recipe.base},
        labels=dict(recipe.labels),
        network_mode=None if recipe.has_network else "none",
        nocache=is_fresh,
        pull=False,
        rm=True,
        forcerm=True,
        decode=True,
        timeout=SILENCE_S,
    )
    for message in stream:
        log.add(message)


@contextmanager
def _context(recipe: Recipe) -> Iterator[IO[bytes]]:
    """The Dockerfile and its files as a tar that the engine reads."""
    files = {recipe.dockerfile: IMAGES / recipe.dockerfile, **recipe.files}
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            for name, content in sorted(files.items()):
                _add(archive, name, content)
        spool.seek(0)
        yield spool


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    # Neither time nor owner: the engine's cache and the image know the content alone.
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as file:
        member.size = content.stat().st_size
        archive.addfile(member, file)


class _Log:
    """Reads a build's messages: tells the report, keeps the end and what was made."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._is_cached = False
        self.made: list[str] = []
        self.container = ""

    def add(self, message: Mapping[str, Any]) -> None:
        """One message of the builder.

        Raises:
            BuildFailed: it says that the build has failed.
        """
        if "error" in message:
            raise explained(str(message["error"]), self.lines)
        text = str(message.get("stream", ""))
        self._note_images(text)
        step = _STEP.match(text)
        if step is not None:
            self._report.amount(int(step[1]) - 1, int(step[2]))
        for line in text.splitlines():
            shown = plain(line)
            if shown and not shown.startswith(_NOISE):
                self.lines.append(shown)
                self._report.detail(shown)

    def _note_images(self, text: str) -> None:
        running = _RUNNING.match(text)
        made = _MADE.match(text)
        if running is not None:
            self.container = running[1]
        elif text.startswith(" ---> Using cache"):
            self._is_cached = True
        elif text.startswith("Step "):
            # What follows FROM is somebody's image.
            self._is_cached = bool(re.match(r"Step \S+ : FROM\b", text))
        elif made is not None and not self._is_cached:
            self.made.append(made[1])


# --- what is left when a build ends ---------------------------------------------------


def _tidy(log: _Log) -> None:
    """Remove what an unfinished build has made. Never raises: something else is on its way."""
    from docker.errors import DockerException
    from requests import RequestException

    quiet = suppress(SandboxKernelError, DockerException, RequestException)
    with quiet, closing(engine.connect()) as api:
        if log.container:
            _wait_for_container(api, log.container)
        remove_untagged(api, reversed(log.made))


def _wait_for_container(api: Any, container: str) -> None:
    """Until the engine has removed the container of a build; after a while, do it ourselves."""
    from docker.errors import NotFound

    deadline_s = time.monotonic() + _CANCEL_S
    with suppress(NotFound):
        while time.monotonic() < deadline_s:
            api.inspect_container(container)
            time.sleep(0.05)
        api.remove_container(container, force=True, v=True)


def remove_untagged(api: Any, ids: Iterable[str]) -> None:
    """Those that have no name (any more) and that nothing stands on or runs from."""
    from docker.errors import APIError

    for each in ids:
        found = inspect(api, each)
        if found is None or found.get("RepoTags"):
            continue
        with suppress(APIError):  # in use, or the parent of another
            api.remove_image(found["Id"])
