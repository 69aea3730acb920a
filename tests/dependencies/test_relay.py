"""What of a builder's requests reaches an index, and how much of an answer gets back."""

import gzip
import os
import socket
from hashlib import sha256

import pytest

from sandbox_kernel.dependencies import admission
from sandbox_kernel.dependencies.indexes import Index, Places, Upstream, upstreams_of
from sandbox_kernel.dependencies.relay import Bounds, Broken, Relay, Request
from tests.support.package_index import serving

PORT = 8321


class Answer:
    """Takes an answer as a builder would."""

    def __init__(self, limit_pieces=None):
        self.status, self.headers, self.content = 0, {}, b""
        self._left = limit_pieces

    def begin(self, status, headers):
        self.status, self.headers = status, headers

    def write(self, content):
        self.content += content
        if self._left is not None:
            self._left -= 1
        return self._left != 0


def relay_for(*upstreams, has_links=True, bounds=None):
    index = Index("pip", tuple(upstreams), {}, {}, upstreams[0].title, "", has_links)
    return Relay(index, PORT, bounds or Bounds())


def asked(relay, path, method="GET", headers=None, answer=None):
    answer = answer or Answer()
    relay.answer(Request(method, path, headers or {}), answer)
    return answer


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture
def other():
    with serving() as found:
        yield found


def at(server, path="/"):
    """The path on the relay of `path` at a server."""
    return f"/h/{server.address.partition('//')[2]}{path}"


def upstream(server, base="/", **how):
    return Upstream(server.address + base, **how)


# --- what reaches the index -------------------------------------------------------------


def test_a_file_of_the_index_comes_back_as_it_is(server):
    server.put("/files/a.whl", b"\0\1wheel", "application/octet-stream", ETag='"x"')
    relay = relay_for(upstream(server))
    answer = asked(relay, at(server, "/files/a.whl"))
    assert (answer.status, answer.content) == (200, b"\0\1wheel")
    assert answer.headers["ETag"] == '"x"'
    assert f"sha256:{sha256(answer.content).hexdigest()}" in relay.digests


def test_what_is_not_there_is_not_there(server):
    assert asked(relay_for(upstream(server)), at(server, "/none")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "get", "", "X" * 999])
def test_nothing_but_get_and_head_is_passed_on(server, method):
    answer = asked(relay_for(upstream(server)), at(server, "/files/a"), method)
    assert answer.status == 405
    assert server.asked == []


def test_head_is_passed_on_without_a_body(server):
    server.put("/a.whl", b"12345", "application/octet-stream")
    answer = asked(relay_for(upstream(server)), at(server, "/a.whl"), "HEAD")
    assert (answer.status, answer.content, answer.headers["Content-Length"]) == (200, b"", "5")
    assert server.asked[0][0] == "HEAD"


def test_another_host_is_refused_without_asking_it(server, other):
    other.put("/a", "secret")
    relay = relay_for(upstream(server))
    answer = asked(relay, at(other, "/a"))
    assert answer.status == 403
    assert b"nothing else can be reached" in answer.content
    assert other.asked == []
    assert asked(relay_for(upstream(other)), at(other, "/a")).content == b"secret"


HOSTS = [
    *("169.254.169.254", "localhost", "127.0.0.1", "[::1]", "0x7f.1", "PYPI.org:80", "pypi.org."),
    *(
        "pypi.org@evil.example",
        "user:pass@pypi.org",
        "pypi.org:443",
        "pypi.org%00",
        "",
        "pypi.org\\",
    ),
    *("evil-pypi.org", "pypi.org.evil.example", "pypi。org"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_only_looks_like_the_index_is_refused(host):
    relay = relay_for(Upstream("https://pypi.org/"))
    assert asked(relay, f"/h/{host}/simple/six/").status in (400, 403)


PATHS = [
    *("/pkg/../secret", "/pkg/%2e%2e/secret", "/pkg/%2E./secret", "/pkg/..%2fsecret"),
    *("/pkg/%252e%252e/secret", "/pkg/%25252e%25252e/secret", "/pkg/..;/secret", "/pkg/./secret"),
    *("/pkg/..%5csecret", "/pkg/\\..\\secret", "/secret", "/pkgs/x", "/PKG/x", "//pkg/x"),
    *(
        "/pkg/a b",
        "/pkg/a\r\nX: y",
        "/pkg/a\0",
        "/pkg/%00",
        "/pkg/é",
        "/pkg/#x",
        "/pkg/" + "x" * 5000,
    ),
    *("/pkg/a?" + "q" * 2000, "/pkg/a?x\ny", "/pkg/%2525252525252e/x"),
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_that_leaves_the_index_is_refused_without_asking(server, path):
    answer = asked(relay_for(upstream(server, "/pkg/")), at(server, path))
    assert answer.status in (400, 403)
    assert server.asked == []


@pytest.mark.parametrize(
    "path", ["/pkg/@types%2fnode", "/pkg/a%20b", "/pkg/a..b", "/pkg/a?x=1&y=%2F"]
)
def test_a_path_that_is_only_unusual_is_passed_on(server, path):
    asked(relay_for(upstream(server, "/pkg/")), at(server, path))
    assert [each.lower() for each in server.paths] == [path.lower()]


@pytest.mark.parametrize(
    "path", ["", "/", "/x", "/h", "/h/", "h/pypi.org/", "/f/", "/f/0/x", "/f/-1/x"]
)
def test_a_path_of_no_index_is_refused(path):
    assert asked(relay_for(Upstream("https://pypi.org/")), path).status in (400, 403, 404)


def test_headers_that_could_carry_something_out_are_dropped(server):
    headers = {
        "Accept": "text/html",
        "Range": "bytes=0-1",
        "Cookie": "canary",
        "Authorization": "canary",
        "X-Leak": "canary",
        "Referer": "canary",
        "User-Agent": "canary",
        "If-None-Match": "a\r\nX-Leak: canary",
    }
    asked(relay_for(upstream(server)), at(server, "/a"), headers=headers)
    [(_, _, sent)] = server.asked
    assert "canary" not in str(sent)
    assert (sent["Accept"], sent["Range"]) == ("text/html", "bytes=0-1")


def test_cookies_are_not_kept_between_requests(server):
    server.put("/a", "a", Set_Cookie="id=1; Path=/")
    relay = relay_for(upstream(server))
    assert "Set-Cookie" not in asked(relay, at(server, "/a")).headers
    asked(relay, at(server, "/a"))
    assert all("Cookie" not in headers for _, _, headers in server.asked)


# --- passwords --------------------------------------------------------------------------


def test_passwords_are_put_on_here_and_only_for_their_own_index(server, other):
    secret = upstream(server, "/private/", credentials=("user", "canary"))
    token = upstream(server, "/token/", authorization="Bearer canary")
    relay = relay_for(secret, token, upstream(server), upstream(other))
    for path in (
        at(server, "/private/a"),
        at(server, "/token/a"),
        at(server, "/b"),
        at(other, "/a"),
    ):
        answer = asked(relay, path)
        assert "canary" not in str(answer.headers) + answer.content.decode()
    sent = [headers.get("Authorization", "") for _, _, headers in server.asked + other.asked]
    assert sent[0].startswith("Basic ")
    assert sent[1:] == ["Bearer canary", "", ""]


def test_a_redirect_to_another_upstream_does_not_take_the_password_along(server, other):
    server.redirect("/a", f"{other.address}/a")
    other.put("/a", "here")
    relay = relay_for(upstream(server, credentials=("user", "canary")), upstream(other))
    assert asked(relay, at(server, "/a")).content == b"here"
    assert "Authorization" in server.asked[0][2]
    assert "Authorization" not in other.asked[0][2]


# --- redirects --------------------------------------------------------------------------


def test_a_redirect_out_of_the_index_is_not_followed(server, other):
    other.put("/a", "secret")
    server.redirect("/a", f"{other.address}/a")
    relay = relay_for(upstream(server))
    answer = asked(relay, at(server, "/a"))
    assert answer.status == 403
    assert b"redirects to" in answer.content
    assert other.asked == []
    assert "redirects to" in relay.problems[0]


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "//169.254.169.254/x",
        "/../x",
        "/secret",
        "ftp://x/",
        "gopher://x",
        "\\..\\..\\secret",
    ],
)
def test_a_redirect_to_anything_else_is_not_followed(server, location):
    server.redirect("/pkg/a", location)
    answer = asked(relay_for(upstream(server, "/pkg/")), at(server, "/pkg/a"))
    assert answer.status in (400, 403)
    assert len(server.asked) == 1


def test_a_redirect_within_the_index_is_followed(server):
    server.redirect("/simple/Six/", "/simple/six/")
    server.put("/simple/six/", "six")
    assert asked(relay_for(upstream(server)), at(server, "/simple/Six/")).content == b"six"


def test_redirects_in_a_circle_end(server):
    server.redirect("/a", "/a")
    assert asked(relay_for(upstream(server)), at(server, "/a")).status == 502
    assert len(server.asked) <= 6


@pytest.mark.parametrize(("base", "url"), [("https", "http"), ("http", "https")])
def test_https_does_not_become_http(base, url):
    index = Index("pip", (Upstream(f"{base}://example.org/"),), {}, {}, "x", "")
    if url == "https":
        assert admission.follow(index, f"{url}://example.org/a")[1] == "https://example.org/a"
    else:
        with pytest.raises(admission.Refused):
            admission.follow(index, f"{url}://example.org/a")


# --- documents --------------------------------------------------------------------------


@pytest.mark.parametrize("is_packed", [False, True])
def test_links_in_documents_lead_back_to_the_relay(server, is_packed):
    page = f'<a href="{server.address}/files/a.whl#sha256=0">a</a> https://elsewhere.example/b'
    body = gzip.compress(page.encode()) if is_packed else page
    server.put("/simple/a/", body, **({"Content_Encoding": "gzip"} if is_packed else {}))
    answer = asked(relay_for(upstream(server)), at(server, "/simple/a/"))
    path = at(server, "/files/a.whl").replace(":", "~")
    link = f"http://127.0.0.1:{PORT}{path}#sha256=0"
    assert answer.content.decode() == f'<a href="{link}">a</a> https://elsewhere.example/b'
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert "Content-Encoding" not in answer.headers


def test_links_in_files_stay_as_they_are(server):
    text = f"{server.address}/files/"
    for path, kind in (
        ("/a.whl.metadata", "text/html"),
        ("/a.tgz", "text/html"),
        ("/b", "text/plain"),
    ):
        server.put(path, text, kind)
        assert asked(relay_for(upstream(server)), at(server, path)).content == text.encode()


def test_a_document_that_unpacks_without_end_is_refused(server):
    server.put("/simple/", gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")
    relay = relay_for(upstream(server), bounds=Bounds(document_bytes=1_000_000))
    assert asked(relay, at(server, "/simple/")).status == 413


# --- bounds -----------------------------------------------------------------------------


def test_a_file_over_the_bound_is_refused_by_its_announced_size(server):
    server.put("/a.whl", bytes(2000), "application/octet-stream")
    relay = relay_for(upstream(server), bounds=Bounds(answer_bytes=1000))
    assert asked(relay, at(server, "/a.whl")).status == 413


def test_a_build_over_its_bytes_is_broken_off(server):
    server.put("/a.whl", bytes(600), "application/octet-stream")
    relay = relay_for(upstream(server), bounds=Bounds(total_bytes=1000))
    assert asked(relay, at(server, "/a.whl")).status == 200
    with pytest.raises(Broken, match="the most for one build"):
        asked(relay, at(server, "/a.whl"))


def test_a_build_over_its_requests_is_refused(server):
    relay = relay_for(upstream(server), bounds=Bounds(requests=2))
    statuses = [asked(relay, at(server, "/a")).status for _ in range(3)]
    assert statuses == [404, 404, 429]


def test_a_file_that_nobody_wants_any_more_is_not_fetched_to_its_end(server):
    server.put("/a.whl", bytes(5_000_000), "application/octet-stream")
    relay = relay_for(upstream(server))
    answer = asked(relay, at(server, "/a.whl"), answer=Answer(limit_pieces=1))
    assert len(answer.content) < 2_000_000
    assert relay.digests == set()


def test_a_closed_relay_fetches_nothing_more(server):
    server.put("/a.whl", b"x", "application/octet-stream")
    relay = relay_for(upstream(server))
    relay.close()
    with pytest.raises(Broken):
        asked(relay, at(server, "/a.whl"))


def test_an_index_that_cannot_be_reached_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    relay = relay_for(Upstream(f"http://127.0.0.1:{port}/", credentials=("user", "canary")))
    answer = asked(relay, f"/h/127.0.0.1:{port}/simple/")
    assert answer.status == 502
    assert f"127.0.0.1:{port} cannot be reached from this machine" in relay.problems[0]
    assert "canary" not in relay.problems[0]


# --- directories of this host -------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "index"
    (root / "simple" / "a").mkdir(parents=True)
    (root / "simple" / "a" / "index.html").write_text('<a href="../../a.whl">a</a>')
    (root / "a.whl").write_bytes(b"wheel")
    (root / "b & c.whl").write_bytes(b"x")
    (tmp_path / "secret").write_text("canary")
    return root


def test_a_directory_is_served_with_its_pages_and_lists(directory):
    relay = relay_for(Upstream("", directory=str(directory)))
    assert asked(relay, "/f/0/simple/a/").content == b'<a href="../../a.whl">a</a>'
    assert asked(relay, "/f/0/a.whl").content == b"wheel"
    listed = asked(relay, "/f/0/").content.decode()
    assert '<a href="b%20%26%20c.whl">b &amp; c.whl</a>' in listed
    assert asked(relay, "/f/0/b%20%26%20c.whl").content == b"x"


@pytest.mark.parametrize(
    "path",
    [
        "/f/0/../secret",
        "/f/0/%2e%2e/secret",
        "/f/0/link",
        "/f/0/up/secret",
        "/f/0//etc/passwd",
        "/f/1/a",
        "/h//etc/passwd",
    ],
)
def test_nothing_outside_of_a_directory_is_served(directory, path):
    (directory / "link").symlink_to(directory.parent / "secret")
    (directory / "up").symlink_to(directory.parent)
    answer = asked(relay_for(Upstream("", directory=str(directory))), path)
    assert answer.status in (400, 403, 404)
    assert b"canary" not in answer.content
    assert b"root:" not in answer.content


def test_a_page_that_is_a_link_out_of_the_directory_is_not_served(directory):
    (directory / "index.html").symlink_to(directory.parent / "secret")
    assert asked(relay_for(Upstream("", directory=str(directory))), "/f/0/").status == 403


def test_a_link_within_a_directory_is_served(directory):
    (directory / "latest.whl").symlink_to("a.whl")
    relay = relay_for(Upstream("", directory=str(directory)))
    assert asked(relay, "/f/0/latest.whl").content == b"wheel"


def test_a_fifo_in_a_directory_is_no_file(directory):
    os.mkfifo(directory / "pipe.whl")
    assert asked(relay_for(Upstream("", directory=str(directory))), "/f/0/pipe.whl").status == 404


def test_a_directory_named_simple_is_served_with_what_lies_beside_it(directory):
    places = Places()
    path = places.add(f"file://{directory}/simple")
    relay = relay_for(*places.upstreams)
    assert asked(relay, f"{path}a/").status == 200
    assert asked(relay, path.replace("simple/", "a.whl")).content == b"wheel"


def test_files_of_an_index_may_lie_beside_its_list_and_nowhere_else(server):
    found = upstreams_of(f"{server.address}/api/pypi/repo/simple")
    relay = relay_for(*found)
    server.put("/api/pypi/repo/packages/a.whl", b"x", "application/octet-stream")
    assert asked(relay, at(server, "/api/pypi/repo/packages/a.whl")).status == 200
    assert asked(relay, at(server, "/api/users")).status == 403
