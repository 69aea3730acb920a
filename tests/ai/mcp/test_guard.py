"""Who may come in over HTTP. Every refusal has its twin: the same request, but for one header."""

import pytest

from sandbox_kernel.ai.mcp.guard import (
    Guard,
    check_host,
    check_origin,
    check_token,
)
from sandbox_kernel.errors import SettingsError

TOKEN = "correct-horse-battery"
GUARD = Guard(TOKEN, 8765, ["http://localhost:6274"])
HOST, AUTH = (b"host", b"127.0.0.1:8765"), (b"authorization", f"Bearer {TOKEN}".encode())


def status(*headers: tuple[bytes, bytes], method: str = "POST", path: str = "/mcp") -> int | None:
    refusal = GUARD.refusal(method, path, headers)
    return refusal.status if refusal else None


def test_a_client_with_the_token_comes_in():
    for method in ("GET", "POST", "DELETE"):
        assert status(HOST, AUTH, method=method) is None


@pytest.mark.parametrize(
    "host", [b"127.0.0.1:8765", b"localhost:8765", b"LocalHost:8765", b"[::1]:8765"]
)
def test_the_names_of_loopback_are_ours(host):
    assert status((b"host", host), AUTH) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example:8765",
        b"127.0.0.1",
        b"127.0.0.1:80",
        b"localhost.evil.example:8765",
        b"127.0.0.1:8765.evil.example",
        b"127.0.0.1:8765@evil.example",
        b"evil.example#127.0.0.1:8765",
        b"0.0.0.0:8765",
        b"2130706433:8765",
        b"localhost.:8765",
        b"",
    ],
)
def test_any_other_host_is_refused(host):
    """DNS rebinding: the browser sends the stranger's name to our address."""
    assert status((b"host", host), AUTH) == 421


def test_no_host_and_two_hosts_are_refused():
    assert status(AUTH) == 421
    assert status(HOST, HOST, AUTH) == 421
    assert status(HOST, (b"Host", b"evil.example"), AUTH) == 421


@pytest.mark.parametrize("origin", [b"http://127.0.0.1:8765", b"http://localhost:6274"])
def test_an_allowed_origin_comes_in(origin):
    assert status(HOST, AUTH, (b"origin", origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"",
        b"http://localhost",
        b"https://localhost:6274",
        b"http://localhost:6274.evil.example",
        b"http://localhost:62740",
        b"file://",
    ],
)
def test_any_other_origin_is_refused(origin):
    assert status(HOST, AUTH, (b"origin", origin)) == 403


def test_two_origins_are_refused():
    origin = (b"origin", b"http://localhost:6274")
    assert status(HOST, AUTH, origin, origin) == 403


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong-horse-battery",
        f"Basic {TOKEN}".encode(),
        f"Bearer {TOKEN}x".encode(),
        f"Bearer {TOKEN[:-1]}".encode(),
        TOKEN.encode(),
        b"Bearer \xff\xfe",
    ],
)
def test_without_the_token_nobody_comes_in(value):
    refusal = GUARD.refusal("POST", "/mcp", [HOST, (b"authorization", value)])
    assert refusal is not None
    assert refusal.status == 401
    assert TOKEN not in refusal.sentence
    assert dict(refusal.headers)[b"www-authenticate"].startswith(b"Bearer")


def test_no_token_and_two_tokens_are_refused():
    assert status(HOST) == 401
    assert status(HOST, AUTH, AUTH) == 401


def test_strangers_do_not_learn_what_there_is():
    """The token comes before the path: who has none sees one answer everywhere."""
    assert status(HOST, path="/anything") == 401
    assert status(HOST, AUTH, path="/anything") == 404
    assert status(HOST, AUTH, method="PUT") == 405


def test_at_the_port_of_http_a_host_has_no_port():
    assert Guard(TOKEN, 80).refusal("POST", "/mcp", [(b"host", b"localhost"), AUTH]) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_loopback_addresses_are_listened_at(host):
    assert check_host(host) in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.2", ""])
def test_no_address_that_others_reach_is_listened_at(host):
    with pytest.raises(SettingsError, match="loopback"):
        check_host(host)


def test_a_token_is_long_enough_and_fits_a_header():
    assert check_token("0123456789abcdef", "a test") == "0123456789abcdef"
    for bad in ("short", "", "0123456789 abcdef", "0123456789abcdé", "0123456789abcdef\n"):
        with pytest.raises(SettingsError, match="16 or more") as raised:
            check_token(bad, "a test")
        assert not bad or bad not in str(raised.value)


def test_an_origin_is_scheme_host_and_port():
    assert check_origin("http://LocalHost:6274") == "http://localhost:6274"
    for bad in ("*", "null", "localhost:6274", "http://localhost:6274/", "http://a b"):
        with pytest.raises(SettingsError, match="no origin"):
            check_origin(bad)
