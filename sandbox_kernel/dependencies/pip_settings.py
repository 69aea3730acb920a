"""The host's settings of pip, as pip itself reads them.

Source: pip's documentation, "Configuration": files from global to user to the environment's,
then PIP_CONFIG_FILE, then variables; of a file the sections [global] and [install].
"""

from __future__ import annotations

import configparser
import os
from typing import Any

from sandbox_kernel.dependencies.indexes import Host, Index, Places, describe, path_of
from sandbox_kernel.errors import SettingsError

_PYPI = "https://pypi.org/simple"
# What changes which file is chosen; everything else is about where and how, which is ours.
_PASSED_ON = ("pre", "only-binary", "no-binary", "prefer-binary")


def read(host: Host) -> Index:
    """pip's index on this host."""
    options = _options(host)
    places = Places()
    verify: bool | str = options.get("cert") or host.roots
    how: dict[str, Any] = {"certificate": options.get("client-cert", "")}
    if options.get("proxy"):
        how["proxies"] = {"http": options["proxy"], "https": options["proxy"]}
    trusted = set(options.get("trusted-host", "").split())

    def add(url: str, *, is_index: bool) -> str:
        is_trusted = bool({_host_of(url), _host_of(url).partition(":")[0]} & trusted)
        path = places.add(url, verify=False if is_trusted else verify, **how)
        return path if path.endswith("/") or not is_index else path + "/"

    is_cut_off = options.get("no-index", "").lower() in ("1", "true", "yes", "on")
    url = options.get("index-url") or _PYPI
    indexes = [] if is_cut_off else [url, *options.get("extra-index-url", "").split()]
    links = [link for link in options.get("find-links", "").split() if _is_there(link)]
    passed = {name: options[name] for name in _PASSED_ON if options.get(name)}
    files = _constraints(options.get("constraint", ""))
    paths = [add(each, is_index=True) for each in indexes]
    settings = {
        "index": paths[0] if paths else "",
        "extra": paths[1:],
        "find_links": [add(link, is_index=False) for link in links],
        "options": passed,
        "constraints": sorted(files),
    }
    identity = describe("pip", [*indexes, "links:", *links], {**passed, **files})
    title = (indexes or links or ["no index"])[0]
    upstreams = tuple(places.upstreams)
    return Index("pip", upstreams, settings, files, title, identity, has_links=True)


def _host_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2]


def _is_there(link: str) -> bool:
    path = path_of(link)
    return path is None or os.path.isdir(path)


def _options(host: Host) -> dict[str, str]:
    """Options by their long names."""
    named = host.environ.get("PIP_CONFIG_FILE", "")
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    if named != os.devnull:
        for path in (*_files(host), *([named] if named else [])):
            for section, options in _sections(host.read_text(path), path).items():
                if section in found:
                    found[section].update(options)
    variables = {
        name[4:].lower().replace("_", "-"): value
        for name, value in host.environ.items()
        if name.startswith("PIP_") and value
    }
    return {**found["global"], **found["install"], **variables}


def _files(host: Host) -> list[str]:
    home = host.environ.get("XDG_CONFIG_HOME") or "~/.config"
    shared = host.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    paths = [f"{directory}/pip/pip.conf" for directory in shared.split(":")]
    paths += ["/etc/pip.conf", "~/.pip/pip.conf", f"{home}/pip/pip.conf"]
    return [*paths, f"{host.prefix}/pip.conf"] if host.prefix else paths


def _sections(text: str, path: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        summary = str(error).splitlines()[0]
        raise SettingsError(
            f"pip's settings {path} cannot be read: {summary}. Repair the file."
        ) from None
    return {
        name: {key.replace("_", "-"): value for key, value in parser.items(name)}
        for name in parser.sections()
    }


def _constraints(option: str) -> dict[str, bytes]:
    """The constraints that pip is given on this host, as files by name."""
    files = {}
    for number, place in enumerate(option.split()):
        path = path_of(place)
        try:
            with open(path or place, "rb") as file:
                lines = file.read(1024 * 1024).splitlines()
        except OSError as error:
            raise SettingsError(
                f"pip's settings name the constraints {place!r}, which cannot be read "
                f"({error.strerror}). Name a file of this machine."
            ) from None
        # Options in it would name files and indexes of the host's.
        kept = [line for line in lines if not line.lstrip().startswith(b"-")]
        files[f"constraints-{number}.txt"] = b"\n".join(kept) + b"\n"
    return files
