"""The body of the create call, as a value. What it makes is judged in `test_hardening`."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import container
from sandbox_kernel.backends.docker.container import Machine
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.limits import Limits

INFO = {
    "NCPU": 4,
    "MemTotal": 8 * 2**30,
    "Architecture": "x86_64",
    "Runtimes": {"runc": {}, "runsc": {}},
}


def body(spec=None, info=None, **options):
    arguments = {
        "image": "some-image",
        "command": ["sh", "-c", "true"],
        "uid": 61200,
        "gid": 61200,
        "seccomp": "{}",
        "labels": {"a": "b"},
        "mounts": [],
        "tmpfs": {},
    }
    machine = Machine.from_info({**INFO, **(info or {})})
    return container.body(spec or SandboxSpec(), machine, **{**arguments, **options})


def test_every_limit_is_in_the_request():
    limits = Limits(
        memory_bytes=300 * 2**20,
        cpus=1.5,
        processes=77,
        workspace_bytes=20 * 2**20,
        workspace_inodes=500,
        open_files=333,
    )
    config = body(SandboxSpec(limits=limits))["HostConfig"]
    assert config["Memory"] == config["MemorySwap"] == 300 * 2**20
    assert config["NanoCpus"] == 1_500_000_000
    assert config["PidsLimit"] == 77
    assert {"Name": "nofile", "Soft": 333, "Hard": 333} in config["Ulimits"]
    for path in ("/workspace", "/home/sandbox", "/tmp", "/dev/shm"):
        options = config["Tmpfs"][path].split(",")
        assert {"size=20971520", "nr_inodes=500", "nosuid", "nodev"} <= set(options)


def test_nothing_of_the_host_is_in_the_request(monkeypatch):
    for name in ("HTTP_PROXY", "AWS_SECRET_ACCESS_KEY", "USER", "HOME"):
        monkeypatch.setenv(name, "canary-71")
    assert "canary-71" not in json.dumps(body())


def test_environment_of_the_owner_is_there_and_last():
    made = body(SandboxSpec(environment={"TZ": "UTC", "HOME": "/workspace"}))["Env"]
    assert "TZ=UTC" in made
    assert [line for line in made if line.startswith("HOME=")] == ["HOME=/workspace"]


def test_defaults_are_maxima_and_what_was_asked_for_is_a_promise():
    small = {"NCPU": 1, "MemTotal": 2**30}
    config = body(info=small)["HostConfig"]
    assert config["NanoCpus"] == 1_000_000_000
    assert config["Memory"] == 2**30
    with pytest.raises(SettingsError, match=r"cpus is 1\.5"):
        body(SandboxSpec(limits=Limits(cpus=1.5)), info=small)
    with pytest.raises(SettingsError, match="memory is 3 GiB"):
        body(SandboxSpec(limits=Limits(memory_bytes=3 * 2**30)), info=small)


def test_runtime_is_named_only_when_the_owner_named_one():
    assert "Runtime" not in body()["HostConfig"]
    assert body(SandboxSpec(runtime="runsc"))["HostConfig"]["Runtime"] == "runsc"
    kata = "io.containerd.kata.v2"
    assert body(SandboxSpec(runtime=kata))["HostConfig"]["Runtime"] == kata
    with pytest.raises(SettingsError, match=r"'kata', but the engine knows runc, runsc.*daemon"):
        body(SandboxSpec(runtime="kata"))


@pytest.mark.parametrize("flag", container.ENFORCED)
def test_engine_that_cannot_hold_a_limit_is_refused(flag):
    with pytest.raises(BackendUnavailable, match="cannot limit"):
        body(info={flag: False})


def test_volumes_of_an_image_are_small_and_never_on_the_engines_disk():
    config = body(volumes=["/var/lib/data", "/workspace/", "/tmp"])["HostConfig"]
    assert "size=" in config["Tmpfs"]["/var/lib/data"]
    assert "mode=0700" in config["Tmpfs"]["/workspace"]


@pytest.mark.parametrize(
    ("said", "kernel"),
    [("x86_64", "x86_64"), ("amd64", "x86_64"), ("aarch64", "aarch64"), ("arm64", "aarch64")],
)
def test_architectures_have_one_name_whatever_the_engine_calls_them(said, kernel):
    machine = Machine.from_info({"Architecture": said})
    assert machine.architecture == kernel
    assert machine.image_architecture == {"x86_64": "amd64", "aarch64": "arm64"}[kernel]


def test_what_an_engine_leaves_out_does_not_bind():
    machine = Machine.from_info({})
    assert machine.cpus > 1000
    assert machine.memory_bytes > 2**50
