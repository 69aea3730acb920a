"""What is found, held and removed, on a store that is a directory. Nothing is started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.bubblewrap.layers import BubblewrapLayers, directory
from sandbox_kernel.dependencies import sealing
from sandbox_kernel.dependencies.store import Store
from sandbox_kernel.errors import DependencyFailed
from tests.dependencies.stores import KEY, add, host_path, names_in, open_store

pytestmark = pytest.mark.usefixtures("cache")

DAY_S = 86400


def age(cache, key, days):
    then = time.time() - days * DAY_S
    os.utime(cache / "records" / f"{key}.json", (then, then))


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


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert directory() == ""
    with pytest.raises(DependencyFailed, match=r"file.*cannot be written to.*XDG_CACHE_HOME"):
        add(open_store())
    assert open_store().find(KEY) is None
    assert open_store().collect() == []


# --- layers that are not there any more ----------------------------------------------------


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


def test_what_belongs_to_another_backend_is_left_alone(cache):
    layer = add(open_store())
    assert Store("docker", BubblewrapLayers()).remove_all() == []
    assert names_in(directory()) == [layer.name]
