"""Finding the engine, and what is said when it isn't one."""

from __future__ import annotations

import itertools
import socket

import pytest

from sandbox_kernel.backends.docker import engine as engines
from sandbox_kernel.backends.docker.engine import Engine, Event, unavailable
from sandbox_kernel.errors import BackendUnavailable


def chained(*errors):
    """The last one, raised from the others."""
    for inner, outer in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[-1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "usermod -aG docker"),
        (chained(PermissionError(13, "Permission denied"), RuntimeError("x")), "usermod"),
        (TimeoutError("timed out"), "does not answer. Restart it"),
        (FileNotFoundError(2, "No such file"), "Start it (`sudo systemctl start docker`)"),
        (ConnectionRefusedError(111, "Connection refused"), "There is no engine at"),
        (ValueError("[SSL] certificate verify failed"), "DOCKER_CERT_PATH"),
        (NameError("name 'SSHHTTPAdapter' is not defined"), "pip install 'sandbox-kernel[ssh]'"),
    ],
)
def test_what_is_wrong_with_the_engine_comes_with_the_remedy(error, said):
    message = str(unavailable(error))
    assert said in message
    assert "\n" not in message


def test_long_and_many_lined_reasons_are_one_short_line():
    message = str(unavailable(OSError("a\nb" * 10_000)))
    assert len(message) < 600
    assert "\n" not in message


def test_address_is_that_of_docker_host(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert engines.place() == "tcp://10.0.0.1:2376"
    assert not Engine().is_local()
    monkeypatch.setenv("DOCKER_HOST", "unix:///somewhere.sock")
    assert Engine().is_local()


def test_users_own_engine_is_found_where_the_machines_is_not_usable(monkeypatch, tmp_path):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        real = engines.os.access
        monkeypatch.setattr(
            engines.os, "access", lambda path, mode: str(tmp_path) in path and real(path, mode)
        )
        assert engines.place() == f"unix://{tmp_path}/docker.sock"


def test_engine_that_accepts_and_says_nothing_is_given_up(monkeypatch, tmp_path):
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with pytest.raises(BackendUnavailable, match="does not answer"):
            Engine(timeout_s=0.3).api()


def test_certificates_are_those_of_docker_and_not_of_the_environment(engine, monkeypatch):
    """`requests` prefers REQUESTS_CA_BUNDLE to the session's own authority."""
    for name in ("REQUESTS_CA_BUNDLE", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    api = Engine().api()
    api.verify = "ours.pem"
    chosen = api.merge_environment_settings("http://10.0.0.1", {}, None, None, None)
    assert chosen["verify"] == "ours.pem"
    assert not chosen["proxies"]


@pytest.mark.parametrize(
    ("item", "event"),
    [
        ({"Action": "start"}, Event("start", None)),
        ({"Action": "die", "Actor": {"Attributes": {"exitCode": "137"}}}, Event("die", 137)),
        ({"Action": "died", "Actor": {"Attributes": {"exitCode": "x"}}}, Event("die", None)),
        ({"Action": "remove"}, Event("destroy", None)),
    ],
)
def test_events_of_all_engines_have_one_name(item, event):
    assert engines._event(item) == event


@pytest.mark.parametrize(("text", "is_time"), [("2026-01-31T12:00:00.123456789Z", True),
                                               ("", False), ("soon", False)])  # fmt: skip
def test_engines_clock_is_read_or_not_there(text, is_time):
    assert bool(engines._seconds(text)) == is_time


def test_events_of_a_container_that_never_was_are_none(engine):
    assert engine.events_of("0" * 64, 0.0) == []


def test_events_of_an_engine_that_went_away_are_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert Engine().events_of("0" * 64, 0.0) is None
    assert not Engine().answers()


def test_removing_what_is_gone_is_no_error(engine):
    engine.remove("0" * 64)
