"""`check`: found by trying on a real engine; what engines say of themselves is judged by value."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sandbox_kernel import doctor
from sandbox_kernel.backends.docker import check as checking
from sandbox_kernel.backends.docker import container, engine, versions
from sandbox_kernel.backends.docker.backend import DockerBackend
from sandbox_kernel.backends.docker.engine import Engine
from sandbox_kernel.errors import BackendUnavailable
from tests.support import docker_engine

# --- on an engine ---------------------------------------------------------------------


@pytest.fixture
def backend() -> DockerBackend:
    docker_engine.require()
    return DockerBackend(Engine())


def test_where_this_suite_runs_containers_isolate(backend):
    found = backend.check()
    assert found.is_usable, found
    assert "no network" in found.boundary
    assert found.details["engine"] in found.boundary
    assert found.details["image"].startswith("sandbox-kernel/python, made for")
    assert docker_engine.containers_of(os.getpid()) == []


def test_an_image_that_is_not_there_is_named_with_the_way_to_it(backend, monkeypatch):
    monkeypatch.setattr(checking, "SandboxSpec", _spec_of_a_missing_image)
    found = backend.check()
    assert not found.is_usable
    assert "sandbox-kernel/nothing" in found.reason
    assert "sandbox-kernel setup docker" in found.remedy


def _spec_of_a_missing_image(**fields: Any) -> Any:
    from sandbox_kernel.backends.base import SandboxSpec

    return SandboxSpec(**fields, image="sandbox-kernel/nothing")


@pytest.mark.parametrize(
    "code",
    ["print('[]', flush=True)", "print('{}', flush=True)", "print('hello', flush=True)", "1/0"],
)
def test_a_probe_that_makes_no_sense_is_no_proof(backend, monkeypatch, code):
    monkeypatch.setattr(checking, "PROBE", code)
    found = backend.check()
    assert not found.is_usable
    assert "probe in a container" in found.reason
    assert docker_engine.containers_of(os.getpid()) == []


def test_an_isolation_that_is_missing_is_seen(backend, monkeypatch):
    """The twin of the first test: the same probe in a container with less."""
    honest = container.body

    def lax(*args: Any, **options: Any) -> Any:
        body = honest(*args, **options)
        body["User"] = "0:0"
        body["HostConfig"] |= {"SecurityOpt": ["seccomp=unconfined"], "ReadonlyRootfs": False}
        body["HostConfig"] |= {"CapDrop": [], "Memory": 2**29, "MemorySwap": 2**29}
        body["HostConfig"]["PidsLimit"] = 100
        return body

    monkeypatch.setattr(container, "body", lax)
    reason = backend.check().reason
    for said in ("uid is 0", "capabilities", "gain privileges", "no system call filter", "'/x'"):
        assert said in reason
    for said in ("memory limit is 536870912", "limit of processes is 100"):
        assert said in reason


def test_without_an_engine_the_remedy_is_said(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    found = DockerBackend(Engine()).check()
    assert not found.is_usable
    assert "/nonexistent/docker.sock" in found.reason
    assert "setup docker" in found.remedy


def test_doctor_does_not_complain_of_an_engine_that_nobody_chose(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setattr("sandbox_kernel.backends.docker.backend._ENGINE", Engine())
    for options, level in (({"backend": "bubblewrap"}, "note"), ({"backend": "docker"}, "problem")):
        report = doctor.examine(options)
        (found,) = [item for item in report.findings if item.subject == "docker"]
        assert found.level == level
        assert found.remedy
        assert report.is_usable == (level == "note")


# --- what an engine says of itself ----------------------------------------------------

ABLE = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}


def test_an_engine_that_can_limit_and_filter_will_do():
    checking._require_able("1.41", ABLE, ["seccomp,profile=default"])
    checking._require_able("1.100", {}, [])


@pytest.mark.parametrize(
    ("api_version", "info", "security", "said"),
    [
        ("1.40", ABLE, ["seccomp"], "1.40"),
        ("1.41", ABLE, ["apparmor"], "without seccomp"),
        ("1.41", {**ABLE, "MemoryLimit": False}, ["seccomp"], "limit memory"),
        ("1.41", {**ABLE, "PidsLimit": False}, ["seccomp"], "limit processes"),
        ("1.41", {**ABLE, "CpuCfsQuota": False}, ["seccomp"], "limit CPUs"),
    ],
)
def test_an_engine_that_cannot_is_refused(api_version, info, security, said):
    with pytest.raises(BackendUnavailable, match=said):
        checking._require_able(api_version, info, security)


def test_users_are_described_as_the_engine_maps_them():
    assert "61184" in checking._users(["seccomp"])
    assert "sub-uids" in checking._users(["seccomp", "rootless"])
    assert "maps" in checking._users(["userns"])


def test_the_oldest_api_is_that_of_the_engine_module():
    assert checking._numbers(engine.API_VERSION) > checking._numbers("1.9")


# --- what a probe sees ----------------------------------------------------------------

GOOD: dict[str, Any] = {
    "pid": 1,
    "uid": container.FIRST_UID,
    "groups": [],
    "capabilities": 0,
    "no_new_privileges": 1,
    "seccomp": 2,
    "network": [],
    "routes": 0,
    "writable": [],
    "unwritable": [],
    "sizes": {"/workspace": checking._LIMITS.workspace_bytes},
    "memory": checking._LIMITS.memory_bytes,
    "processes": checking._LIMITS.processes,
    "sockets": [],
}


def test_what_a_sandbox_should_see_breaks_no_promise():
    assert checking._judge(GOOD, False) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", 7),
        ("uid", 0),
        ("uid", 1000),
        ("groups", [0]),
        ("capabilities", 1),
        ("no_new_privileges", 0),
        ("seccomp", 0),
        ("network", ["eth0"]),
        ("routes", 1),
        ("writable", ["/etc/x"]),
        ("unwritable", ["/tmp/x"]),
        ("sizes", {"/tmp": 2**40}),
        ("memory", None),
        ("processes", None),
        ("sockets", ["/var/run/docker.sock"]),
    ],
)
def test_each_broken_promise_is_named(name, value):
    assert len(checking._judge({**GOOD, name: value}, False)) == 1


def test_a_kernel_of_the_guests_own_is_not_asked_for_the_filter_around_it():
    seen = {**GOOD, "seccomp": 0, "no_new_privileges": -1, "memory": None, "processes": None}
    assert checking._judge(seen, True) == []
    assert checking._has_own_kernel("runsc")
    assert checking._has_own_kernel("io.containerd.kata.v2")
    assert not checking._has_own_kernel("runc")


# --- versions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        ("1.1.5+ds1-1+deb12u1", True),
        ("1.2.7", True),
        ("1.2.8", False),
        ("1.3.2", True),
        ("v1.3.3", False),
        ("1.3.10", False),
        ("1.4.0-rc.2", True),
        ("1.4.0-rc3", False),
        ("1.4.0", False),
        ("2.0.0", False),
        ("1.0.0-rc93", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_a_version_is_affected_when_it_is_older_than_its_branchs_fix(version, is_affected):
    assert versions.is_affected(version, ["1.2.8", "1.3.3", "1.4.0-rc3"]) == is_affected


def _component(name: str, version: str, commit: str) -> dict[str, Any]:
    return {"Name": name, "Version": version, "Details": {"GitCommit": commit}}


def test_the_versions_that_distributions_write_are_shown_whole():
    answer = {
        "Components": [
            _component("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"),
            _component("Engine", "28.5.0", "abc123"),
            {"Name": "docker-init", "Version": "", "Details": None},
        ]
    }
    found = versions.components(answer)
    assert found == {"runc": "1.1.5+ds1-1+deb12u1", "engine": "28.5.0"}
    told = versions.warnings(found)
    assert [text for text in told if "CVE-2025-31133" in text and "1.2.8 / 1.3.3" in text]
    assert [text for text in told if "CVE-2024-21626" in text and "1.1.12" in text]
    assert all("unless your distribution has patched it" in text for text in told)
    assert not [text for text in told if "Engine" in text]


def test_current_versions_are_warned_of_by_nobody():
    assert versions.warnings({"runc": "1.3.3", "containerd": "2.2.0", "engine": "29.0.1"}) == []
    assert versions.warnings({}) == []
    assert versions.components({}) == {}
