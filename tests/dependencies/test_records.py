"""Records as they are written down, and what only looks like one."""

from __future__ import annotations

import json

import pytest

from sandbox_kernel.dependencies.records import Package, Record
from tests.dependencies.stores import KEY, add, open_store


def test_a_record_is_read_as_it_was_written():
    package = Package("packaged", "1.0", "sha256:00")
    who = ("ab" * 16, "docker", "engine/1", "pip")
    written = Record(*who, ("packaged==1.*",), (package,), 6, 1, 1.5, {"python": "3"})
    assert Record.from_json(written.to_json().encode()) == written


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
