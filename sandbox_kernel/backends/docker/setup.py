"""`sandbox-kernel setup docker`: our images, made on the engine in layers.

    BASE ── sandbox-kernel/base ── sandbox-kernel/FAMILY:packages ── sandbox-kernel/FAMILY
            python3, accounts      the language                      the guest's code

Rule 1: each step's image carries what it was made of as a label; a step whose image says the
same is not made again. So a new version of the guest's code costs seconds, and nothing costs
a look.
Rule 2: only here is a registry ever asked, and only when the owner runs `setup`.

To add a family: a Dockerfile in `images/`, and a language whose `image` names it. The family
`polyglot` belongs to none: it has what all of them have, on top of Python's packages.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_kernel import languages, seeds
from sandbox_kernel.backends.docker import building, engine, guest_code, wheels
from sandbox_kernel.backends.docker.build_errors import BuildFailed, translated
from sandbox_kernel.backends.docker.building import RECIPE_LABEL, Recipe, Report
from sandbox_kernel.errors import SettingsError

REPOSITORY = "sandbox-kernel"
# One image for every language, for notebooks whose cells are in several.
POLYGLOT = "polyglot"
# Families with packages from PyPI. The kernels that other images have from elsewhere are the
# polyglot one's by these.
_WHEELS = {
    "python": wheels.PACKAGES,
    "deno": ("deno",),
    POLYGLOT: (*wheels.PACKAGES, "ipykernel", "deno"),
}
# On our images: the name of what `setup` built them on.
BASE_LABEL = "org.sandbox-kernel.base"


class Built(NamedTuple):
    """One image that is there now; `is_new` when a step of it had to be made."""

    name: str
    id: str
    size_bytes: int
    elapsed_s: float
    is_new: bool


def families(chosen: Iterable[str]) -> list[str]:
    """The families whose images run some languages, each once.

    Args:
        chosen: names of languages; "polyglot" is the image of all of them, and "all" is
            each one's own image and that.

    Raises:
        SettingsError: there is no such language, or its image is not one of ours.
    """
    names = dict.fromkeys(chosen)
    if "all" in names:
        names = dict.fromkeys([*filter(_is_ours, languages.names()), POLYGLOT])
    return list(dict.fromkeys(map(_family, names)))


def _family(name: str) -> str:
    if name == POLYGLOT:
        return name
    image = languages.get(name).image
    if not _is_ours(name):
        raise SettingsError(
            f"The image of {name}, {image}, is not made here. Pull it with: "
            f"sandbox-kernel setup docker --image {image}"
        )
    return image.removeprefix(f"{REPOSITORY}/")


def _is_ours(name: str) -> bool:
    """Whether there is a recipe for the image of a language: somebody else's brings its own."""
    repository, _, family = languages.get(name).image.rpartition("/")
    return repository == REPOSITORY and (building.IMAGES / f"{family}.Dockerfile").is_file()


def build(
    chosen: Iterable[str], base: str, report: Report, *, is_fresh: bool = False
) -> Iterator[Built]:
    """Make the images of some families on the image `base`, as far as they aren't there.

    Args:
        base: the name of an image that is there (see `base_image`).
        is_fresh: make every step anew, for the package versions of today.

    Raises:
        BuildFailed: with the reason and the remedy.
        BackendUnavailable: there is no engine.
    """
    with _only_one(report):
        maker = _Maker(base, report, is_fresh)
        for family in chosen:
            started_s = time.monotonic()
            steps = maker.steps
            found = maker.make_family(family)
            elapsed_s = time.monotonic() - started_s
            size_bytes = int(found.get("Size", 0))
            name = f"{REPOSITORY}/{family}"
            yield Built(name, str(found["Id"]), size_bytes, elapsed_s, maker.steps > steps)


def last_base() -> str | None:
    """The name of the image that the last `setup` built on; None when there was none."""
    with closing(engine.connect()) as api, translated():
        found = building.inspect(api, f"{REPOSITORY}/base:latest")
    return _labels(found).get(BASE_LABEL)


def _labels(found: dict[str, Any] | None) -> dict[str, str]:
    """The labels of an inspected image; {} for none."""
    return ((found or {}).get("Config") or {}).get("Labels") or {}


@contextmanager
def _only_one(report: Report) -> Iterator[None]:
    """Wait for another `setup` of this user: what one removes, the other may stand on."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandbox-kernel"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "setup-docker.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.step("waiting for another setup to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Maker:
    """Makes steps, each on the one before, as far as they are not there."""

    def __init__(self, base: str, report: Report, is_fresh: bool) -> None:
        self._base = base
        self._report = report
        self._is_fresh = is_fresh
        self._made: set[str] = set()

    @property
    def steps(self) -> int:
        """How many steps had to be made so far."""
        return len(self._made)

    def make_family(self, family: str) -> dict[str, Any]:
        """Every step of one family; the last image as the engine describes it."""
        guest = guest_code.files()
        base = self._inspect(self._base)
        if base is None:
            raise BuildFailed(f"The base {self._base} is not there. Name one that is with --base.")
        foundation = self.make(
            "base.Dockerfile",
            str(base["Id"]),
            f"{REPOSITORY}/base:latest",
            f"a Python and accounts on {self._base}",
            labels={BASE_LABEL: self._base},
            has_network=True,
        )
        tag = f"{REPOSITORY}/{family}:latest"
        self.make(
            "guest.Dockerfile",
            self.make_packages(family, foundation),
            tag,
            "the sandbox's own code",
            files={f"guest/{path}": content for path, content in guest.items()},
            labels={guest_code.GUEST_LABEL: guest_code.digest()},
        )
        return self._inspect(tag) or {"Id": tag}

    def make(
        self,
        dockerfile: str,
        base: str,
        tag: str,
        what: str,
        *,
        files: Mapping[str, bytes | Path] | None = None,
        labels: Mapping[str, str] | None = None,
        has_network: bool = False,
    ) -> str:
        """The id of an image made by `dockerfile` on `base`; made only when it has to be."""
        summary = _summary(dockerfile, base, files or {})
        there = self._find(tag, summary)
        if there is not None:
            return there
        self._report.step(f"{tag}: {what}")
        recipe = Recipe(
            dockerfile=dockerfile,
            base=base,
            tag=tag,
            labels={RECIPE_LABEL: summary, **(labels or {})},
            files=files or {},
            has_network=has_network,
        )
        made = building.build(recipe, self._report, is_fresh=self._is_fresh)
        self._made.add(tag)
        return made

    def make_packages(self, family: str, base: str) -> str:
        """The image with what a family's language needs."""
        dockerfile, tag = f"{family}.Dockerfile", f"{REPOSITORY}/{family}:packages"
        if family == POLYGLOT:
            base = self._make_with_wheels(family, "python.Dockerfile", base, f"{tag}-python")
        elif family in _WHEELS:
            return self._make_with_wheels(family, dockerfile, base, tag)
        return self.make(dockerfile, base, tag, f"packages of {family}", has_network=True)

    def _make_with_wheels(self, family: str, dockerfile: str, base: str, tag: str) -> str:
        """The id of an image with packages from PyPI, which are downloaded only when needed."""
        packages = _WHEELS[family]
        files: dict[str, bytes | Path] = {
            "warm.py": seeds.CODE.encode(),
            "requirements.txt": "\n".join(packages).encode(),
        }
        there = self._find(tag, _summary(dockerfile, base, files))
        if there is not None:
            return there
        with tempfile.TemporaryDirectory(prefix="sandbox-kernel-wheels-") as directory:
            self._report.step(f"{tag}: downloading {', '.join(packages)}")
            with closing(engine.connect()) as api:
                target = wheels.ask(api, base)
            found = wheels.download(packages, target, Path(directory), self._report)
            files |= {f"wheels/{name}": path for name, path in found.items()}
            return self.make(dockerfile, base, tag, "installing them", files=files)

    def _find(self, tag: str, summary: str) -> str | None:
        """The id of the image that was made of just that, if it is there."""
        if self._is_fresh and tag not in self._made:
            return None
        found = self._inspect(tag)
        if found is None or _labels(found).get(RECIPE_LABEL) != summary:
            return None
        return str(found["Id"])

    def _inspect(self, name: str) -> dict[str, Any] | None:
        with closing(engine.connect()) as api, translated():
            return building.inspect(api, name)


def _summary(dockerfile: str, base: str, files: Mapping[str, bytes | Path]) -> str:
    """What a step is made of, as one word. Wheels are not in it: they are what pip found."""
    summed = sha256(b"%s\0" % base.encode() + (building.IMAGES / dockerfile).read_bytes())
    for name, content in sorted(files.items()):
        if isinstance(content, bytes):
            summed.update(b"\0%s\0%d\0" % (name.encode(), len(content)) + content)
    return summed.hexdigest()[:32]
