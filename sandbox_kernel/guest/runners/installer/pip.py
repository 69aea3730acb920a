"""pip: first what it would install here, then exactly that, by its hashes, into the layer."""

import json
import os
import shutil
import sys
from typing import Any, Dict, List

from .context import Context, InstallFailed, Json, resolved

_SENT = "pip.zip"


def install(context: Context) -> List[Json]:
    """Fill `lib` and `bin` of the layer; what was installed."""
    pip = _pip(context)
    environment = _environment(context)
    report = os.path.join(context.scratch, "report.json")
    texts = [item.text for item in context.wanted]
    context.must_run([*pip, "install", "--dry-run", "--report", report, "--", *texts], environment)
    with open(report, encoding="utf-8") as file:
        packages = [_package(item) for item in json.load(file)["install"]]
    library = os.path.join(context.layer, "lib")
    os.mkdir(library)
    if packages:
        _install(context, pip, packages, library)
    return packages


def _pip(context: Context) -> List[str]:
    """How to run pip: this environment's own, or the one that the host sent."""
    sent = os.path.join(context.inputs, _SENT)
    if not os.path.exists(sent):
        return [sys.executable, "-m", "pip"]
    directory = os.path.join(context.scratch, "pip")
    shutil.unpack_archive(sent, directory, "zip")
    return [sys.executable, os.path.join(directory, "pip")]


def _environment(context: Context) -> Dict[str, str]:
    settings = context.settings
    values = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INPUT": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",  # nothing is put beside the system's
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_PROGRESS_BAR": "off",
        "PIP_RETRIES": "1",  # the host has tried as often as makes sense
        "PIP_TIMEOUT": "120",
        "PIP_EXTRA_INDEX_URL": " ".join(map(context.url, settings.get("extra", ()))),
        "PIP_FIND_LINKS": " ".join(map(context.url, settings.get("find_links", ()))),
    }
    if settings.get("index"):
        values["PIP_INDEX_URL"] = context.url(settings["index"])
    else:
        values["PIP_NO_INDEX"] = "1"
    for name, value in settings.get("options", {}).items():
        values["PIP_" + name.upper().replace("-", "_")] = value
    if settings.get("constraints"):
        files = [os.path.join(context.inputs, name) for name in settings["constraints"]]
        values["PIP_CONSTRAINT"] = " ".join(files)
    return context.environment(**{name: value for name, value in values.items() if value})


def _package(item: Any) -> Json:
    hashes = item.get("download_info", {}).get("archive_info", {}).get("hashes", {})
    checksum = "sha256:" + hashes["sha256"] if "sha256" in hashes else ""
    return resolved(item["metadata"]["name"], item["metadata"]["version"], checksum)


def _install(context: Context, pip: List[str], packages: List[Json], library: str) -> None:
    lines = ["%(name)s==%(version)s --hash=%(hash)s" % item for item in packages]
    if not all(item["hash"] for item in packages):
        raise InstallFailed("The index gave files without a hash, and pip did not make one.")
    locked = os.path.join(context.scratch, "locked.txt")
    with open(locked, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    environment = _environment(context)
    # Everything has one version and one hash already; a constraint has none.
    environment.pop("PIP_CONSTRAINT", None)
    options = ["--no-deps", "--require-hashes", "--no-compile", "--target", library]
    context.must_run([*pip, "install", *options, "-r", locked], environment)
    programs = os.path.join(library, "bin")
    if os.path.isdir(programs):
        os.rename(programs, os.path.join(context.layer, "bin"))
    # By content: the host writes the files with times of their own. Sessions could not write
    # what they compile beside sources that they only read. What doesn't compile is data.
    # A second process for the work costs more than it saves for a few packages.
    workers = "2" if len(packages) > 3 else "1"
    compile_all = [sys.executable, "-m", "compileall", "-qq", "-j", workers]
    context.run([*compile_all, "--invalidation-mode", "unchecked-hash", library], environment)
