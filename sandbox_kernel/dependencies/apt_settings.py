"""The host's settings of apt: sources, keys, and what is installed.

A guest that sees the host's system gets the host's sources and keys; one that runs an image
has its own, and the relay knows where distributions keep their packages. Signatures are apt's
to verify, inside; a key is no secret.
"""

from __future__ import annotations

import os
import re

from sandbox_kernel.dependencies.indexes import (
    Host,
    Index,
    Places,
    Upstream,
    describe,
    without_password,
)

# Where the images of distributions get their packages from.
_DISTRIBUTIONS = (
    "http://deb.debian.org/",
    "http://security.debian.org/",
    "http://ftp.debian.org/",
    "http://archive.ubuntu.com/",
    "http://security.ubuntu.com/",
    "http://ports.ubuntu.com/",
)
# About the index as a whole, not about this machine: a mirror that stands still needs them.
_OPTIONS = re.compile(
    r'^\s*(Acquire::(?:Check-Valid-Until|Check-Date|Max-FutureTime))\s+"([\w.-]*)"\s*;',
    re.MULTILINE | re.IGNORECASE,
)
_PROXY = re.compile(r'^\s*Acquire::(https?)::Proxy\s+"([^"]+)"\s*;', re.MULTILINE | re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s\]\"']+")
_RINGS = re.compile(r"/etc/apt/keyrings/([\w.+-]+)")
_LOGIN = re.compile(r"machine\s+(\S+)\s+login\s+(\S+)\s+password\s+(\S+)")
_INPUTS = "/workspace/.installer"
# A desktop with 3,000 packages has 5 MB.
_MAX_STATUS_BYTES = 64 * 1024 * 1024


def read(host: Host) -> Index:
    """apt's sources for guests of this host."""
    sources = _sources(host)
    settings: dict[str, object] = {"options": {}, "sources": {}, "keys": []}
    configuration = "\n".join(host.read_text(path) for path in _configuration(host))
    settings["options"] = dict(_OPTIONS.findall(configuration))
    proxies = {scheme.lower(): url for scheme, url in _PROXY.findall(configuration)} or None
    places = Places()
    urls = [url for text in sources.values() for url in _ADDRESS.findall(_code(text))]
    logins = _logins(host)
    for url in urls:
        login = logins.get(url.partition("//")[2].partition("/")[0].rpartition("@")[2])
        places.add(url, verify=host.roots, proxies=proxies, credentials=login)
    files: dict[str, bytes] = {}
    if host.is_shown:
        settings["sources"] = {name: _for_guest(text) for name, text in sources.items()}
        files = {**_keys(host), **_rings(host, sources)}
        settings["keys"] = sorted(name for name in files if name.startswith("key-"))
        files["dpkg-status"] = host.read_bytes("/var/lib/dpkg/status", _MAX_STATUS_BYTES)
    else:
        for base in _DISTRIBUTIONS:
            places.upstreams.append(Upstream(base, verify=host.roots, proxies=proxies))
    title = without_password(urls[0]) if urls else _DISTRIBUTIONS[0]
    identity = describe("apt", sorted({*sources.values()}) if host.is_shown else [], {})
    return Index("apt", tuple(places.upstreams), settings, files, title, identity)


def _sources(host: Host) -> dict[str, str]:
    paths = ["/etc/apt/sources.list", *_below(host, "/etc/apt/sources.list.d")]
    kept = [path for path in paths if path.endswith((".list", ".sources"))]
    texts = {os.path.basename(path): host.read_text(path) for path in kept}
    return {name: text for name, text in texts.items() if text}


def _below(host: Host, directory: str) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in sorted(os.listdir(host.expand(directory)))]
    except OSError:
        return []


def _configuration(host: Host) -> list[str]:
    return [*_below(host, "/etc/apt/apt.conf.d"), "/etc/apt/apt.conf"]


def _code(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _for_guest(text: str) -> str:
    """Sources without passwords, keys where the guest finds them."""
    return _RINGS.sub(rf"{_INPUTS}/ring-\1", without_password(text))


def _keys(host: Host) -> dict[str, bytes]:
    paths = ["/etc/apt/trusted.gpg", *_below(host, "/etc/apt/trusted.gpg.d")]
    found = {f"key-{os.path.basename(path)}": host.read_bytes(path) for path in paths}
    return {name: content for name, content in found.items() if content}


def _rings(host: Host, sources: dict[str, str]) -> dict[str, bytes]:
    names = {name for text in sources.values() for name in _RINGS.findall(text)}
    return {f"ring-{name}": host.read_bytes(f"/etc/apt/keyrings/{name}") for name in names}


def _logins(host: Host) -> dict[str, tuple[str, str]]:
    """Host -> user and password, from apt's own netrc."""
    paths = ["/etc/apt/auth.conf", *_below(host, "/etc/apt/auth.conf.d")]
    text = " ".join(host.read_text(path) for path in paths)
    return {
        re.sub(r"^https?://", "", machine).partition("/")[0]: (user, password)
        for machine, user, password in _LOGIN.findall(text)
    }
