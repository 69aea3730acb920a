"""Sessions whose system calls gVisor answers: the runtime `runsc`, on an engine of our own.

Every limit is met inside and holds; what a container by runc shows of the host's kernel is
the twin that proves the probe.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_kernel import events
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import bringup
from sandbox_kernel.errors import SettingsError
from tests.support.engines import OwnEngine, containers, image, own_engine, shared_engine
from tests.support.waiting import until

MIB = 2**20
TIMEOUT_S = 60
# `kvm` is not everywhere; our containers have no network that gVisor could set up.
ARGUMENTS = ["--network=none", "--platform=systrap"]
DIED = "the limit is 192 MiB (memory)"

BOMBS = {
    "heap": "blocks = []\nwhile True: blocks.append(b'x' * (1 << 20))",
    "one block": "block = bytearray(600 << 20)",
    "tmpfs": "f = open('/dev/shm/f', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "memfd": "import os\nf = os.memfd_create('f')\nwhile True: os.write(f, bytes(1 << 20))",
    # This one leaves a process that neither goes on nor ends.
    "shared map": "import mmap\nm = mmap.mmap(-1, 600 << 20)\n"
    "for i in range(0, 600 << 20, 4096): m[i] = 1",
}
FILES = """
import os
made = 0
try:
    for made in range(5000): open(f'{place}/{made}', 'w').close()
except OSError as error:
    print(error.strerror, made < 300)
for name in range(made): os.unlink(f'{place}/{name}')
print(os.statvfs(place).f_files)
"""
FILL = """
import os
written = 0
try:
    with open(f'{place}/fill', 'wb', buffering=0) as file:
        while True: written += file.write(bytes(1 << 20))
except OSError as error:
    print(error.strerror, 7 << 20 <= written <= 8 << 20)
os.unlink(f'{place}/fill')
"""
PLACES = ("/workspace", "/home/sandbox", "/tmp", "/dev/shm")
THREADS = """
import threading
is_over, started = threading.Event(), 0
try:
    for _ in range(400):
        threading.Thread(target=is_over.wait, daemon=True).start()
        started += 1
except RuntimeError as error:
    print(error)
is_over.set()
print(20 < started < 40)
"""
FORKS = """
import os, signal
children = []
try:
    for _ in range(400):
        child = os.fork()
        if not child: signal.pause()
        children.append(child)
except OSError as error:
    print(error.errno)
print(20 < len(children) < 40)
for child in children: os.kill(child, 9); os.waitpid(child, 0)
"""
DESCRIPTORS = """
import os, resource
held = []
try:
    for _ in range(400): held.append(os.open('/dev/null', 0))
except OSError as error:
    print(error.errno)
for fd in held: os.close(fd)
print(40 < len(held) < 100)
try: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
except ValueError: print('not raised')
"""
SPIN = """
import os, time
def spin():
    end_s = time.monotonic() + 2
    while time.monotonic() < end_s: pass
child = os.fork()
spin()
if not child: os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def gvisor_engine() -> Iterator[OwnEngine]:
    """One that has `runsc`, beside runc, which stays the default."""
    if shutil.which("runsc") is None:
        pytest.skip("docker: the runtime runsc is not installed (apt-get install runsc)")
    name = image(shared_engine().api())
    with own_engine(prepare=_prepare) as engine:
        engine.load(name)
        yield engine


def _prepare(directory: Path) -> list[str]:
    runtime = {"path": shutil.which("runsc"), "runtimeArgs": ARGUMENTS}
    settings = directory / "runtimes.json"
    settings.write_text(json.dumps({"runtimes": {"runsc": runtime}}))
    return ["--config-file", str(settings)]


Open = Callable[..., Any]


@pytest.fixture
def docked(gvisor_engine: OwnEngine, dock: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """`docked(runtime="runsc", **limits)` gives a session that nobody has started yet."""
    monkeypatch.setenv("DOCKER_HOST", gvisor_engine.url)

    def make(runtime: str = "runsc", **limits: Any) -> Any:
        return dock(spec={"runtime": runtime}, **limits)

    return make


async def run(session: Any, code: str) -> Any:
    """A cell; these tests are about what might hang."""
    return await asyncio.wait_for(session.run(code), TIMEOUT_S)


# --- whose kernel it is ---------------------------------------------------------------


KERNEL = "import os; print(os.uname().release)\nprint(open('/proc/version').read())"


async def test_the_kernel_inside_is_gvisors_and_not_the_hosts(docked):
    session = docked()
    assert platform.release() not in (await run(session, KERNEL)).text()
    dmesg = await run(session, "import subprocess; print(subprocess.getoutput('dmesg'))")
    assert "Starting gVisor" in dmesg.text()


async def test_the_same_probe_finds_the_hosts_kernel_in_a_container_by_runc(docked):
    assert platform.release() in (await run(docked("runc"), KERNEL)).text()


async def test_the_boundary_names_the_runtime(docked):
    session = docked()
    await run(session, "pass")
    boundary = session.session._guest.sandbox.boundary
    assert "by the runtime runsc" in boundary
    assert "on the kernel of the engine's machine" not in boundary


# --- what a notebook does -------------------------------------------------------------


async def test_cells_print_keep_variables_and_start_programs(docked):
    session = docked()
    assert (await run(session, "kept = 20; print('out')")).text() == "out\n"
    assert (await run(session, "print(kept + 1)")).text() == "21\n"
    cell = await run(session, "import subprocess; subprocess.run(['sh', '-c', 'echo here'])")
    assert cell.text() == "here\n"


async def test_a_mebibyte_of_output_arrives_whole(docked):
    cell = await run(docked(), "print('a' * (1 << 20))")
    assert cell.text() == "a" * MIB + "\n"


async def test_a_chart_is_made(docked):
    session = docked()
    if (await run(session, "import matplotlib.pyplot as plt")).outcome.error is not None:
        pytest.skip("docker: the image has no matplotlib")
    cell = await run(session, "_ = plt.plot([1, 3, 2]); plt.show()")
    bundles = [event.bundle for event in cell.of(events.DisplayShown)]
    assert any("image/png" in bundle for bundle in bundles), cell.events


async def test_an_interrupt_ends_a_busy_loop_and_keeps_the_variables(docked):
    session = docked()
    await run(session, "kept = 1")
    running = await session.begin("print('up', flush=True)\nwhile True: pass")
    await session.session.interrupt()
    cell = await asyncio.wait_for(running, TIMEOUT_S)
    assert cell.error.name == "KeyboardInterrupt"
    assert (await run(session, "print(kept)")).text() == "1\n"


# --- limits ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOMBS)
async def test_a_memory_bomb_is_told_as_such_and_the_next_cell_works(kind, docked):
    session = docked(memory_bytes=192 * MIB)
    await run(session, "kept = 1")
    error = (await run(session, BOMBS[kind])).error
    assert error.name == "MemoryLimitExceeded"
    assert DIED in error.value
    assert "The variables" in error.value
    assert (await run(session, "print('kept' in globals())")).text() == "False\n"


async def test_memory_below_the_limit_is_there(docked):
    cell = await run(docked(memory_bytes=192 * MIB), "print(len(bytearray(b'x') * (120 << 20)))")
    assert cell.text() == f"{120 * MIB}\n"


async def test_files_are_limited_in_number_and_size_wherever_they_can_be_written(docked):
    session = docked(workspace_inodes=300, workspace_bytes=8 * MIB)
    for place in PLACES:
        cell = await run(session, f"place = {place!r}\n{FILES}")
        assert cell.text() == "No space left on device True\n300\n", place
        cell = await run(session, f"place = {place!r}\n{FILL}")
        assert cell.text() == "No space left on device True\n", place
    unlisted = "[m.split()[1] for m in open('/proc/mounts') if ' tmpfs rw' in m]"
    assert (await run(session, f"print({unlisted})")).text() == "['/dev']\n"  # root's


@pytest.mark.parametrize(
    ("code", "told"), [(THREADS, "can't start new thread\nTrue\n"), (FORKS, "11\nTrue\n")]
)
async def test_processes_and_threads_meet_their_limit_and_gvisor_outlives_it(code, told, docked):
    session = docked(processes=40)
    await run(session, "kept = 1")
    assert (await run(session, code)).text() == told
    assert (await run(session, "print(kept)")).text() == "1\n"


async def test_descriptors_meet_their_limit_and_it_cannot_be_raised(docked):
    cell = await run(docked(open_files=100), DESCRIPTORS)
    assert cell.text() == "24\nTrue\nnot raised\n"


async def test_cpus_are_a_quota_for_gvisor_too(docked):
    session = docked(cpus=0.5)
    await run(session, "pass")
    sandbox = session.session._guest.sandbox
    before = await sandbox.measure()
    begun_s = asyncio.get_running_loop().time()
    await run(session, SPIN)
    took_s = asyncio.get_running_loop().time() - begun_s
    used_s = (await sandbox.measure()).cpu_s - before.cpu_s
    # Two that spin would use 2 CPUs; a quota is given by tenths of a second.
    assert used_s < 0.5 * took_s + 0.3


async def test_limits_of_a_running_container_are_refused_in_words(docked):
    session = docked()
    await run(session, "kept = 1")
    with pytest.raises(SettingsError, match=r"gVisor \(runsc\) cannot change the limits"):
        await session.session._guest.sandbox.update(cpus=1)
    assert (await run(session, "print(kept)")).text() == "1\n"


# --- its end --------------------------------------------------------------------------


async def test_close_leaves_no_container_no_volume_and_no_mount(docked, gvisor_engine):
    session = docked()
    await run(session, "open('note', 'w').write('x')")
    api = gvisor_engine.client()
    assert len(api.volumes()["Volumes"]) >= len(PLACES)
    await session.session.close()
    # The engine forgets a container a moment before it removes its volumes.
    await asyncio.to_thread(until, lambda: not api.volumes()["Volumes"], "the volumes' end")
    assert containers(api) == []
    assert f"{gvisor_engine.directory}/data/volumes/" not in Path("/proc/self/mounts").read_text()


async def test_a_guest_that_kills_the_first_process_loses_its_sandbox_only(docked):
    """gVisor lets it, where Linux does not."""
    session = docked()
    await run(session, "kept = 1")
    error = (await run(session, "import os, time; os.kill(1, 9); time.sleep(30)")).error
    assert error.name == "SandboxDied"
    assert "The container's first process ended with exit code 137." in error.value
    assert (await run(session, "print('kept' in globals())")).text() == "False\n"


async def test_a_host_that_hangs_up_ends_the_container(docked, gvisor_engine):
    """What is left of a host that was killed is a closed connection."""
    session = docked()
    await run(session, "pass")
    session.session._guest.sandbox._stream.close()
    api = gvisor_engine.client()
    await asyncio.to_thread(until, lambda: not containers(api), "the container's end")
    await asyncio.to_thread(until, lambda: not api.volumes()["Volumes"], "the volumes' end")


# --- what it says when it cannot ------------------------------------------------------


def test_a_runtime_that_wants_a_network_is_explained():
    said = (
        "OCI runtime start failed: starting container: setting up network: creating interfaces "
        "from net namespace: cannot run with network enabled in root network namespace: unknown"
    )
    told = bringup._words(said, "x", SandboxSpec(runtime="runsc"))
    assert "runsc" in told
    assert "--network=none" in told
    assert "daemon.json" in told
