"""The host's settings of npm: registries by scope, tokens, proxies, certificates.

Source: npm's documentation, "npmrc" and "config": files from global to user, then variables
`npm_config_…`; `//host/path/:_authToken` belongs to that address and no other.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from sandbox_kernel.dependencies.indexes import (
    Host,
    Index,
    Places,
    _with_slash,
    describe,
    without_password,
)

_REGISTRY = "https://registry.npmjs.org/"
_FILES = ("/usr/etc/npmrc", "/etc/npmrc")


def read(host: Host) -> Index:
    """npm's registries on this host."""
    options = _options(host)
    places = Places()

    def add(url: str) -> str:
        url = _with_slash(url)
        return places.add(url, **_how(url, options, host))

    registry = options.get("registry") or _REGISTRY
    scopes = {
        name.removesuffix(":registry"): url
        for name, url in options.items()
        if name.startswith("@") and name.endswith(":registry") and url
    }
    settings = {
        "registry": add(registry),
        "scopes": {scope: add(url) for scope, url in scopes.items()},
    }
    urls = [registry, *(f"{scope} {url}" for scope, url in sorted(scopes.items()))]
    upstreams = tuple(places.upstreams)
    title, identity = without_password(registry), describe("npm", urls, {})
    return Index("npm", upstreams, settings, {}, title, identity, has_links=True)


def _how(url: str, options: Mapping[str, str], host: Host) -> dict[str, Any]:
    how: dict[str, Any] = {"verify": options.get("cafile") or host.roots}
    if options.get("strict-ssl", "").lower() == "false":
        how["verify"] = False
    http = options.get("proxy") or options.get("http-proxy") or ""
    https = options.get("https-proxy") or http
    chosen = {scheme: proxy for scheme, proxy in (("http", http), ("https", https)) if proxy}
    # `false` and `null` are how npm is told to have none.
    if chosen and not {http, https} & {"false", "null"}:
        how["proxies"] = chosen
    authorization = _authorization(url, options)
    return {**how, "authorization": authorization} if authorization else how


def _authorization(url: str, options: Mapping[str, str]) -> str:
    """The header that belongs to `url`: what is set for the longest beginning of it."""
    place = "//" + url.partition("//")[2].rpartition("@")[2]
    while len(place) > 2:
        if token := options.get(f"{place}:_authToken"):
            return f"Bearer {token}"
        if basic := options.get(f"{place}:_auth"):
            return f"Basic {basic}"
        user, password = options.get(f"{place}:username"), options.get(f"{place}:_password")
        if user and password:
            return f"Basic {_pair(user, password)}"
        place = place.rstrip("/").rpartition("/")[0] + "/"
    return ""


def _pair(user: str, password: str) -> str:
    try:
        clear = base64.b64decode(password, validate=True)
    except binascii.Error:
        clear = password.encode()
    return base64.b64encode(user.encode() + b":" + clear).decode("ascii")


def _options(host: Host) -> dict[str, str]:
    variables = {
        _name(name[len("npm_config_") :]): value
        for name, value in host.environ.items()
        if name.lower().startswith("npm_config_")
    }
    user = variables.get("userconfig") or "~/.npmrc"
    shared = [variables["globalconfig"]] if variables.get("globalconfig") else list(_FILES)
    found: dict[str, str] = {}
    for path in (*shared, user):
        found.update(_lines(host.read_text(path), host.environ))
    return {**found, **variables}


def _name(text: str) -> str:
    """A variable's name as files have it; addresses and scopes stay as they are."""
    return text if text.startswith(("//", "@")) else text.lower().replace("_", "-")


def _lines(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        line = line.strip()
        key, equals, value = line.partition("=")
        if not equals or line.startswith((";", "#", "[")):
            continue
        value = value.strip().strip("\"'")
        value = re.sub(r"\$\{(\w+)\}", lambda match: environ.get(match[1], ""), value)
        found[key.strip()] = value
    return found
