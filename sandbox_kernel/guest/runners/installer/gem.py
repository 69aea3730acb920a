"""gem: Ruby packages into the layer, which is a GEM_PATH, their programs into its `bin`."""

import os
import re
from typing import List

from .context import Context, Json, file_checksum, resolved

_REMEDY = "Install Ruby, or use an image that has it."


def install(context: Context) -> List[Json]:
    """Fill the layer; what was installed."""
    gem = context.program("gem", _REMEDY)
    target = context.layer
    sources: List[str] = []
    for path in context.settings["sources"]:
        sources += ["--source", context.url(path)]
    # GEM_HOME is where it would look for what is there already; the system's gems stay seen.
    environment = context.environment(GEM_HOME=target)
    options = ["--norc", "--no-document", "--install-dir", target, "--clear-sources", *sources]
    options += ["--bindir", os.path.join(target, "bin"), "--env-shebang"]
    # One at a time: a version belongs to one name.
    for item in context.wanted:
        version = ["--version", item.version] if item.version else []
        context.must_run([gem, "install", item.name, *options, *version], environment)
    cache = os.path.join(target, "cache")
    packages = []
    for name in sorted(os.listdir(cache)) if os.path.isdir(cache) else ():
        path = os.path.join(cache, name)
        # `foo-bar-1.2-x86_64-linux`: the version begins with the first digit after a dash.
        found = re.match(r"(.+?)-(\d.*)\.gem$", name)
        if found is not None:
            packages.append(resolved(found[1], found[2], file_checksum(path)))
        os.unlink(path)
    return packages
