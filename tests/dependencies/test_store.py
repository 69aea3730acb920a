"""Records, holds and removal, on a store that is a directory. Nothing is started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers, directory
from sandbox_kernel.dependencies import sealing
from sandbox_kernel.dependencies.store import Package, Record, Store
from sandbox_kernel.errors import DependencyFailed

KEY = "ab" * 32
DAY_S = 86400


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sandbox-kernel" / "dependencies"


def open_store(layers=None):
    return Store("bubblewrap", layers or BubblewrapLayers())


def add(where, key=KEY, content=b"x = 1\n", fill=None, name="packaged"):
    with where.building() as building:
        (Path(building.directory) / "lib").mkdir()
        (Path(building.directory) / "lib" / "module.py").write_bytes(content)
        if fill is not None:
            fill(Path(building.directory))
        return where.add(
            building,
            key,
            SandboxSpec(),
            ecosystem="pip",
            requirements=(name,),
            packages=(Package(name, "1.0", "sha256:00"),),
            built_for={"python": "3"},
        )


def host_path(layer):
    return Path(directory()) / layer.name


def age(cache, key, days):
    then = time.time() - days * DAY_S
    os.utime(cache / "records" / f"{key}.json", (then, then))


def names_in(path):
    return sorted(os.listdir(path))


def test_what_was_added_is_found_by_its_key_and_by_no_other():
    added = add(open_store())
    found = open_store().find(KEY)
    assert found == added
    assert found.packages == (("packaged", "1.0"),)
    assert found.size_bytes == 6
    assert open_store().find("cd" * 32) is None


def test_a_layer_can_be_neither_listed_nor_written_to(cache):
    layer = add(open_store())
    path = host_path(layer)
    assert (cache / "layers").stat().st_mode & 0o777 == 0o311
    modes = {item.stat().st_mode & 0o777 for item in (path, *path.rglob("*"))}
    assert modes == {0o555, 0o444}
    assert cache.stat().st_mode & 0o077 == 0


def test_names_cannot_be_guessed():
    names = {add(open_store(), key=f"{number:064x}").name for number in range(5)}
    assert len(names) == 5
    assert all(len(name) == 32 for name in names)


def test_a_program_stays_one_and_times_are_kept(cache):
    def fill(path):
        (path / "bin").mkdir()
        (path / "bin" / "tool").write_text("#!/bin/sh\n")
        (path / "bin" / "tool").chmod(0o755)
        os.utime(path / "lib" / "module.py", (1e9, 1e9))

    path = host_path(add(open_store(), fill=fill))
    assert (path / "bin" / "tool").stat().st_mode & 0o777 == 0o555
    assert (path / "lib" / "module.py").stat().st_mtime == 1e9


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "link to a directory"])
def test_a_layer_with_anything_but_plain_files_is_refused_and_leaves_nothing(cache, kind):
    def fill(path):
        target = path / "lib" / "bad"
        match kind:
            case "link":
                target.symlink_to("/etc/passwd")
            case "hard link":
                target.hardlink_to(path / "lib" / "module.py")
            case "fifo":
                os.mkfifo(target)
            case _:
                target.symlink_to("..")

    with pytest.raises(DependencyFailed, match="neither a directory nor a plain file"):
        add(open_store(), fill=fill)
    assert names_in(cache / "building") == []
    assert names_in(cache / "records") == []
    assert open_store().find(KEY) is None


def test_of_two_who_add_at_once_one_wins_and_nothing_is_left_of_the_other(cache):
    first, second = open_store(), open_store()
    with first.building() as building:
        (Path(building.directory) / "late").write_text("")
        winner = add(second)
        given = first.add(
            building, KEY, SandboxSpec(), ecosystem="pip", requirements=(), packages=(),
            built_for={},
        )  # fmt: skip
    assert given == winner
    assert names_in(directory()) == [winner.name]
    assert names_in(cache / "building") == []


def test_a_failed_build_leaves_nothing(cache):
    def fill(path):
        (path / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        add(open_store(), fill=fill)
    assert names_in(cache / "building") == []


def test_a_layer_that_could_not_be_recorded_is_taken_back(cache, monkeypatch):
    where = open_store()
    monkeypatch.setattr(where, "_publish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        add(where)
    assert names_in(directory()) == []
    assert names_in(cache / "building") == []


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert directory() == ""
    with pytest.raises(DependencyFailed, match=r"file.*cannot be written to.*XDG_CACHE_HOME"):
        add(open_store())
    assert open_store().find(KEY) is None
    assert open_store().collect() == []


# --- strange records ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 99, "name": "x"}',
    ],
)
def test_a_strange_record_is_none_and_is_replaced(cache, content):
    add(open_store())
    (cache / "records" / f"{KEY}.json").write_bytes(content)
    assert open_store().find(KEY) is None
    assert add(open_store(), name="again").requirements == ("again",)


@pytest.mark.parametrize("name", ["../../../etc", "/etc", "", "x" * 32, 7])
def test_a_record_cannot_name_another_directory(cache, name):
    add(open_store())
    path = cache / "records" / f"{KEY}.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "name": name}))
    assert Record.from_json(path.read_bytes()) is None
    assert open_store().find(KEY) is None


def test_a_layer_that_somebody_removed_is_built_again():
    layer = add(open_store())
    sealing.delete(str(host_path(layer)))
    assert open_store().find(KEY) is None
    assert add(open_store()).name != layer.name


def test_a_layer_of_another_place_is_not_used(monkeypatch):
    add(open_store())
    monkeypatch.setattr(BubblewrapLayers, "place", lambda self: "host/other")
    assert open_store().find(KEY) is None


# --- removal ------------------------------------------------------------------------------


def test_what_nobody_used_for_long_is_removed(cache):
    where = open_store()
    old = add(where)
    new = add(where, key="cd" * 32)
    where.close()
    age(cache, KEY, days=100)
    removed = open_store().collect()
    assert len(removed) == 1
    assert "packaged" in removed[0]
    assert "100 days" in removed[0]
    assert names_in(directory()) == [new.name]
    assert open_store().find(KEY) is None
    assert old.name not in names_in(directory())


def test_using_a_layer_keeps_it(cache):
    where = open_store()
    add(where)
    where.close()
    age(cache, KEY, days=100)
    using = open_store()
    assert using.find(KEY) is not None
    using.close()
    assert open_store().collect() == []


def test_beyond_the_bound_the_longest_unused_go_first(cache):
    where = open_store()
    keys = [f"{number:064x}" for number in range(4)]
    layers = [add(where, key=key, content=b"x" * 100) for key in keys]
    where.close()
    for days, key in enumerate(keys):
        age(cache, key, days=10 - days)
    assert len(open_store().collect(max_bytes=250)) == 2
    assert names_in(directory()) == sorted(layer.name for layer in layers[2:])


def test_what_is_in_use_stays_whatever_its_age(cache):
    where = open_store()
    layer = add(where)
    age(cache, KEY, days=1000)
    assert open_store().remove_all() == []
    assert names_in(directory()) == [layer.name]
    where.close()
    assert len(open_store().remove_all()) == 1
    assert names_in(directory()) == []


BUILDER = """
import os, sys, time
from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers
from sandbox_kernel.dependencies.store import Store
with Store("bubblewrap", BubblewrapLayers()).building() as building:
    open(building.directory + "/half", "w").close()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_builder_left_is_removed_and_what_a_living_one_makes_is_not(cache):
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        assert open_store().collect() == []
        assert len(names_in(cache / "building")) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(open_store().collect()) == 1
    assert names_in(cache / "building") == []


def test_a_layer_that_was_put_but_never_recorded_is_removed(cache):
    layer = add(open_store())
    left = cache / "building" / layer.name
    left.mkdir()
    (left / "place").write_text(json.dumps(["bubblewrap", "host"]))
    (cache / "records" / f"{KEY}.json").unlink()
    assert len(open_store().collect()) == 1
    assert names_in(directory()) == []
    assert names_in(cache / "building") == []


def test_a_builder_killed_after_recording_its_layer_leaves_the_layer(cache):
    layer = add(open_store())
    left = cache / "building" / layer.name
    left.mkdir()
    (left / "place").write_text(json.dumps(["bubblewrap", "host"]))
    open_store().collect()
    assert open_store().find(KEY) == layer
    assert names_in(cache / "building") == []


def test_what_belongs_to_another_backend_is_left_alone(cache):
    layer = add(open_store())
    assert Store("docker", BubblewrapLayers()).remove_all() == []
    assert names_in(directory()) == [layer.name]
