"""Containers whose owner is gone are removed, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_kernel.backends.docker import owners
from sandbox_kernel.errors import BackendUnavailable
from tests.support import docker_engine
from tests.support.syscall_probe import Call, image

PROGRAM = """
import json, sys
from sandbox_kernel.backends.docker import owners
print(json.dumps(owners.labels("ab12")), flush=True)
sys.stdin.read()
"""


def somebody() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    process = somebody()
    yield process
    process.kill()
    process.communicate()


def labels_of(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    found: dict[str, str] = json.loads(process.stdout.readline())
    return found


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def changed(labels: dict[str, str], **fields: str) -> dict[str, str]:
    owner = owners.Owner(*labels[owners.OWNER_LABEL].split("/"))._replace(**fields)
    return {**labels, owners.OWNER_LABEL: "/".join(owner)}


# --- who is gone ----------------------------------------------------------------------


def test_our_own_containers_are_not_abandoned():
    assert not owners.is_abandoned(owners.labels("ab12"))


def test_a_container_is_abandoned_when_its_owner_has_died(owner):
    labels = labels_of(owner)
    assert not owners.is_abandoned(labels)
    end(owner)
    assert owners.is_abandoned(labels)


def test_an_owner_whom_nobody_has_buried_is_gone(owner):
    """A zombie: its parent does not ask for it."""
    labels = labels_of(owner)
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert owners.is_abandoned(labels)


def test_a_later_process_with_the_number_of_the_owner_is_not_the_owner(owner):
    assert owners.is_abandoned(changed(labels_of(owner), start="1"))


def test_an_owner_before_the_last_boot_is_gone(owner):
    labels = changed(labels_of(owner), boot="0" * 8 + "-0000-0000-0000-" + "0" * 12)
    assert owners.is_abandoned(labels)


@pytest.mark.parametrize(
    "fields",
    [
        {"machine": "0" * 32},
        {"machine": "0" * 32, "boot": "0" * 8},
        {"namespace": "1"},
        {"boot": ""},
    ],
)
def test_an_owner_elsewhere_is_not_ours_to_judge(owner, fields):
    labels = labels_of(owner)
    end(owner)
    assert owners.is_abandoned(labels)
    assert not owners.is_abandoned(changed(labels, **fields))


@pytest.mark.parametrize(
    "text", ["", "x", "1/2/3/4/5", "/" * 4, "0" * 32 + "/a/1/0/1", "0" * 32 + "/a/1/1/1\n"]
)
def test_labels_that_are_not_ours_are_of_living_owners(text):
    assert not owners.is_abandoned({owners.OWNER_LABEL: text, owners.SESSION_LABEL: "ab12"})
    assert not owners.is_abandoned({})


def test_without_the_label_of_a_session_it_is_not_a_sandbox(owner):
    labels = labels_of(owner)
    end(owner)
    del labels[owners.SESSION_LABEL]
    assert not owners.is_abandoned(labels)


def test_another_users_process_that_is_hidden_is_not_gone(monkeypatch):
    """As where /proc is mounted with hidepid."""
    labels = owners.labels("ab12")
    us = owners._us()

    def forbidden(_pid: int, _signal: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(owners, "_us", lambda: us)
        patch.setattr(owners, "_start", lambda _pid: None)
        patch.setattr(os, "kill", forbidden)
        assert not owners.is_abandoned(labels)


def test_labels_tell_nothing_of_the_machine():
    text = owners.labels("ab12")[owners.OWNER_LABEL]
    assert os.uname().nodename not in text
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            assert file.read().strip() not in text
    except OSError:
        pass  # there is none to tell of


# --- what is removed ------------------------------------------------------------------


@pytest.fixture(scope="module")
def api() -> Any:
    docker_engine.require()
    return docker_engine.api()


@pytest.fixture
def make_container(api) -> Iterator[Any]:
    """A container that exists; it need not run to be removed."""
    name = f"sandbox-kernel-test/owners-{os.urandom(4).hex()}"
    identity = json.loads(api.import_image_from_data(image([Call(39)]), repository=name))["status"]
    made: list[str] = []

    def make(labels: dict[str, str]) -> str:
        made.append(api.create_container(identity, command=["/probe"], labels=labels)["Id"])
        return made[-1]

    yield make
    for container_id in made:
        if container_id in [row["Id"] for row in api.containers(all=True)]:
            api.remove_container(container_id, force=True)
    api.remove_image(identity, force=True)


def test_only_containers_of_dead_owners_are_removed(api, make_container, owner):
    labels = labels_of(owner)
    others = [
        make_container(owners.labels("cd34")),
        make_container(changed(labels, machine="0" * 32)),
        make_container({owners.SESSION_LABEL: "ab12"}),
    ]
    theirs = make_container(labels)
    assert not [line for line in owners.collect(api) if theirs[:12] in line]
    end(owner)
    assert [line for line in owners.collect(api) if theirs[:12] in line] == [
        f"container {theirs[:12]} of sandbox ab12, whose owner is gone"
    ]
    left = [row["Id"] for row in api.containers(all=True)]
    assert theirs not in left
    assert set(others) <= set(left)


def test_a_container_that_somebody_else_removes_meanwhile_is_no_error(api, make_container, owner):
    labels = labels_of(owner)
    theirs = make_container(labels)
    end(owner)

    class Late:
        """Another collector comes first, between our look and our removal."""

        def containers(self, **options: Any) -> Any:
            found = api.containers(**options)
            api.remove_container(theirs, force=True)
            return [row for row in found if row["Id"] == theirs]

        remove_container = api.remove_container

    assert owners.collect(Late()) == []


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    import docker

    api = docker.APIClient(base_url="unix:///nonexistent/docker.sock", version="1.41")
    with pytest.raises(BackendUnavailable):
        owners.collect(api)
