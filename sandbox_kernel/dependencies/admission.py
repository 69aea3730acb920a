"""What a builder may have of an index: every decision of the relay's, as pure functions.

This is the file that answers: what can a package's build script reach?

Rule 1: fails closed. What is not plainly below an upstream is `Refused`, and nobody is asked.
Rule 2: decisions are about texts exactly as they are sent on; nothing is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from sandbox_kernel.dependencies.indexes import Index, Upstream, relay_path, without_password

_MAX_PATH, _MAX_HEADER = 4096, 1024
# What HTTP clients need of a request; nothing else goes out.
_ASKED = frozenset(("accept", "accept-encoding", "range", "if-none-match", "if-modified-since"))
_PLAIN = re.compile(r"[!-~]+")


class Refused(Exception):
    """This request is not passed on; `str` says why, for the installer's output."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.status = status


def resolve(index: Index, path: str) -> tuple[Upstream, str]:
    """The upstream that may be asked for a path on the relay, and the address.

    Raises:
        Refused: the path lies below no upstream.
    """
    if not path.startswith("/h/"):
        raise Refused(f"{path[:200]!r} is no path of the index.", 404)
    authority, slash, rest = path[len("/h/") :].partition("/")
    rest, mark, query = rest.partition("?")
    clean = clean_path(slash + rest) + mark + clean_query(query)
    # However it is spelt, it must equal one of ours. A proxy's client writes the colon.
    authority = unquote(authority).lower().replace("~", ":")
    if not _PLAIN.fullmatch(authority):  # it is said again to readers
        raise Refused(f"{authority[:100]!r} is no host of the index.", 400)
    found = _find(index, authority, clean)
    if found is None:
        raise Refused(
            f"{authority[:100]}{clean[:200]} is not a part of the package index "
            f"{without_password(index.title)}, and nothing else can be reached from a "
            "builder."
        )
    scheme = urlsplit(found.base).scheme
    return found, f"{scheme}://{authority}{clean}"


def resolve_directory(index: Index, path: str) -> tuple[str, str]:
    """The directory of this host that a path on the relay means, and the path below it.

    Raises:
        Refused: it means none.
    """
    number, _, rest = path[len("/f/") :].partition("/")
    known = {str(each): upstream for each, upstream in enumerate(index.upstreams)}
    if number not in known or not known[number].directory:
        raise Refused(f"{path[:200]!r} is no directory of the index.", 404)
    clean = clean_path("/" + rest.partition("?")[0])
    return known[number].directory, unquote(clean).lstrip("/")


def _find(index: Index, authority: str, path: str, scheme: str = "") -> Upstream | None:
    """The upstream with the longest base that an address lies below."""
    found = []
    for each in index.upstreams:
        base = urlsplit(each.base)
        if each.base and base.netloc == authority and path.startswith(base.path):
            if scheme and base.scheme != scheme and (scheme, base.scheme) != ("https", "http"):
                continue  # no way down to clear text
            found.append(each)
    return max(found, key=lambda each: (len(each.base), each.base), default=None)


def follow(index: Index, url: str) -> tuple[Upstream, str]:
    """As `resolve`, for where the index redirects to.

    Raises:
        Refused: that is no part of the index.
    """
    parts = urlsplit(url)
    netloc = parts.netloc.lower()
    path = clean_path(parts.path or "/")
    found = _find(index, netloc, path, parts.scheme) if parts.scheme != "file" else None
    if found is None or parts.scheme not in ("http", "https"):
        raise Refused(
            f"The package index redirects to {netloc[:100] or url[:100]}, which is no part of "
            "it. If it belongs to your index, name it as an index of its own (pip: "
            "extra-index-url)."
        )
    query = f"?{parts.query}" if parts.query else ""
    return found, f"{parts.scheme}://{netloc}{path}{query}"


def clean_path(path: str) -> str:
    """`path` as it was sent, if it can only mean what it says.

    Raises:
        Refused: it could lead upwards, or is no path.
    """
    if not path.startswith("/") or len(path) > _MAX_PATH or not _PLAIN.fullmatch(path):
        raise Refused(f"{path[:200]!r} is no path of the index.", 400)
    decoded = path
    # A server in front of another may decode more than once.
    for _ in range(4):
        parts = decoded.replace("\\", "/").split("/")
        # Some servers cut a segment off at a semicolon before they look at its dots.
        names = [part.partition(";")[0] for part in parts]
        if "." in names or ".." in names or "\0" in decoded or "#" in decoded:
            raise Refused(f"{path[:200]!r} leads out of the index.", 400)
        further = unquote(decoded)
        if further == decoded:
            return path
        decoded = further
    raise Refused(f"{path[:200]!r} is encoded too often.", 400)


def clean_query(query: str) -> str:
    if query and (len(query) > _MAX_HEADER or not _PLAIN.fullmatch(query) or "#" in query):
        raise Refused("The query is too long or holds what no query has.", 400)
    return query


def asked_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Of a request's headers those that an index needs."""
    headers = {
        name.title(): value
        for name, value in given.items()
        if name.lower() in _ASKED and len(value) <= _MAX_HEADER and is_header(value)
    }
    # What we can unpack; and what nobody asked for is not sent packed.
    wanted = headers.get("Accept-Encoding", "")
    headers["Accept-Encoding"] = (
        "gzip" if "gzip" in wanted and "Range" not in headers else "identity"
    )
    return headers


def is_header(value: str) -> bool:
    """Whether `value` can only be the value of one header."""
    return value.isascii() and value.isprintable()


def links(index: Index, port: int) -> list[tuple[bytes, bytes]]:
    """What to replace in documents: addresses of upstreams, longest first."""
    here = f"http://127.0.0.1:{port}"
    found = {
        base: here + relay_path(each.base)
        for each in index.upstreams
        if each.base
        for base in _spellings(each.base)
    }
    ordered = sorted(found.items(), key=lambda item: len(item[0]), reverse=True)
    return [(address.encode(), path.encode()) for address, path in ordered]


def _spellings(base: str) -> tuple[str, ...]:
    """An index behind a proxy may write http where it is asked by https."""
    rest = base.partition("://")[2]
    return f"https://{rest}", f"http://{rest}"
