"""`sandbox-kernel run --dependency`: a program with packages, without a package index."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_kernel.cli import main
from sandbox_kernel.dependencies.requirements import parse_all
from sandbox_kernel.dependencies.store import Store
from tests.support.layers import HandMade, get, manage

USE = "import canary_package; print(canary_package.value)"


@pytest.fixture
def installer(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield HandMade().install(monkeypatch)
    Store(backend, get(backend).layer_store()).remove_all()


def test_a_program_has_the_packages_that_are_named(installer, backend, capfd):
    arguments = ["run", "--backend", backend, "--dependency", "canary", "-c", USE]
    assert main(arguments) == 0
    first = capfd.readouterr()
    assert first.out == "42\n"
    assert "Collecting canary" in first.err
    assert main(arguments) == 0
    assert capfd.readouterr() == ("42\n", "")
    assert installer.asked == [["canary"]]


def test_without_them_it_has_none(installer, backend, capfd):
    made = manage(backend)
    asyncio.run(made.ensure(parse_all(["canary"], "pip"), on_output=lambda _text: None))
    made.close()
    assert main(["run", "--backend", backend, "-c", USE]) == 1
    assert "ModuleNotFoundError" in capfd.readouterr().err
