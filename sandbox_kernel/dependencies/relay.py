"""Fetches files of the package index for a builder: the one thing that leaves its sandbox.

A builder's request is a path. What becomes of it:

    /h/HOST/PATH  -> the upstream of that host whose address PATH lies below, by GET or HEAD
    /f/N/PATH     -> a regular file below the N-th upstream, a directory of this host's

Rule 1: what may be asked is `admission`'s to decide; a refusal is an answer like any other.
Rule 2: passwords, tokens, proxies and certificates are put on here and never enter the sandbox.
Rule 3: everything is bounded: requests, bytes of an answer and of a build, seconds.
Rule 4: blocking; the builder calls it in threads.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from sandbox_kernel.dependencies import directories
from sandbox_kernel.dependencies.admission import (
    Refused,
    asked_headers,
    follow,
    is_header,
    links,
    resolve,
    resolve_directory,
)
from sandbox_kernel.dependencies.indexes import Index, Upstream, without_password
from sandbox_kernel.limits import GIB, MIB, format_size

if TYPE_CHECKING:
    import requests

PIECE_BYTES = 512 * 1024
_CONNECT_S, _READ_S = 15.0, 60.0
_MAX_REDIRECTS = 5
# What HTTP clients need of an answer; nothing else comes in.
_TOLD = (
    *("Content-Type", "Content-Length", "Content-Range", "Content-Encoding", "Accept-Ranges"),
    *("ETag", "Last-Modified", "X-PyPI-Last-Serial"),
)
_DOCUMENTS = re.compile(r"(?:text/html|application/(?:[\w.+-]*json|[\w.+-]*html))\b")
_FILES = re.compile(r"\.(?:whl|gz|bz2|xz|zip|tgz|egg|metadata|asc|gem|deb)$")


class Bounds(NamedTuple):
    """How much one build may fetch.

    Args:
        answer_bytes: torch with CUDA is 2.5 GB in one file.
        total_bytes: what a scientific environment with CUDA and its sources takes.
        document_bytes: npm's largest list of versions is 40 MB.
        requests: an application of npm's with 3,000 packages asks twice for each.
    """

    answer_bytes: int = 4 * GIB
    total_bytes: int = 12 * GIB
    document_bytes: int = 64 * MIB
    requests: int = 20_000


class Request(NamedTuple):
    """What a builder asks for; every field is the guest's word, of the right type."""

    method: str
    path: str
    headers: Mapping[str, str]


class Exchange(Protocol):
    """Takes an answer, and says whether anybody still wants it. May block: back-pressure."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None: ...

    def write(self, content: bytes) -> bool: ...


class Relay:
    """Answers the requests of one build.

    Args:
        port: where installers reach the relay inside, for links in documents.
    """

    def __init__(self, index: Index, port: int, bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self.digests: set[str] = set()  # of every file that was handed over whole
        self.problems: list[str] = []  # refusals and failures, the first few
        self._index = index
        self._bounds = bounds
        self._lock = threading.Lock()
        self._local = threading.local()
        self._requests = 0
        self._bytes = 0
        self._is_closed = False
        self._links = links(index, port) if index.has_links else []

    def close(self) -> None:
        """End what is under way at its next piece."""
        self._is_closed = True

    def answer(self, request: Request, exchange: Exchange) -> None:
        """Fetch what is asked for, or say why not. Raises what `exchange` raises.

        Raises:
            Broken: the answer broke off after it had begun.
        """
        try:
            self._count_request()
            if request.method not in ("GET", "HEAD"):
                raise Refused(f"The method {request.method[:20]!r} is not passed on.", 405)
            if request.path.startswith("/f/"):
                self._answer_from_directory(request, exchange)
            else:
                self._answer_from_address(request, exchange)
        except Refused as refusal:
            self._note(str(refusal))
            text = (str(refusal) + "\n").encode("utf-8", "replace")
            headers = {"Content-Type": "text/plain", "Content-Length": str(len(text))}
            exchange.begin(refusal.status, headers)
            exchange.write(text)

    def _note(self, problem: str) -> None:
        with self._lock:
            if len(self.problems) < 20 and problem not in self.problems:
                self.problems.append(problem)

    def _count_request(self) -> None:
        with self._lock:
            self._requests += 1
            if self._requests > self._bounds.requests:
                limit = self._bounds.requests
                raise Refused(f"The installation asked the index over {limit:,} times.", 429)

    def _count_bytes(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            if self._is_closed:
                raise Broken("The build is over.")
            if self._bytes > self._bounds.total_bytes:
                raise self._broken(
                    "The installation fetched over "
                    f"{format_size(self._bounds.total_bytes)}, the most for one build."
                )

    def _broken(self, problem: str) -> Broken:
        if len(self.problems) < 20:
            self.problems.append(problem)
        return Broken(problem)

    # -- directories of this host

    def _answer_from_directory(self, request: Request, exchange: Exchange) -> None:
        root, path = resolve_directory(self._index, request.path)
        found = directories.inside(root, path)
        if not os.path.isdir(found):
            self._answer_with_file(found, request, exchange)
            return
        content = directories.page(root, found, self._bounds.document_bytes)
        headers = {"Content-Type": "text/html", "Content-Length": str(len(content))}
        exchange.begin(200, headers)
        exchange.write(content)

    def _answer_with_file(self, path: str, request: Request, exchange: Exchange) -> None:
        file, size = directories.open_file(path)
        with file:
            kind = "text/html" if path.endswith(".html") else "application/octet-stream"
            exchange.begin(200, {"Content-Type": kind, "Content-Length": str(size)})
            if request.method == "GET":
                pieces = iter(lambda: file.read(PIECE_BYTES), b"")
                self._pass_on(pieces, exchange, is_whole=True)

    # -- addresses

    def _answer_from_address(self, request: Request, exchange: Exchange) -> None:
        upstream, url = resolve(self._index, request.path)
        response = self._fetch(request, upstream, url)
        try:
            self._answer_with(response, request, exchange)
        finally:
            response.close()

    def _fetch(self, request: Request, upstream: Upstream, url: str) -> requests.Response:
        """Ask, and follow redirects as far as they stay in the index."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._ask(request, upstream, url)
            location = response.headers.get("Location", "")
            if response.status_code not in (301, 302, 303, 307, 308) or not location:
                return response
            response.close()
            try:
                upstream, url = follow(self._index, urljoin(url, location))
            except ValueError:
                raise Refused(f"The index redirects to {location[:200]!r}.", 502) from None
        raise Refused(f"The index redirects {url[:200]!r} without end.", 502)

    def _ask(self, request: Request, upstream: Upstream, url: str) -> requests.Response:
        import requests

        headers = asked_headers(request.headers)
        if upstream.authorization:
            headers["Authorization"] = upstream.authorization
        try:
            return self._session().request(
                request.method,
                url,
                headers=headers,
                auth=_auth(upstream),
                verify=upstream.verify,
                cert=upstream.certificate or None,
                proxies=dict(upstream.proxies) if upstream.proxies else None,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_S, _READ_S),
            )
        except (requests.RequestException, OSError, ValueError) as error:
            host = urlsplit(url).netloc
            raise Refused(
                f"The package index at {host} cannot be reached from this machine: "
                f"{_reason(error)}. Check its network, proxy and certificates.",
                502,
            ) from None

    def _session(self) -> requests.Session:
        """One a thread: connections are kept, cookies are not."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            import requests
            from requests.cookies import RequestsCookieJar

            session = self._local.session = requests.Session()
            session.headers.clear()
            session.headers["User-Agent"] = "sandbox-kernel (package relay)"
            session.cookies.set_policy(_no_cookies())
            # Else it looks for what comes next even if it may not go there, and reads the
            # whole of this answer for that, however long it is.
            session.get_redirect_target = _no_target  # type: ignore[method-assign, assignment]
            assert isinstance(session.cookies, RequestsCookieJar)
        return session

    def _answer_with(
        self, response: requests.Response, request: Request, exchange: Exchange
    ) -> None:
        headers = {name: response.headers[name] for name in _TOLD if name in response.headers}
        headers = {name: value for name, value in headers.items() if is_header(value)}
        status = response.status_code
        size = headers.get("Content-Length", "0")
        if size.isdigit() and int(size) > self._bounds.answer_bytes:
            limit = format_size(self._bounds.answer_bytes)
            raise Refused(f"A file of the index has {size} bytes, over {limit}.", 413)
        is_document = self._is_document(request, headers)
        if is_document and status == 200 and request.method == "GET":
            content = self._document(response)
            for name in ("Content-Encoding", "ETag", "Accept-Ranges"):
                headers.pop(name, None)
            headers["Content-Length"] = str(len(content))
            exchange.begin(200, headers)
            exchange.write(content)
            return
        if is_document:
            headers.pop("Content-Length", None)  # of what it is before links are replaced
        exchange.begin(status, headers)
        if request.method == "GET" and status not in (204, 304):
            pieces = _raw(response)
            self._pass_on(pieces, exchange, is_whole=status == 200)

    def _is_document(self, request: Request, headers: Mapping[str, str]) -> bool:
        path = request.path.partition("?")[0].lower()
        kind = headers.get("Content-Type", "").lower()
        return bool(self._links and _DOCUMENTS.match(kind) and not _FILES.search(path))

    def _document(self, response: requests.Response) -> bytes:
        """The whole answer, unpacked, its links to files leading back to the relay."""
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in ("", "identity", "gzip"):
            raise Refused(f"The index answers in the encoding {encoding[:20]!r}.", 502)
        limit = self._bounds.document_bytes
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
        content = bytearray()
        for piece in _raw(response):
            self._count_bytes(len(piece))
            try:
                content += unpack.decompress(piece, limit + 1) if unpack else piece
            except zlib.error:
                raise Refused("The index sent a document that cannot be unpacked.", 502) from None
            if len(content) > limit or (unpack and unpack.unconsumed_tail):
                raise Refused(f"A list of the index is over {format_size(limit)}.", 413)
        text = bytes(content)
        for address, path in self._links:
            text = text.replace(address, path)
        return text

    def _pass_on(self, pieces: Iterator[bytes], exchange: Exchange, *, is_whole: bool) -> None:
        """Hand over a file piece by piece, and remember what it was."""
        size, short, long = 0, sha256(), sha512()
        for piece in pieces:
            size += len(piece)
            self._count_bytes(len(piece))
            if size > self._bounds.answer_bytes:
                limit = format_size(self._bounds.answer_bytes)
                raise self._broken(f"A file of the index is over {limit}.")
            short.update(piece)
            long.update(piece)
            if not exchange.write(piece):
                return
        if is_whole:
            with self._lock:
                self.digests |= {f"sha256:{short.hexdigest()}", f"sha512:{long.hexdigest()}"}


class Broken(Exception):
    """An answer broke off after it had begun; the client inside sees a closed connection."""


def _raw(response: requests.Response) -> Iterator[bytes]:
    """The body as it was sent. Raises `Broken` where the network does."""
    import urllib3

    try:
        yield from response.raw.stream(PIECE_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Broken(f"The package index broke off an answer: {_reason(error)}.") from None


def _auth(upstream: Upstream) -> Any:
    """Credentials for `requests`; a token must not be replaced by the netrc's password."""
    if upstream.credentials is not None:
        return upstream.credentials
    return (lambda request: request) if upstream.authorization else None


def _no_cookies() -> Any:
    from http.cookiejar import DefaultCookiePolicy

    return DefaultCookiePolicy(allowed_domains=[])


def _no_target(_response: requests.Response) -> None:
    return None


def _reason(error: BaseException) -> str:
    """The last cause of a failed request, in a few words and without addresses' passwords."""
    deepest: BaseException = error
    while deepest.__cause__ or deepest.__context__:
        deepest = deepest.__cause__ or deepest.__context__  # type: ignore[assignment]
    text = str(deepest) or type(deepest).__name__
    return without_password(re.sub(r"\s+", " ", text))[:200].rstrip(".")
