"""No session can change, find or list what another imports (THREATS 50), on every backend."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_kernel.backends.base import LAYERS
from sandbox_kernel.dependencies.requirements import parse_all
from sandbox_kernel.dependencies.store import Store
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession, State
from tests.support import docker_engine
from tests.support.layers import HandMade, get, manage
from tests.support.sessions import Cell, backend
from tests.support.waiting import until

__all__ = ["backend"]

ATTEMPTS = """
import os, pathlib, shutil
where = pathlib.Path({path!r})
package = where / "lib" / "canary_package"
source = package / "__init__.py"
attempts = {{
    "overwrite": lambda: source.write_text("value = 666"),
    "append": lambda: source.open("a").close(),
    "truncate": lambda: os.truncate(source, 0),
    "add a module": lambda: (where / "lib" / "numpy.py").write_text(""),
    "add a startup file": lambda: (where / "lib" / "x.pth").write_text("import os"),
    "cache": lambda: (package / "__pycache__").mkdir(),
    "remove": lambda: source.unlink(),
    "rename": lambda: package.rename(where / "lib" / "other"),
    "replace": lambda: os.replace("/workspace/mine", source),
    "link": lambda: os.symlink("/workspace", where / "lib" / "link"),
    "hard link": lambda: os.link("/workspace/mine", where / "lib" / "link"),
    "chmod a file": lambda: source.chmod(0o777),
    "chmod the layer": lambda: where.chmod(0o777),
    "chmod all": lambda: os.chmod({layers!r}, 0o777),
    "chown": lambda: os.chown(source, os.getuid(), os.getgid()),
    "time": lambda: os.utime(source),
    "attribute": lambda: os.setxattr(source, "user.x", b"x"),
    "a layer of my own": lambda: os.mkdir(str(where) + "0"),
    "remove the layer": lambda: where.rmdir(),
    "list": lambda: os.listdir(where.parent),
    "open the list": lambda: os.close(os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY)),
    "write through its descriptor": lambda: os.open(
        "/proc/self/fd/%d" % os.open(source, os.O_RDONLY), os.O_RDWR),
}}
pathlib.Path("/workspace/mine").write_text("mine")
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    print("possible:", name)
# The twin: the same in a place of one's own.
shutil.copytree(where, "/workspace/copy")
os.chmod("/workspace/copy/lib/canary_package/__init__.py", 0o644)
pathlib.Path("/workspace/copy/lib/canary_package/__init__.py").write_text("value = 1")
print("own copy changed;", len(os.listdir("/workspace/copy")), "listed")
"""
USE = """
import subprocess, canary_package
print(canary_package.value, subprocess.run(["canary"], capture_output=True, text=True).stdout)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
async def canary(backend, monkeypatch):
    """Dependencies with one hand-made layer; its session starts with it."""
    HandMade().install(monkeypatch)
    made = manage(backend, limits=Limits(memory_bytes=512 * 2**20))
    ensured = await made.ensure(parse_all(["canary"], "pip"), on_output=lambda _text: None)
    made.note_attached(ensured.layers)
    yield made
    made.close()
    store = Store(backend, get(backend).layer_store())
    assert len(store.remove_all()) == 1
    assert store.remove_all() == []


async def run(session, code):
    cell = Cell()
    cell.outcome = await session.execute(code, on_event=cell.events.append)
    assert cell.outcome.error is None, cell.outcome.error
    return cell.text()


async def test_a_session_uses_a_layer_and_cannot_change_find_or_list_it(backend, canary):
    path = canary.attached[0].guest_path
    session = SandboxSession(get(backend), canary.applied(canary._spec))
    try:
        assert await run(session, USE) == "42 sings\n\n"
        attempts = ATTEMPTS.format(path=path, layers=LAYERS)
        assert await run(session, attempts) == "own copy changed; 2 listed\n"
    finally:
        await session.close()
    other = SandboxSession(get(backend), canary.applied(canary._spec))
    try:
        assert await run(other, USE) == "42 sings\n\n"
    finally:
        await other.close()


async def test_a_session_that_was_told_no_name_finds_no_layer(backend, canary):
    session = SandboxSession(get(backend), canary._spec)
    try:
        found = await run(
            session,
            f"""
import os, subprocess
print(os.path.isdir({LAYERS!r}))
found = subprocess.run(["find", {LAYERS!r}], capture_output=True, text=True).stdout.split()
print([path for path in found if "canary" in path])
name = {canary.attached[0].name!r}
print([path for path in found if name in path])
print("canary_package" in str(os.environ), "PYTHONPATH" in os.environ)
for root in ("/proc/self/mountinfo", "/proc/self/mounts"):
    print(name in open(root).read())
""",
        )
        assert found == "True\n[]\n[]\nFalse False\nFalse\nFalse\n"
    finally:
        await session.close()


async def test_a_running_session_gets_packages_and_keeps_its_variables(backend, canary):
    session = SandboxSession(get(backend), canary._spec)
    layers, canary.attached = canary.attached, []
    try:
        await run(session, "mine = 7")
        missing = await run(
            session, "import importlib.util\nprint(importlib.util.find_spec('canary_package'))"
        )
        assert missing == "None\n"
        await canary.attach(session, layers)
        assert await run(session, USE + "print(mine)") == "42 sings\n\n7\n"
        assert await run(session, "import os; print('/bin' in os.environ['PATH'])") == "True\n"
        await session.restart()
        assert await run(session, USE) == "42 sings\n\n"
    finally:
        await session.close()


async def test_a_sandbox_that_replaces_a_dead_one_has_the_packages(backend, canary):
    session = SandboxSession(get(backend), canary._spec)
    layers, canary.attached = canary.attached, []
    try:
        await session.start()
        await canary.attach(session, layers)
        session._guest.sandbox.kill()
        await asyncio.to_thread(until, lambda: session.state is State.DEAD, "the sandbox's end")
        assert await run(session, USE) == "42 sings\n\n"
    finally:
        await session.close()


async def test_where_packages_are_not_allowed_no_layer_is_shown(backend):
    session = SandboxSession(get(backend), manage(backend, shows_layers=False)._spec)
    try:
        assert await run(session, f"import os; print(os.path.exists({LAYERS!r}))") == "False\n"
    finally:
        await session.close()


async def test_nothing_is_started_to_keep_or_remove_a_layer(backend, canary):
    """The engine unpacks into containers that never run, and none of them is left."""
    if backend == "docker":
        api = docker_engine.api()
        mounted = api.containers(all=True, filters={"volume": "sandbox-kernel-layers"})
        assert [item for item in mounted if item["Command"] == "/nothing"] == []
