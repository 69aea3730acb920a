"""How a request differs for gVisor, and when it does."""

from __future__ import annotations

import pytest

from sandbox_kernel.backends.docker import gvisor
from sandbox_kernel.limits import Limits

INFO = {
    "DefaultRuntime": "runc",
    "Runtimes": {
        "runc": {"path": "runc"},
        "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none"]},
        "careful": {"path": "/usr/local/bin/runsc"},
        "shim": {"runtimeType": "io.containerd.runsc.v1"},
        "kata": {"path": "/opt/gvisor-free/kata-runtime"},
    },
}
LIMITS = Limits(memory_bytes=128 * 2**20, processes=40, workspace_inodes=500)
REQUEST = {
    "Image": "x",
    "HostConfig": {
        "Memory": LIMITS.memory_bytes,
        "MemorySwap": LIMITS.memory_bytes,
        "PidsLimit": LIMITS.processes,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "Mounts": [{"Type": "bind", "Target": "/data"}],
        "Tmpfs": {"/tmp": "rw,nosuid,size=1,nr_inodes=500", "/workspace": "mode=0700"},
    },
}


@pytest.mark.parametrize("name", ["runsc", "careful", "shim", "io.containerd.runsc.v1"])
def test_gvisor_is_known_by_its_name_and_by_its_program(name):
    assert gvisor.is_used(name, INFO)


@pytest.mark.parametrize("name", [None, "runc", "kata", "unknown"])
def test_other_runtimes_are_not_taken_for_gvisor(name):
    assert not gvisor.is_used(name, INFO)


def test_gvisor_as_the_engines_default_is_seen_when_nobody_names_a_runtime():
    assert gvisor.is_used(None, {**INFO, "DefaultRuntime": "runsc"})
    assert not gvisor.is_used("runc", {**INFO, "DefaultRuntime": "runsc"})


def test_an_engine_that_tells_nothing_of_its_runtimes_is_judged_by_the_name():
    assert not gvisor.is_used(None, {})
    assert gvisor.is_used("runsc", {})


def test_every_tmpfs_becomes_a_nameless_volume_with_the_same_options():
    host = gvisor.adapted(REQUEST, LIMITS)["HostConfig"]
    assert "Tmpfs" not in host
    bind, *volumes = host["Mounts"]
    assert bind == REQUEST["HostConfig"]["Mounts"][0]
    assert {v["Target"]: v["VolumeOptions"]["DriverConfig"]["Options"]["o"] for v in volumes} == (
        REQUEST["HostConfig"]["Tmpfs"]
    )
    # One with a name would outlive its container.
    assert all("Source" not in volume and volume["Type"] == "volume" for volume in volumes)
    assert all(volume["VolumeOptions"]["NoCopy"] for volume in volumes)


def test_processes_are_limited_inside_and_the_threads_of_gvisor_have_room():
    host = gvisor.adapted(REQUEST, LIMITS)["HostConfig"]
    assert {"Name": "nproc", "Soft": 40, "Hard": 40} in host["Ulimits"]
    assert REQUEST["HostConfig"]["Ulimits"][0] in host["Ulimits"]
    assert 40 * 4 < host["PidsLimit"] < 2000


def test_gvisors_own_memory_is_allowed_for_and_nothing_may_be_swapped():
    host = gvisor.adapted(REQUEST, LIMITS)["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == LIMITS.memory_bytes + 64 * 2**20


def test_the_request_that_came_in_is_not_changed():
    before = repr(REQUEST)
    gvisor.adapted(REQUEST, LIMITS)
    assert repr(REQUEST) == before
