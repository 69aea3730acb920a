"""Which package indexes this host uses, as its own tools' settings say: pip.conf, .npmrc, apt…

`read` gives an `Index`: what the relay may ask (`upstreams`, with proxies, certificates and
passwords, which stay on the host) and what an installer in a builder is told (`settings`:
paths on the relay, and options; never an address with a password).

Rule 1: an index is what its owner named or the ecosystem's own; nothing else is an upstream.
Rule 2: of an index only what lies below its own address is asked for, so a token for packages
reads nothing else of the same server.
Rule 3: this module reads settings and asks nobody.

To add an ecosystem: a function here or beside it, and a row in `_READERS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sandbox_kernel.errors import DependencyFailed, SettingsError

# The hosts that an index keeps its files on, by the host of the index.
# Source: what these indexes link to; PEP 503 leaves it to them.
_COMPANIONS = {
    "pypi.org": ("https://files.pythonhosted.org/",),
    "test.pypi.org": ("https://test-files.pythonhosted.org/",),
    "download.pytorch.org": ("https://download.pytorch.org/", "https://download-r2.pytorch.org/"),
    "rubygems.org": ("https://index.rubygems.org/",),
}
# Where distributions keep the roots that they, and whoever intercepts TLS here, trust.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_CRAN = "https://cloud.r-project.org/"
_RUBYGEMS = "https://rubygems.org/"
MAX_SETTINGS_BYTES = 1024 * 1024


class Upstream(NamedTuple):
    """One place that files may be fetched from.

    Args:
        base: what addresses begin with, ends in `/`; "" for a directory.
        directory: of the host, resolved; "" for an address.
        credentials: user and password; None: those of the host's netrc, if any.
        authorization: the value of that header, where it isn't user and password.
        verify: as `requests` wants it: a file of roots, or False where the owner said so.
        certificate: the client's, a file.
        proxies: by scheme; None: the environment's.
    """

    base: str
    directory: str = ""
    credentials: tuple[str, str] | None = None
    authorization: str = ""
    verify: bool | str = True
    certificate: str = ""
    proxies: Mapping[str, str] | None = None

    @property
    def path(self) -> str:
        """The path on the relay that stands for `base`."""
        return relay_path(self.base)

    @property
    def title(self) -> str:
        return self.base or self.directory


class Index(NamedTuple):
    """Where the packages of one ecosystem come from, on this host.

    Args:
        settings: for the installer in the builder, plain values.
        files: what it needs besides, by name.
        title: of the first index, for a reader.
        identity: the same text for the same settings, without passwords.
        has_links: documents link to files by whole addresses, which the relay replaces.
    """

    ecosystem: str
    upstreams: tuple[Upstream, ...]
    settings: dict[str, Any]
    files: dict[str, bytes]
    title: str
    identity: str
    has_links: bool = False


class Host(NamedTuple):
    """What is looked at of the host: values, so that tests can give others."""

    environ: Mapping[str, str]
    prefix: str  # of the Python environment, "" for none
    root: str = ""  # before /etc and /var
    is_shown: bool = True  # guests see this host's own system

    def read_text(self, path: str) -> str:
        """A file of settings, "" when there is none."""
        return self.read_bytes(path).decode("utf-8", "replace")

    def read_bytes(self, path: str, limit_bytes: int = MAX_SETTINGS_BYTES) -> bytes:
        try:
            with open(self.expand(path), "rb") as file:
                return file.read(limit_bytes)
        except OSError:
            return b""

    def expand(self, path: str) -> str:
        """`~` is the home that the environment names; /etc is below `root`."""
        if path == "~" or path.startswith("~/"):
            return self.environ.get("HOME", os.path.expanduser("~")) + path[1:]
        return self.root + path if path.startswith(("/etc/", "/var/", "/usr/")) else path

    @property
    def roots(self) -> bool | str:
        """The certificates that are trusted where no tool's settings say more."""
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            if self.environ.get(name):
                return self.environ[name]
        return next((path for path in _BUNDLES if os.path.isfile(path)), True)


def read(
    ecosystem: str,
    environ: Mapping[str, str] | None = None,
    *,
    prefix: str = "",
    is_host_shown: bool = True,
) -> Index:
    """The index of `ecosystem` as this host's settings have it.

    Args:
        prefix: of the Python environment, which may have a pip.conf of its own.
        is_host_shown: guests see this host's own system, so its apt is theirs.

    Raises:
        SettingsError: a setting that we cannot obey.
        DependencyFailed: nothing is installed from such an index yet.
    """
    if ecosystem not in _READERS:
        raise DependencyFailed(
            f"Packages of {ecosystem} cannot be installed by a builder; there are "
            f"{', '.join(sorted(_READERS))}. Put them into the image."
        )
    host = Host(os.environ if environ is None else environ, prefix, is_shown=is_host_shown)
    return _READERS[ecosystem](host)


def identity(ecosystem: str, environ: Mapping[str, str] | None = None, **options: Any) -> str:
    """What a cache has to tell apart: addresses without passwords, and options. As `read`."""
    return read(ecosystem, environ, **options).identity


# --- addresses ------------------------------------------------------------------------


def relay_path(url: str) -> str:
    """The path on the relay that stands for `url`."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    # A colon in a path is encoded by some clients and not by others; no host has a tilde.
    authority = _authority(parts.netloc).replace(":", "~")
    return f"/h/{authority}{parts.path or '/'}{query}"


def _authority(netloc: str) -> str:
    return netloc.rpartition("@")[2].lower()


def upstreams_of(url: str, **how: Any) -> list[Upstream]:
    """What may be asked where the index is at `url`: below its address, and its files' hosts.

    Raises:
        SettingsError: it is no address of the web.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"The package index {without_password(url)!r} is no address such as "
            "https://index.example.org/simple. Correct it in the settings of pip, npm or gem."
        )
    if parts.username is not None:
        how["credentials"] = (unquote(parts.username), unquote(parts.password or ""))
    path = parts.path.rstrip("/")
    # Files lie beside the list of names: /simple/NAME/ links to ../../packages/FILE.
    if path.endswith("simple"):
        path = path.rpartition("/")[0]
    authority = _authority(parts.netloc)
    own = Upstream(f"{parts.scheme}://{authority}{path}/", **how)
    files = {**how, "credentials": None, "authorization": ""}
    return [own, *(Upstream(base, **files) for base in _COMPANIONS.get(parts.hostname, ()))]


def without_password(url: str) -> str:
    """`url` for a reader and for keys."""
    return re.sub(r"(?<=//)[^/@\s]*@", "", url)


def path_of(url: str) -> str | None:
    """The host's path that a `file:` address or a plain path means, else None."""
    if url.startswith("file:"):
        return os.path.abspath(unquote(urlsplit(url).path))
    if "://" in url:
        return None
    return os.path.abspath(os.path.expanduser(url))


class Places:
    """Collects upstreams, and the paths by which an installer reaches what they hold."""

    def __init__(self) -> None:
        self.upstreams: list[Upstream] = []
        self._directories = 0

    def add(self, url: str, **how: Any) -> str:
        """An index at `url`, an address or a directory of the host; its path on the relay."""
        directory = path_of(url)
        if directory is None:
            found = upstreams_of(url, **how)
            self.upstreams += [each for each in found if each not in self.upstreams]
            return relay_path(url)
        return self._add_directory(directory)

    def _add_directory(self, directory: str) -> str:
        root, below = os.path.realpath(directory), ""
        if os.path.basename(root) == "simple":  # as with addresses: files lie beside it
            root, below = os.path.dirname(root), "simple/"
        self.upstreams.append(Upstream("", directory=root))
        self._directories += 1
        return f"/f/{len(self.upstreams) - 1}/{below}"


def describe(ecosystem: str, urls: Iterable[str], options: Mapping[str, Any]) -> str:
    """The identity of an index."""
    shown = [without_password(url) for url in urls]
    return repr((ecosystem, shown, sorted(options.items())))


# --- Ruby and R, whose settings are a line ----------------------------------------------


def _read_gem(host: Host) -> Index:
    sources: list[str] = []
    roots = host.roots
    for path in ("/etc/gemrc", "~/.gemrc", *_listed(host.environ.get("GEMRC", ""))):
        text = host.read_text(path)
        # A list below `:sources:` (YAML, as `gem sources --add` writes it).
        block = re.search(r"^:?sources:\s*\n((?:\s*-\s+\S+\s*\n?)+)", text, re.MULTILINE)
        sources = re.findall(r"-\s+[\"']?([^\s\"']+)", block[1]) if block else sources
        named = re.search(r"^:?ssl_ca_cert:\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
        roots = named[1] if named else roots
    places = Places()
    urls = sources or [_RUBYGEMS]
    paths = [places.add(_with_slash(url), verify=roots) for url in urls]
    identity = describe("gem", urls, {})
    title = without_password(urls[0])
    return Index("gem", tuple(places.upstreams), {"sources": paths}, {}, title, identity)


def _listed(text: str) -> list[str]:
    return [part for part in text.split(":") if part]


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"


def _read_cran(host: Host) -> Index:
    urls: list[str] = []
    for path in ("/etc/R/Rprofile.site", host.environ.get("R_PROFILE_USER") or "~/.Rprofile"):
        for line in host.read_text(path).splitlines():
            # The one way to set it that is no program: options(repos = c(CRAN = "…")).
            code = line.partition("#")[0]
            urls = re.findall(r"CRAN\"?\s*=\s*[\"']((?:https?|file)://[^\"'@]+)", code) or urls
    places = Places()
    urls = urls or [_CRAN]
    paths = [places.add(url, verify=host.roots).rstrip("/") for url in urls]
    identity = describe("cran", urls, {})
    return Index("cran", tuple(places.upstreams), {"repositories": paths}, {}, urls[0], identity)


def _late(name: str) -> Callable[[Host], Index]:
    """A reader in a module of its own, imported when it is needed."""

    def call(host: Host) -> Index:
        from importlib import import_module

        module = import_module(f"sandbox_kernel.dependencies.{name}_settings")
        index: Index = module.read(host)
        return index

    return call


_READERS: dict[str, Callable[[Host], Index]] = {
    "pip": _late("pip"),
    "npm": _late("npm"),
    "apt": _late("apt"),
    "gem": _read_gem,
    "cran": _read_cran,
}
