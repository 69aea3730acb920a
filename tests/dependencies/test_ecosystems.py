"""Packages of every ecosystem in the language that uses them, from layers made by hand.

Each is attached to a running session; then a second session has it from its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from sandbox_kernel.availability import find_problem
from sandbox_kernel.dependencies.requirements import parse_all
from sandbox_kernel.dependencies.store import Store
from sandbox_kernel.limits import Limits
from tests.languages.conftest import POLYGLOT
from tests.support import docker_engine
from tests.support.layers import HandMade, get, manage
from tests.support.sessions import Driver

GEMSPEC = """\
Gem::Specification.new do |s|
  s.name, s.version, s.summary, s.authors = 'canary', '1.0.0', 'canary', ['us']
  s.files, s.require_paths = ['lib/canary.rb'], ['lib']
end
"""


class Case(NamedTuple):
    language: str
    wanted: str
    files: Mapping[str, str]
    code: str


NPM = {
    "node_modules/canary/package.json": '{"name": "canary", "version": "1.0.0"}',
    "node_modules/canary/index.js": "exports.value = require('inner') + 1;",
    "node_modules/inner/index.js": "module.exports = 41;",
    "node_modules/modern/package.json": (
        '{"name": "modern", "type": "module", "exports": {"import": "./m.mjs"}}'
    ),
    "node_modules/modern/m.mjs": "import canary from 'canary'; export const value = canary.value;",
    "bin/canary": "#!/bin/sh\necho 42\n",
}
CASES = {
    "require": Case("javascript", "npm:canary", NPM, "console.log(require('canary').value)"),
    "import": Case(
        "javascript", "npm:canary", NPM, "import { value } from 'modern';\nconsole.log(value)"
    ),
    "dynamic import": Case(
        "javascript", "npm:canary", NPM, "console.log((await import('modern')).value)"
    ),
    "typed import": Case(
        "typescript",
        "npm:canary",
        NPM,
        "import { value } from 'modern';\nconst found: number = value;\nconsole.log(found)",
    ),
    "gem": Case(
        "ruby",
        "gem:canary",
        {
            "specifications/canary-1.0.0.gemspec": GEMSPEC,
            "gems/canary-1.0.0/lib/canary.rb": "module Canary; VALUE = 42; end\n",
        },
        "require 'canary'; puts Canary::VALUE",
    ),
    "program": Case("bash", "apt:canary", {"usr/bin/canary": "#!/bin/sh\necho 42\n"}, "canary"),
    "program of Python's": Case("bash", "pip:canary", {"bin/canary": NPM["bin/canary"]}, "canary"),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


@pytest.fixture
def image(backend, case):
    if backend == "docker":
        docker_engine.require_image(POLYGLOT)
        return POLYGLOT
    if reason := find_problem(case.language):
        pytest.skip(f"{case.language}: {reason}")
    return None


@pytest.fixture
def made(backend, image, case, tmp_path, monkeypatch):
    """Who keeps the one layer of `case`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    HandMade(case.files).install(monkeypatch)
    dependencies = manage(backend, language=case.language, limits=Limits(), image=image)
    yield dependencies
    dependencies.close()
    assert len(Store(backend, get(backend).layer_store()).remove_all()) == 1


@asynccontextmanager
async def started(backend, spec):
    driver = Driver(backend, spec, "safe")
    try:
        await driver.session.start()
        yield driver
    finally:
        await driver.session.close()


async def test_a_language_uses_what_is_attached_and_what_is_there_from_the_start(
    backend, made, case
):
    wanted = parse_all([case.wanted], "pip")
    layers = (await made.ensure(wanted, on_output=lambda _text: None)).layers
    async with started(backend, made._spec) as driver:
        assert (await driver.run(case.code)).outcome.error is not None
        await made.attach(driver.session, layers)
        assert (await driver.run(case.code)).text() == "42\n"
    async with started(backend, made.applied(made._spec)) as driver:
        assert (await driver.run(case.code)).text() == "42\n"
