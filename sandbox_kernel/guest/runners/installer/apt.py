"""apt: Debian packages, verified by apt, unpacked below the layer without installing them.

Their programs and libraries work from there as far as they find their files by PATH and
LD_LIBRARY_PATH; scripts of maintainers don't run. What is installed already is not fetched.
Of those scripts one thing is read: the names that `update-alternatives` would give a program,
since many packages have theirs by it only (figlet-figlet is figlet).
"""

import os
import re
import shutil
from typing import Dict, List

from .context import Context, InstallFailed, Json, file_checksum, resolved

_REMEDY = "Only Debian and what descends from it has it."
# Nobody reads these in a layer, and they are a third of many packages.
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale")
_DIRECTORIES = (
    *("state/lists/partial", "cache/archives/partial"),
    *("etc/sources.list.d", "etc/trusted", "etc/empty", "control"),
)


_ALTERNATIVE = re.compile(r"(?:--install\s+|--slave\s+)(/[\w./+-]+)\s+[\w./+-]+\s+(/[\w./+-]+)")


def install(context: Context) -> List[Json]:
    """Fill the layer with the trees of the packages; what was unpacked."""
    apt = context.program("apt-get", _REMEDY)
    unpacker = context.program("dpkg-deb", _REMEDY)
    root = os.path.join(context.scratch, "apt")
    for name in _DIRECTORIES:
        os.makedirs(os.path.join(root, name))
    _write_sources(context, root)
    environment = context.environment(APT_CONFIG=_write_configuration(context, root))
    context.must_run([apt, "update"], environment)
    wanted = [item.text for item in context.wanted]
    options = ["--download-only", "--no-install-recommends", "--yes"]
    context.must_run([apt, "install", *options, "--", *wanted], environment)
    archives = os.path.join(root, "cache", "archives")
    packages = []
    for name in sorted(os.listdir(archives)):
        if name.endswith(".deb"):
            path = os.path.join(archives, name)
            context.must_run([unpacker, "-x", path, context.layer], environment)
            control = os.path.join(root, "control", name)
            context.must_run([unpacker, "-e", path, control], environment)
            _link_alternatives(context.layer, os.path.join(control, "postinst"))
            package, version = name[:-4].split("_")[:2]
            packages.append(resolved(package, version.replace("%3a", ":"), file_checksum(path)))
            os.unlink(path)
    for name in _LEFT_OUT:
        shutil.rmtree(os.path.join(context.layer, name), ignore_errors=True)
    return packages


def _link_alternatives(layer: str, script: str) -> None:
    """Give programs the names that the package's script would have."""
    try:
        with open(script, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return
    for link, target in _ALTERNATIVE.findall(text.replace("\\\n", " ")):
        path = layer + link
        if os.path.exists(layer + target) and not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)


def _write_sources(context: Context, root: str) -> None:
    """The host's sources where this is the host's system, else those of the image."""
    sources = context.settings.get("sources") or _own_sources()
    if not sources:
        raise InstallFailed("There are no sources of packages in /etc/apt.")
    for name, text in sources.items():
        # The relay is a proxy: it is asked in the clear and asks as the host's settings say.
        text = re.sub(r"\bhttps://", "http://", text)
        with open(os.path.join(root, "etc/sources.list.d", name), "w", encoding="utf-8") as file:
            file.write(text)
    for name in context.settings.get("keys", ()):
        source = os.path.join(context.inputs, name)
        shutil.copy(source, os.path.join(root, "etc/trusted", name[len("key-") :]))


def _own_sources() -> Dict[str, str]:
    found = {}
    for directory, names in (("/etc/apt", ["sources.list"]), ("/etc/apt/sources.list.d", None)):
        for name in names or (os.listdir(directory) if os.path.isdir(directory) else []):
            path = os.path.join(directory, name)
            if name.endswith((".list", ".sources")) and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    found[name] = file.read()
    return found


def _write_configuration(context: Context, root: str) -> str:
    has_status = os.path.exists(os.path.join(context.inputs, "dpkg-status"))
    status = os.path.join(context.inputs, "dpkg-status") if has_status else "/var/lib/dpkg/status"
    trusted = os.path.join(root, "etc/trusted")
    if not context.settings.get("keys"):
        trusted = "/etc/apt/trusted.gpg.d"
    preferences = "/etc/apt/preferences.d"
    empty = os.path.join(root, "etc/empty")
    values = {
        # Settings of the image are read after these, and could name a proxy of their own.
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": empty,
        "Dir::Etc::preferencesparts": preferences if os.path.isdir(preferences) else empty,
        "Dir::State": os.path.join(root, "state"),
        "Dir::State::status": status,
        "Dir::Cache": os.path.join(root, "cache"),
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": os.path.join(root, "etc/sources.list.d"),
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": trusted,
        "Dir::Log": root,
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::http::Proxy": context.url("/"),
        "Acquire::Retries": "1",
        **context.settings.get("options", {}),
    }
    path = os.path.join(root, "apt.conf")
    with open(path, "w", encoding="utf-8") as file:
        for name, value in values.items():
            file.write('%s "%s";\n' % (name, value.replace('"', "")))
    return path
