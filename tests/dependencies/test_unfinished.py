"""What builders that failed, were late or were killed leave behind: nothing for long."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from sandbox_kernel.backends.bubblewrap.layers import directory
from tests.dependencies.stores import KEY, add, names_in, open_store

pytestmark = pytest.mark.usefixtures("cache")


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
