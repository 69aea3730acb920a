"""What an installer works with: what is wanted, where it goes, and how to run a tool."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

Json = Dict[str, Any]

# Where the host puts files for us, in the workspace; hidden, so no listing shows them.
INPUTS = ".installer"
# Settings of whoever made the image, which would lead past the relay.
_FOREIGN = ("pip_", "npm_config_", "gem_", "bundle_", "r_libs", "apt_")


class InstallFailed(Exception):
    """Nothing was installed; the text says why in whole sentences."""


class Wanted(NamedTuple):
    """One requirement. `version` is what the user wrote after the name, e.g. `==2.*`."""

    name: str
    version: str
    text: str


class Context(NamedTuple):
    """One installation."""

    ecosystem: str
    wanted: List[Wanted]
    port: int
    settings: Json  # of the index: paths on the relay, options
    inputs: str
    layer: str
    scratch: str
    outputs: Tuple[int, ...]

    @classmethod
    def read(cls, code: bytes, descriptors: Sequence[int]) -> "Context":
        """What the host asks for in EXECUTE; makes the layer's directory."""
        order = json.loads(code.decode("utf-8"))
        # Outside of the workspace: nobody watches there for files to show.
        scratch = tempfile.mkdtemp(prefix="installer-")
        layer = os.path.join(scratch, "layer")
        os.mkdir(layer)
        wanted = [Wanted(*item) for item in order["requirements"]]
        for item in wanted:
            if item.text.startswith("-") or item.name.startswith("-"):
                raise InstallFailed("%r is an option and no package." % item.text)
        return cls(
            order["ecosystem"],
            wanted,
            order["port"],
            order["settings"],
            os.path.join(os.getcwd(), INPUTS),
            layer,
            scratch,
            tuple(descriptors),
        )

    def url(self, path: str) -> str:
        """Where an installer finds `path` of the relay."""
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def say(self, text: str) -> None:
        """A line of our own among the installer's."""
        os.write(self.outputs[0], (text + "\n").encode("utf-8", "replace"))

    def environment(self, **values: str) -> Dict[str, str]:
        """The environment of a tool: ours, less what would lead it elsewhere."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().startswith(_FOREIGN) and not name.lower().endswith("_proxy")
        }
        temporary = os.path.join(self.scratch, "tmp")
        os.makedirs(temporary, exist_ok=True)
        kept.update(TMPDIR=temporary, NO_COLOR="1", CI="1", **values)
        return kept

    def run(
        self, argv: Sequence[str], environment: Dict[str, str], cwd: Optional[str] = None
    ) -> int:
        """Run a tool to its end, its output going straight to the host; its exit code."""
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=self.outputs[0],
            stderr=self.outputs[1],
            env=environment,
            cwd=cwd or self.scratch,
        )
        return process.wait()

    def must_run(
        self, argv: Sequence[str], environment: Dict[str, str], cwd: Optional[str] = None
    ) -> None:
        """As `run`. Raises `InstallFailed` when the tool does."""
        code = self.run(argv, environment, cwd)
        if code:
            name = os.path.basename(argv[0] if argv[0] != sys.executable else self.ecosystem)
            raise InstallFailed("%s ended with exit code %d." % (name, code))

    def program(self, name: str, remedy: str) -> str:
        """The path of a program. Raises `InstallFailed` with `remedy` when it is missing."""
        found = shutil.which(name)
        if found is None:
            raise InstallFailed("There is no %s in this sandbox. %s" % (name, remedy))
        return found


def resolved(name: Any, version: Any, checksum: Any = "") -> Json:
    """One line of what was installed. `checksum`: `sha256:<hex>`, or npm's `sha512-<base64>`."""
    return {"name": str(name), "version": str(version), "hash": str(checksum or "")}


def file_checksum(path: str) -> str:
    """The SHA-256 of a file that the index sent."""
    import hashlib

    summed = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1024 * 1024), b""):
            summed.update(chunk)
    return "sha256:" + summed.hexdigest()
