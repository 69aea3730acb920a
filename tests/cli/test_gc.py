"""`gc` and installed packages; what dead owners leave is tested with each backend."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from sandbox_kernel.dependencies.requirements import parse_all
from tests.support.layers import HandMade, manage


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    HandMade().install(monkeypatch)
    return tmp_path / "cache"


def install(*names):
    """A layer for each name; what is returned holds them until it is closed."""
    made = manage("bubblewrap")
    for name in names:
        asyncio.run(made.ensure(parse_all([name], "pip"), on_output=lambda _text: None))
    return made


def age(cache, days):
    for path in (cache / "sandbox-kernel" / "dependencies" / "records").iterdir():
        os.utime(path, (time.time() - days * 86400,) * 2)


def removed(command, cache, *words):
    done = command("gc", *words, XDG_CACHE_HOME=str(cache))
    assert "bubblewrap" not in done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("bubblewrap: layer")]


def test_unused_packages_are_removed_by_age_and_named(command, cache):
    install("canary", "other").close()
    assert removed(command, cache) == []
    age(cache, days=91)
    lines = removed(command, cache)
    assert len(lines) == 2
    assert "unused for 91 days" in lines[0]
    assert "canary" in "".join(lines)


def test_packages_beyond_the_bound_are_removed(command, cache):
    install("canary", "other").close()
    assert len(removed(command, cache, "--cache-size", "40")) == 1


def test_packages_of_a_living_kernel_stay(command, cache):
    made = install("canary")
    age(cache, days=1000)
    assert removed(command, cache, "--cache-days", "0", "--cache-size", "0") == []
    made.close()
    assert len(removed(command, cache, "--cache-days", "0")) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("--cache-days", "soon"), ("--cache-days", "-1"), ("--cache-size", "big")]
)
def test_wrong_bounds_are_refused(command, option, value):
    done = command("gc", option, value)
    assert done.returncode == 2
    assert value in done.stderr
